"""Rules in CEL (x-kubernetes-validations) held against objects, within the budget of a request.

A rule that knows `oldSelf` is tried where there is an old value. What did not change is not refused for a rule that came later: its
error becomes a warning (KEP-4008). Source: KEP-2876.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from minik8s.api import cel
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required
from minik8s.api.structural import fieldpath
from minik8s.api.structural.nodes import (
    EMBEDDED,
    LIST_TYPE,
    MAP_KEYS,
    RULES,
    Key,
    Node,
    Path,
    items,
    properties,
    shown,
    values,
)
from minik8s.api.structural.schemas import NOWHERE, key_of

LONGEST_MESSAGE = 5 * 1024
_SPENT = "failed due to running out of cost budget, no further validation rules will be run"
OUT_OF_BUDGET = f"validation {_SPENT}"

Unchanged = tuple[Any, Any] | None
"""A value and its old one, by which is judged whether something changed."""


class Tried(NamedTuple):
    """What the rules say of an object."""

    errors: list[FieldError]
    warnings: list[str]


class Rule:
    """A rule of a node, compiled. Errors of compilation are told where the rule would be tried."""

    def __init__(self, node: Node, declared: cel.Declared | None, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self.optional = bool(facts.get("optionalOldSelf"))
        self.error = ""
        self.message_error = ""
        self.program: cel.Program | None = None
        self.message: cel.Program | None = None
        self.path: Path = None
        if not facts.get("rule", "").strip():
            return
        if declared is None:
            self.error = "failed to convert to declType for CEL validation rules"
            return
        env = cel.Env({"self": declared, "oldSelf": declared.optional() if self.optional else declared})
        self.program, self.error = _compiled(facts["rule"], env, cel.BOOL, "", "cel expression must evaluate to a bool")
        if self.program is not None and (text := facts.get("messageExpression")):
            mistyped = "messageExpression must evaluate to a string"
            self.message, self.message_error = _compiled(text, env, cel.STRING, "messageExpression ", mistyped)
        if facts.get("fieldPath"):
            with suppress(fieldpath.FieldPathError):
                self.path = fieldpath.resolve(facts["fieldPath"], node)[0]

    @property
    def uses_old(self) -> bool:
        return self.program is not None and self.program.uses("oldSelf")

    @property
    def told(self) -> str:
        """How errors name the rule."""
        return str(self.facts.get("message") or self.facts["rule"]).strip()


def _compiled(text: str, env: cel.Env, wanted: cel.Type, name: str, mistyped: str) -> tuple[cel.Program | None, str]:
    """An expression that answers the wanted type; or None, and what is wrong with it."""
    try:
        program = cel.compile(text, env)
    except cel.CompileError as error:
        return None, f"{name}compilation failed: {error}"
    return (program, "") if program.type == wanted else (None, mistyped)


class Ruled:
    """A node that has rules, at itself or below. Its own are compiled when there is a value to try them on."""

    def __init__(self, source: Node, node: Node, *, root: bool) -> None:
        self.node = node
        self.facts: Sequence[Mapping[str, Any]] = source.get(RULES) or ()
        self.keys = tuple(node.get(MAP_KEYS) or ()) if node.get(LIST_TYPE) == "map" else ()
        self._root = root
        known = properties(node)
        below = {name: _nested(each, known.get(name)) for name, each in properties(source).items()}
        self.fields = {name: found for name, found in below.items() if found}
        self.rest, self.item = _nested(values(source), values(node)), _nested(items(source), items(node))
        self.also = [found for each in source.get("allOf") or () if (found := Ruled(each, node, root=root)).has_rules]

    @property
    def has_rules(self) -> bool:
        return bool(self.facts or self.fields or self.rest or self.item or self.also)

    @cached_property
    def rules(self) -> list[Rule]:
        declared = cel.schema_type(self.node, root=self._root)
        return [Rule(self.node, declared, each) for each in self.facts]


def compiled(node: Node, *, root: bool = True) -> Ruled | None:
    """The rules of a schema; None if it has none."""
    ruled = Ruled(node, node, root=root)
    return ruled if ruled.has_rules else None


def _nested(source: Node | None, node: Node | None) -> Ruled | None:
    """The rules of `source`, which is the node itself or what a part of its allOf says of it."""
    if source is None or node is None:
        return None
    ruled = Ruled(source, node, root=bool(node.get(EMBEDDED)))
    return ruled if ruled.has_rules else None


class _Stop(Exception):
    """The budget is used up."""


def tried(ruled: Ruled, value: Any, old: Any, at: Path = None, *, ratcheting: bool = True) -> Tried:
    """Tries all rules on a value and, if it is an update, its old one; `ratcheting`: what did not change is only warned of."""
    trial = _Trial()
    with suppress(_Stop):
        trial.visit(ruled, value, at, old, (value, old) if ratcheting and old is not None else None, None)
    return Tried(trial.errors, trial.warnings)


class _Trial:
    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.warnings: list[str] = []
        self.meter = cel.Meter()

    def visit(self, ruled: Ruled, value: Any, path: Path, old: Any, same: Unchanged, outer: Unchanged) -> None:
        if value is None:
            return
        if ruled.facts:
            self._rules(ruled, value, path, old, same)
        for also in ruled.also:
            self.visit(also, value, path, old, outer, outer)
        if isinstance(value, Mapping):
            before = old if isinstance(old, Mapping) else None
            for key, each in value.items():
                below = ruled.fields.get(key)
                step: str = key
                if below is None:
                    if ruled.rest is None or key in properties(ruled.node):
                        continue
                    below, step = ruled.rest, Key(key)
                one = before.get(key) if before is not None else None
                self.visit(below, each, (path, step), one, (each, one) if same and before is not None else same, same)
        elif isinstance(value, list | tuple) and ruled.item is not None:
            found = {key_of(each, ruled.keys): each for each in old} if ruled.keys and isinstance(old, list | tuple) else {}
            for index, each in enumerate(value):
                one = found.get(key_of(each, ruled.keys)) if found else None
                self.visit(ruled.item, each, (path, index), one, (each, one) if same and one is not None else same, same)

    def _rules(self, ruled: Ruled, value: Any, path: Path, old: Any, same: Unchanged) -> None:
        kind = ruled.node.get("type") or ""
        plain: Mapping[str, Any] = {"self": value, "oldSelf": old}
        for rule in ruled.rules:
            if rule.error:
                self._add(path, kind, f"rule compile error: {rule.error}")
            if rule.program is None or (rule.uses_old and old is None and not rule.optional):
                continue
            optional = {"self": value, "oldSelf": cel.NONE if old is None else cel.Optional(old)} if rule.optional else None
            bindings = optional or plain
            answer = self._evaluate(rule, bindings, path, kind)
            if answer is None or answer is True:
                continue
            target = _joined(path, rule.path)
            detail = self._message(rule, bindings, target, kind)
            shown_value = value if kind not in ("object", "array") else _OMITTED
            error = _failure(shown(target) or NOWHERE, shown_value, detail, rule.facts.get("reason"))
            if not rule.uses_old and same is not None and same[0] == same[1]:
                self.warnings.append(str(error))
            else:
                self.errors.append(error)

    def _add(self, path: Path, kind: str, detail: str) -> None:
        self.errors.append(invalid(shown(path) or NOWHERE, kind, detail))

    def _evaluate(self, rule: Rule, bindings: Mapping[str, Any], path: Path, kind: str) -> Any:
        """The answer of a rule; None if there is none, which then is among the errors."""
        assert rule.program is not None
        try:
            answer = rule.program.evaluate(bindings, self.meter)
        except cel.CostError as error:
            detail = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {rule.told}"
            self._add(path, kind, OUT_OF_BUDGET if self._is_spent() else detail)
            raise _Stop from None
        except cel.EvaluationError as error:
            self._spend(path, kind)
            if str(error).startswith("no such overload"):
                why = "call arguments did not match a supported operator, function or macro signature"
                self._add(path, kind, f"'{error}': {why} for rule: {rule.told}")
            else:
                self._add(path, kind, f"{error} evaluating rule: {rule.told}")
            return None
        self._spend(path, kind)
        return answer

    def _is_spent(self) -> bool:
        return bool(self.meter.cost > cel.REQUEST_BUDGET)

    def _spend(self, path: Path, kind: str) -> None:
        if self._is_spent():
            self._add(path, kind, OUT_OF_BUDGET)
            raise _Stop

    def _message(self, rule: Rule, bindings: Mapping[str, Any], path: Path, kind: str) -> str:
        fallback = str(rule.facts["message"]).strip() if rule.facts.get("message") else f"failed rule: {rule.told}"
        if rule.message is None:
            return fallback
        try:
            text = rule.message.evaluate(bindings, self.meter)
        except cel.CostError:
            shown_rule = '"' + str(rule.facts["messageExpression"]).replace('"', '\\"') + '"'
            why = "no further validation rules will be run due to call cost exceeds limit"
            self._add(path, kind, f"{why} for messageExpression: {shown_rule}")
            raise _Stop from None
        except cel.EvaluationError:
            return fallback
        if self._is_spent():
            self._add(path, kind, f"messageExpression evaluation {_SPENT}")
            raise _Stop
        text = str(text).strip()
        return text if text and "\n" not in text and len(text.encode()) <= LONGEST_MESSAGE else fallback


_OMITTED = object()


def _joined(path: Path, more: Path) -> Path:
    return path if more is None else (_joined(path, more[0]), more[1])


def _failure(path: str, value: Any, detail: str, reason: str | None) -> FieldError:
    if reason == "FieldValueForbidden":
        return forbidden(path, detail)
    if reason == "FieldValueRequired":
        return required(path, detail)
    if reason == "FieldValueDuplicate":
        return FieldError(reason, path, "Duplicate value") if value is _OMITTED else duplicate(path, value)
    return (
        FieldError("FieldValueInvalid", path, f"Invalid value: {detail}") if value is _OMITTED else invalid(path, value, detail)
    )
