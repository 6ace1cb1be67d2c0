"""Label and field selectors: from text (`a in (b,c),!d,e!=f`), or from LabelSelector objects, to something that matches.

Selectors are immutable and may be shared. `requirements` tells what they ask for, so that an index can answer them.
Bad text is a BadRequest in upstream's words. Sources: "Labels and Selectors" and "Field Selectors" of the Kubernetes
documentation, metav1.LabelSelector. Knows `errors` and `names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from minik8s.api import names
from minik8s.api.errors import BadRequest, FieldError, forbidden, invalid, required

EQUALS, NOT_EQUALS, IN, NOT_IN, EXISTS, NOT_EXISTS, GREATER, LESS = "=", "!=", "in", "notin", "exists", "!", "gt", "lt"

FEW = 8
"""Requirements of a selector that are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label; `values` are sorted and without repeats, several only with `in` and `notin`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator in (EQUALS, IN):
            return value in self.values
        if self.operator in (NOT_EQUALS, NOT_IN):
            return value not in self.values
        if self.operator == EXISTS:
            return value is not None
        if self.operator == NOT_EXISTS:
            return value is None
        number, bound = _integer(value), _integer(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == GREATER else number < bound

    def __str__(self) -> str:
        values = ",".join(self.values)
        return _SHOWN[self.operator].format(key=self.key, values=values)


class _Grouped:
    """Many requirements, by key: what matching costs depends on the labels alone, which are few."""

    def __init__(self, requirements: Sequence[Requirement]) -> None:
        self._needed = {each.key for each in requirements if each.operator in (EQUALS, IN, EXISTS, GREATER, LESS)}
        self._absent = {each.key for each in requirements if each.operator == NOT_EXISTS}
        self._allowed: dict[str, set[str]] = {}
        self._refused: dict[str, set[str]] = {}
        self._bounds: dict[str, list[Requirement]] = {}
        for each in requirements:
            if each.operator in (EQUALS, IN):
                self._allowed[each.key] = self._allowed.get(each.key, set(each.values)) & set(each.values)
            elif each.operator in (NOT_EQUALS, NOT_IN):
                self._refused.setdefault(each.key, set()).update(each.values)
            elif each.operator in (GREATER, LESS):
                self._bounds.setdefault(each.key, []).append(each)
        for key, bounds in self._bounds.items():
            self._bounds[key] = [_strictest(bounds, GREATER), _strictest(bounds, LESS)]

    def matches(self, labels: Mapping[str, str]) -> bool:
        if not (self._needed <= labels.keys() and self._absent.isdisjoint(labels)):
            return False
        return all(
            value in self._allowed.get(key, (value,))
            and value not in self._refused.get(key, ())
            and all(bound.matches(labels) for bound in self._bounds.get(key, ()))
            for key, value in labels.items()
        )


def _strictest(bounds: list[Requirement], operator: str) -> Requirement:
    """The one bound of an operator that says as much as all; of none, that the label is there."""
    found = [(_integer(each.values[0]), each) for each in bounds if each.operator == operator]
    if not found:
        return Requirement(bounds[0].key, EXISTS)
    unusual = [each for number, each in found if number is None]
    if unusual:
        return unusual[0]  # which nothing fulfils
    pick = max if operator == GREATER else min
    return pick(found, key=lambda pair: pair[0] or 0)[1]


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; without any it matches everything. `nothing` matches no labels at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False
    _grouped: list[_Grouped] = field(default_factory=list, init=False, repr=False, compare=False)  # made at first need

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        labels = labels or {}
        if self.nothing:
            return False
        if len(self.requirements) <= FEW:
            return all(requirement.matches(labels) for requirement in self.requirements)
        if not self._grouped:
            self._grouped.append(_Grouped(self.requirements))
        return self._grouped[0].matches(labels)

    def exact(self, key: str) -> str | None:
        """The one value that the label must have, None where the selector doesn't say."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in (EQUALS, IN) and len(requirement.values) == 1:
                return requirement.values[0]
        return None

    def __bool__(self) -> bool:
        """Whether it narrows anything."""
        return self.nothing or bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


@lru_cache(maxsize=512)
def parse_labels(text: str) -> LabelSelector:
    """The selector that a `labelSelector` parameter writes."""
    return LabelSelector(tuple(sorted(_Parser(text).requirements(), key=lambda requirement: requirement.key)))


def of_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """Matches who has all these labels (a Service's or ReplicationController's selector)."""
    return LabelSelector(tuple(Requirement(key, EQUALS, (value,)) for key, value in sorted((labels or {}).items())))


def of_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The selector of a metav1.LabelSelector that passed `validate_selector`. None selects nothing, an empty one all."""
    if selector is None:
        return NOTHING
    requirements = [Requirement(key, EQUALS, (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        values = tuple(sorted(set(expression.get("values") or ())))
        requirements.append(Requirement(expression.get("key", ""), _OPERATORS[expression["operator"]], values))
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def of_expressions(expressions: list[Mapping[str, Any]] | tuple[()]) -> LabelSelector:
    """The selector of node selector expressions (`In`, `Gt`, ...), in a validated object."""
    return of_object({"matchExpressions": expressions})


def matches_terms(terms: Iterable[Mapping[str, Any]], labels: Mapping[str, str], name: str = "") -> bool:
    """Whether a node is meant by any of these NodeSelectorTerms; an empty one means none."""

    def matches(term: Mapping[str, Any]) -> bool:
        expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
        by_field = of_expressions(fields).matches({"metadata.name": name})
        return bool(expressions or fields) and by_field and of_expressions(expressions).matches(labels)

    return any(map(matches, terms))


def validate_selector(selector: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """What is wrong with a metav1.LabelSelector."""
    if selector is None:
        return []
    errors = names.validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for i, expression in enumerate(selector.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = expression.get("operator", ""), expression.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{at}.values", detail))
        else:
            errors.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        key = expression.get("key", "")
        errors += [invalid(f"{at}.key", key, text) for text in names.label_key(key)]
        for j, value in enumerate(values):
            errors += [invalid(f"{at}.values[{j}]", value, text) for text in names.label_value(value)]
    return errors


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on a field: it has the value, or (`operator` is `!=`) hasn't."""

    field: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All requirements must hold."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, obj: Mapping[str, Any], fields: Mapping[str, Callable[[Mapping[str, Any]], str]]) -> bool:
        """`fields` says how to get each field's text; `METADATA_FIELDS` are always known."""
        texts: dict[str, str] = {}
        for wanted in self.requirements:
            text = texts.get(wanted.field)
            if text is None:
                get = fields.get(wanted.field) or METADATA_FIELDS[wanted.field]
                text = texts[wanted.field] = get(obj)
            if (text == wanted.value) != (wanted.operator == EQUALS):
                return False
        return True

    def exact(self, field: str) -> str | None:
        """The one value that the field must have, None where the selector doesn't say."""
        for wanted in self.requirements:
            if wanted.field == field and wanted.operator == EQUALS:
                return wanted.value
        return None

    def check(self, fields: Mapping[str, Any], kind: str = "") -> None:
        """BadRequest if it names a field that the kind doesn't offer."""
        for wanted in self.requirements:
            if wanted.field not in fields and wanted.field not in METADATA_FIELDS:
                if kind == "Job":
                    raise BadRequest(f'field label "{wanted.field}" not supported for Job')
                if fields.keys() - {"name"}:
                    raise BadRequest(f"field label not supported: {wanted.field}")
                known = '"metadata.name", "metadata.namespace"'
                raise BadRequest(f'"{wanted.field}" is not a known field selector: only {known}')

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(f"{r.field}{r.operator}{_escape(r.value)}" for r in self.requirements)


METADATA_FIELDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "metadata.name": lambda obj: str(obj["metadata"].get("name", "")),
    "metadata.namespace": lambda obj: str(obj["metadata"].get("namespace", "")),
}


@lru_cache(maxsize=512)
def parse_fields(text: str) -> FieldSelector:
    """The selector that a `fieldSelector` parameter writes: `name=value`, `==`, `!=`; `\\` escapes `\\`, `,` and `=`."""
    requirements = []
    for term in sorted(_TERM.findall(text)):
        if not term:
            continue
        match = _FIELD_OPERATOR.search(term)
        if match is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{term}'")
        operator = NOT_EQUALS if match.group() == NOT_EQUALS else EQUALS
        requirements.append(FieldRequirement(term[: match.start()], operator, _unescape(term[match.end() :])))
    return FieldSelector(tuple(requirements))


# --- the grammar of label selectors ------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+|$)")
_SYMBOLS = {"==", "!=", "=", "!", "(", ")", ",", "<", ">", ""}
_TEXT_OPERATORS = {"in": IN, "notin": NOT_IN, "=": EQUALS, "==": EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}
_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS, "Gt": GREATER, "Lt": LESS}
_SHOWN = {
    EQUALS: "{key}={values}",
    NOT_EQUALS: "{key}!={values}",
    IN: "{key} in ({values})",
    NOT_IN: "{key} notin ({values})",
    EXISTS: "{key}",
    NOT_EXISTS: "!{key}",
    GREATER: "{key}>{values}",
    LESS: "{key}<{values}",
}


class _Parser:
    """Recursive descent over the tokens; the last token is empty."""

    def __init__(self, text: str) -> None:
        self.tokens: Iterator[str] = iter([*filter(None, _TOKEN.findall(text.partition("\0")[0])), ""])
        self.current = next(self.tokens)

    def take(self) -> str:
        token = self.current
        self.current = next(self.tokens, "")
        return token

    def requirements(self) -> Iterator[Requirement]:
        if self.current == "":
            return
        if self.current in _SYMBOLS and self.current != "!":
            raise BadRequest(f"found '{self.current}', expected: !, identifier, or 'end of string'")
        while True:
            try:
                yield self.requirement()
            except BadRequest as error:
                raise BadRequest(f"unable to parse requirement: {error.message}") from None
            separator = self.take()
            if separator == "":
                return
            if separator != ",":
                raise BadRequest(f"found '{separator}', expected: ',' or 'end of string'")
            if self.current in _SYMBOLS and self.current != "!":
                raise BadRequest(f"found '{self.current}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        key = self.take()
        negated = key == "!"
        if negated:
            key = self.take()
        if key in _SYMBOLS:
            raise BadRequest(f"found '{key}', expected: identifier")
        _check("<nil>", key, names.label_key(key))
        if negated:
            return Requirement(key, NOT_EXISTS)
        if self.current in ("", ","):
            return Requirement(key, EXISTS)
        written = self.take()
        operator = _TEXT_OPERATORS.get(written)
        if operator is None:
            raise BadRequest(f"found '{written}', expected: in, notin, =, ==, !=, gt, lt")
        values = self.value_set() if operator in (IN, NOT_IN) else {self.value()}
        return _requirement(key, operator, tuple(sorted(values)))

    def value(self) -> str:
        if self.current in ("", ","):
            return ""
        token = self.take()
        if token in _SYMBOLS:
            raise BadRequest(f"found '{token}', expected: identifier")
        return token

    def value_set(self) -> set[str]:
        """Between parentheses; a missing value is the empty one: `(,a)`, `(a,,b)`, `()`."""
        opening = self.take()
        if opening != "(":
            raise BadRequest(f"found '{opening}' expected: '('")
        if self.current in _SYMBOLS and self.current not in (",", ")"):
            raise BadRequest(f"found '{self.current}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            if self.current in (",", ")"):
                values.add("")
            elif self.current in _SYMBOLS:
                raise BadRequest(f"found '{self.current}', expected: ',', or identifier")
            else:
                values.add(self.take())
            separator = self.current
            if separator not in (",", ")"):
                raise BadRequest(f"found '{separator}', expected: ',' or ')'")
            self.take()
            if separator == ")":
                return values


def _requirement(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    for i, value in enumerate(values):
        if operator in (GREATER, LESS) and _integer(value) is None:
            detail = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise BadRequest(str(invalid(f"values[{i}]", value, detail)))
        _check(f"values[{i}][{key}]", value, names.label_value(value))
    return Requirement(key, operator, values)


def _check(path: str, value: str, errors: list[str]) -> None:
    if errors:
        raise BadRequest(str(invalid(path, value, "; ".join(errors))))


def _integer(text: str | None) -> int | None:
    """A 64-bit number in decimal, None if it is none."""
    if text is None or not re.fullmatch("[+-]?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


# --- the grammar of field selectors ------------------------------------------------------------------------------------

_TERM = re.compile(r"(?:\\.|[^,\\]|\\$)+", re.DOTALL)
_FIELD_OPERATOR = re.compile("!=|==|=")


def _unescape(text: str) -> str:
    shown = []
    characters = iter(text)
    for character in characters:
        if character in ",=":
            raise BadRequest(f"invalid field selector: unescaped character in value: {ord(character)}")
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise BadRequest(f"invalid field selector: invalid escape sequence: \\{escaped}")
            character = escaped
        shown.append(character)
    return "".join(shown)


def _escape(text: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", text)
