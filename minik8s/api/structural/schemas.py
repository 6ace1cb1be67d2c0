"""Holds values to a schema: types, bounds, patterns, enums, formats, combinations; with the errors in upstream's words.

A schema becomes one function that returns how much of it matched (by which the best alternative of anyOf and oneOf is chosen, as
upstream's does) and appends what is wrong. Where the old value is given, what did not change stays right (KEP-4008, ratcheting).
Source: apiextensions.k8s.io/v1 JSONSchemaProps, JSON Schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from minik8s.api import regex
from minik8s.api.errors import FieldError, invalid, required, too_long, too_many, unsupported
from minik8s.api.structural import formats
from minik8s.api.structural.nodes import INT_OR_STRING, LIST_TYPE, MAP_KEYS, Node, Path, float_text, items, ordered, properties

Check = Callable[[Any, Path, "list[FieldError]", Any], int]
"""(value, path, errors, old value or UNRELATED) -> how much matched."""
UNRELATED: Any = object()
"""There is no old value that is known to be this one's."""
NOWHERE = "<nil>"
"""The field of what upstream tells without one."""


def compiled(node: Node, *, root: bool = True) -> Check:
    """The check of a schema. `root` is a whole object: its apiVersion and kind are never taken for unchanged."""
    kind, types = node.get("type") or "", _types(node)
    form, nullable = formats.checked_format(node), bool(node.get("nullable"))
    combined, text_checks, number_checks = _combinations(node), _of_text(node), _of_numbers(node, kind, form)
    has_format = formats.check_of(form) if form and kind not in formats.NUMERIC else None
    enum = node.get("enum") or ()
    in_list, in_object = _of_list(node), _of_object(node, root=root)
    kinds = ",".join(types)
    typed, numeric = bool(types or form), any(each in formats.NUMERIC for each in types)
    base = 4 + typed  # what always counts: the parts that apply, and the whole

    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        found, python = base, type(value)
        if value is None:
            if types and not nullable:
                _mistyped(errors, path, kinds, "null")
            if enum:
                _not_listed(errors, path, value, enum)
            return int(not (types and not nullable))
        if typed:
            actual, actual_format = _TYPE_OF[python]
            if actual in types or (actual in _BOTH and _fits_number(actual, value, types)):
                found += 1
            elif form and actual not in ("string", "array"):
                _mistyped(errors, path, form, actual_format)
            elif not form or numeric:
                _mistyped(errors, path, kinds, actual)
            else:
                found += 1
        for part in combined:
            found += part(value, path, errors, old)
        if python is str:
            found += 1 + bool(form)
            for test in text_checks:
                if not test(value, path, errors):
                    break
            if has_format and not has_format(value):
                _mistyped(errors, path, form, value)
        elif python is dict:
            found += 1 + in_object(value, path, errors, old)
        elif python is list:
            found += 2 + in_list(value, path, errors, old)
        elif python is int or python is float:
            found += 2
            for number_check in number_checks:
                number_check(value, path, errors)
        elif isinstance(value, Mapping):
            found += 1 + in_object(value, path, errors, old)
        elif python is not bool:
            found += 2 + in_list(value, path, errors, old)
        if enum and not _listed(value, enum):
            _not_listed(errors, path, value, enum)
        return found

    return check


_PLAIN = {"string": (str, 7), "boolean": (bool, 6), "integer": (int, 8)}
_DESCRIBES = {"type", "description", "title", "default", "example", "nullable", "externalDocs"}


def _plain_type(node: Node) -> tuple[type | None, int]:
    """The type of Python that is all that a node asks of its values, and how much such a value matches (see `compiled`)."""
    if node.keys() <= _DESCRIBES or (node.get("format") == "int64" and node.keys() - {"format"} <= _DESCRIBES):
        return _PLAIN.get(node.get("type") or "", (None, 0))
    return None, 0


def unchanged(value: Any, old: Any) -> bool:
    """Whether a value is what it was."""
    return old is not UNRELATED and bool(value == old)


# --- types ---------------------------------------------------------------------------------------------------------------


class _TypeNames(dict[type, tuple[str, str]]):
    """What upstream calls a value's type and format."""

    def __missing__(self, key: type) -> tuple[str, str]:
        found = ("object", "") if issubclass(key, Mapping) else ("array", "")
        self[key] = found
        return found


_TYPE_OF = _TypeNames({str: ("string", ""), bool: ("boolean", ""), int: ("integer", "int64"), float: ("number", "float64")})


def _types(node: Node) -> tuple[str, ...]:
    if node.get(INT_OR_STRING):
        return ("integer", "string")
    return (node["type"],) if node.get("type") else ()


_BOTH = ("integer", "number")


def _fits_number(actual: str, value: float, types: tuple[str, ...]) -> bool:
    """Whole numbers are integers, and all integers numbers."""
    return "number" in types if actual == "integer" else "integer" in types and _is_whole(value)


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) <= (1 << 53) - 1


# --- errors --------------------------------------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    """As upstream's validator names a value: keys of maps stand like fields."""
    steps: list[str] = []
    while path is not None:
        steps.append(f"[{path[1]}]" if type(path[1]) is int else f".{path[1]}")
        path = path[0]
    return "".join(reversed(steps)).removeprefix(".")


def _add(errors: list[FieldError], error: FieldError) -> None:
    if error not in errors:
        errors.append(error)


def _mistyped(errors: list[FieldError], path: Path, wanted: str, found: str) -> None:
    name = name_of(path)
    error = invalid(name, found, f"{name} in body must be of type {wanted}: {orjson.dumps(found).decode()}")
    _add(errors, FieldError("FieldValueTypeInvalid", error.field, error.message))


def _wrong(errors: list[FieldError], path: Path, value: Any, rule: str) -> None:
    name = name_of(path)
    _add(errors, invalid(name, ordered(value), f"{name} in body {rule}"))


def _plain(errors: list[FieldError], detail: str) -> None:
    _add(errors, invalid(NOWHERE, "", detail))


def _listed(value: Any, enum: Any) -> bool:
    kind = type(value)
    return any(
        value == each and (type(each) is kind or (kind in (int, float) and type(each) in (int, float)) or kind in (dict, list))
        for each in enum
    )


def _not_listed(errors: list[FieldError], path: Path, value: Any, enum: Any) -> None:
    allowed = [each if isinstance(each, str) else orjson.dumps(each, option=orjson.OPT_SORT_KEYS).decode() for each in enum]
    _add(errors, unsupported(name_of(path), ordered(value), allowed))


def number_text(value: float) -> str:
    """A bound as messages show it."""
    return str(value) if isinstance(value, int) else float_text(value)


# --- strings -------------------------------------------------------------------------------------------------------------

_Test = Callable[[str, Path, list[FieldError]], bool]


def _of_text(node: Node) -> list[_Test]:
    """In their order; the first that isn't passed ends the search."""
    tests: list[_Test] = []
    most, least, pattern = node.get("maxLength"), node.get("minLength"), node.get("pattern")
    if most is not None:
        longest = int(most)

        def most_test(value: str, path: Path, errors: list[FieldError]) -> bool:
            if len(value) > longest:
                _add(errors, too_long(name_of(path), longest))
            return len(value) <= longest

        tests.append(most_test)
    if least:
        shortest = int(least)

        def least_test(value: str, path: Path, errors: list[FieldError]) -> bool:
            if len(value) < shortest:
                _wrong(errors, path, value, f"should be at least {shortest} chars long")
            return len(value) >= shortest

        tests.append(least_test)
    if pattern:
        matches = regex.matcher(pattern)

        def pattern_test(value: str, path: Path, errors: list[FieldError]) -> bool:
            if matches(value):
                return True
            _wrong(errors, path, value, f"should match '{pattern}'")
            return False

        tests.append(pattern_test)
    return tests


# --- numbers -------------------------------------------------------------------------------------------------------------

_NumberCheck = Callable[[Any, Path, list[FieldError]], None]
_RANGES = {"int32": (-(1 << 31), (1 << 31) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_LARGEST_FLOAT = 3.4028234663852886e38


def _in_range(value: float, kind: str, form: str) -> bool:
    """Whether a number can be held by what the schema asks for."""
    if kind == "integer":
        low, high = _RANGES[form or "int64"]
        return (isinstance(value, int) or value.is_integer()) and low <= value <= high
    return form != "float" or not math.isfinite(value) or abs(value) <= _LARGEST_FLOAT


def _of_numbers(node: Node, kind: str, form: str) -> list[_NumberCheck]:
    kind = "" if node.get(INT_OR_STRING) or kind not in formats.NUMERIC else kind
    form = form if kind else ""
    checks: list[_NumberCheck] = []
    told = f"{kind} with format {form}" if form else f"{kind} (default format)"

    def ranged(prefix: str, what: float | None) -> _NumberCheck:
        def check(value: Any, path: Path, errors: list[FieldError]) -> None:
            if not _in_range(value if what is None else what, kind, form):
                _plain(errors, f"{prefix} value must be of type {told} in {name_of(path)}")

        return check

    if kind == "integer" or form == "float":
        checks.append(ranged("Checked", None))
    for key, prefix, build in (
        ("multipleOf", "MultipleOf", _multiple_of),
        ("minimum", "Minimum boundary", _minimum),
        ("maximum", "Maximum boundary", _maximum),
    ):
        limit = node.get(key)
        if limit is None:
            continue
        native = _in_range(limit, kind, form)
        if not native:
            checks.append(ranged(prefix, limit))
        checks.append(build(limit, native, node))
    return checks


def _bound(limit: float, native: bool, value: Any) -> float:
    """A whole number is compared with a whole bound."""
    return math.trunc(limit) if native and type(value) is int else float(limit)


def _multiple_of(factor: float, native: bool, node: Node) -> _NumberCheck:
    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        of = _bound(factor, native, value)
        if of <= 0:
            name = name_of(path)
            _add(errors, invalid(name, of, f"factor MultipleOf declared for {name} must be positive: {number_text(of)}"))
            return
        quotient = value % of == 0 if isinstance(of, int) else _is_near(1 / of * value if of < 1 else value / of)
        if not quotient:
            _wrong(errors, path, value, f"should be a multiple of {number_text(of)}")

    return check


def _is_near(value: float) -> bool:
    """Whether a quotient is a whole number, but for what floating point loses."""
    nearest = round(value)
    return value == nearest or abs(value - nearest) < 1e-9 * max(1.0, abs(value))


def _maximum(limit: float, native: bool, node: Node) -> _NumberCheck:
    exclusive = bool(node.get("exclusiveMaximum"))

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        most = _bound(limit, native, value)
        if value > most or (exclusive and value == most):
            _wrong(errors, path, value, f"should be less than {'' if exclusive else 'or equal to '}{number_text(most)}")

    return check


def _minimum(limit: float, native: bool, node: Node) -> _NumberCheck:
    exclusive = bool(node.get("exclusiveMinimum"))

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        least = _bound(limit, native, value)
        if value < least or (exclusive and value == least):
            _wrong(errors, path, value, f"should be greater than {'' if exclusive else 'or equal to '}{number_text(least)}")

    return check


# --- lists ---------------------------------------------------------------------------------------------------------------


def _of_list(node: Node) -> Check:
    each_item = items(node)
    item = compiled(each_item, root=False) if each_item is not None else None
    plain, plain_count = _plain_type(each_item) if each_item is not None else (None, 0)
    least, most, unique = node.get("minItems"), node.get("maxItems"), bool(node.get("uniqueItems"))
    keys = tuple(node.get(MAP_KEYS) or ()) if node.get(LIST_TYPE) == "map" else ()

    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        found = 0
        if item:
            before = _by_keys(old, keys) if keys and isinstance(old, list | tuple) else None
            for index, each in enumerate(value):
                if type(each) is plain:
                    found += plain_count
                    continue
                one = UNRELATED if before is None else before.get(key_of(each, keys), UNRELATED)
                held = len(errors)
                found += item(each, (path, index), errors, one)
                if len(errors) > held and unchanged(each, one):
                    del errors[held:]
        if least is not None and len(value) < least:
            _wrong(errors, path, len(value), f"should have at least {least} items")
        if most is not None and len(value) > most:
            _add(errors, too_many(name_of(path), len(value), most))
        if unique and any(each in value[:index] for index, each in enumerate(value)):
            _wrong(errors, path, "", "shouldn't contain duplicates")
        return found

    return check


def key_of(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...] | None:
    """What tells an item of a list of maps from the others."""
    if not isinstance(item, Mapping):
        return None
    return tuple((type(item.get(key)), str(item.get(key))) for key in keys)


def _by_keys(old: Any, keys: tuple[str, ...]) -> dict[Any, Any]:
    return {key_of(item, keys): item for item in old}


# --- objects -------------------------------------------------------------------------------------------------------------


class _Fields(dict[str, tuple[type | None, int, Check]]):
    """What is asked of each field, as `_plain_type` and as a check, which is made when the field is met first."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def __missing__(self, name: str) -> tuple[type | None, int, Check]:
        node = self._nodes[name]
        found = self[name] = (*_plain_type(node), compiled(node, root=False))
        return found


def _of_object(node: Node, *, root: bool) -> Check:
    known = properties(node)
    fields = _Fields(known)
    more = node.get("additionalProperties")
    rest = (*_plain_type(more), compiled(more, root=False)) if isinstance(more, Mapping) else None
    closed = more is False
    wanted = tuple(node.get("required") or ())
    least, most = node.get("minProperties"), node.get("maxProperties")
    own = ("apiVersion", "kind") if root else ()

    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        found = 0
        size = len(value)
        if least is not None and size < least:
            _wrong(errors, path, size, f"should have at least {least} properties")
        if most is not None and size > most:
            _add(errors, too_many(name_of(path), size, most))
        before = old if old is not UNRELATED and isinstance(old, Mapping) else None
        for name, each in value.items():
            field = fields[name] if name in known else rest
            if field is None:
                if closed:
                    here = name_of(path)
                    _add(errors, invalid(here, name, f"{here}.{name} in body is a forbidden property"))
                continue
            plain, plain_count, inner = field
            if type(each) is plain:
                found += plain_count
                continue
            one = UNRELATED if before is None or name in own else before.get(name)
            held = len(errors)
            found += inner(each, (path, name), errors, one)
            if len(errors) > held and unchanged(each, one):
                del errors[held:]
        for name in wanted:
            if name not in value:
                _add(errors, required(name_of((path, name))))
        return found

    return check


# --- combinations --------------------------------------------------------------------------------------------------------


def _combinations(node: Node) -> list[Check]:
    parts: list[Check] = []
    for key, build in (("anyOf", _any_of), ("oneOf", _one_of), ("allOf", _all_of)):
        if node.get(key):
            parts.append(build([compiled(each, root=False) for each in node[key]]))
    if node.get("not") is not None:
        parts.append(_not(compiled(node["not"], root=False)))
    return parts


def _try(checks: list[Check], value: Any, path: Path, old: Any) -> Iterator[tuple[list[FieldError], int]]:
    for check in checks:
        errors: list[FieldError] = []
        count = check(value, path, errors, old)
        yield errors, count


def _tell_best(tried: list[tuple[list[FieldError], int]], errors: list[FieldError]) -> int:
    """Adds what is wrong by the first of those alternatives that match most; how much it matched."""
    wrong, count = max(tried, key=lambda result: result[1])
    for error in wrong:
        _add(errors, error)
    return count


def _any_of(checks: list[Check]) -> Check:
    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        tried = []
        for wrong, count in _try(checks, value, path, old):
            if not wrong:
                return count
            tried.append((wrong, count))
        _plain(errors, f'"{name_of(path)}" must validate at least one schema (anyOf)')
        return _tell_best(tried, errors)

    return check


def _one_of(checks: list[Check]) -> Check:
    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        tried = list(_try(checks, value, path, old))
        right = [count for wrong, count in tried if not wrong]
        if len(right) == 1:
            return right[0]
        found = f"Found {len(right)} valid alternatives" if right else "Found none valid"
        _plain(errors, f'"{name_of(path)}" must validate one and only one schema (oneOf). {found}')
        return 0 if right else _tell_best(tried, errors)

    return check


def _all_of(checks: list[Check]) -> Check:
    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        tried = list(_try(checks, value, path, old))
        for error in (error for wrong, _ in tried for error in wrong):
            _add(errors, error)
        if any(wrong for wrong, _ in tried):
            none = "" if any(not wrong for wrong, _ in tried) else ". None validated"
            _plain(errors, f'"{name_of(path)}" must validate all the schemas (allOf){none}')
        return sum(count for _, count in tried)

    return check


def _not(check_not: Check) -> Check:
    def check(value: Any, path: Path, errors: list[FieldError], old: Any) -> int:
        wrong: list[FieldError] = []
        check_not(value, path, wrong, old)
        if not wrong:
            _plain(errors, f'"{name_of(path)}" must not validate the schema (not)')
        return 0

    return check
