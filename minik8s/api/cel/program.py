"""Environments, and programs: an expression parsed, checked, and ready to evaluate. Knows all of this room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from minik8s.api.cel import interpret, validators
from minik8s.api.cel.ast import Node
from minik8s.api.cel.checker import check
from minik8s.api.cel.errors import CompileError, EvaluationError, Issue
from minik8s.api.cel.estimate import estimated
from minik8s.api.cel.estimates import Estimate
from minik8s.api.cel.functions import Functions, merged
from minik8s.api.cel.libraries import STANDARD
from minik8s.api.cel.parser import MAX_DEPTH, parse
from minik8s.api.cel.schemas import Declared
from minik8s.api.cel.types import NAMES, Type, struct

CALL_LIMIT = 1_000_000
REQUEST_BUDGET = 10_000_000
MATCH_BUDGET = 2_500_000
EXPRESSION_LIMIT = 10_000_000
TOTAL_LIMIT = 100_000_000


class Meter:
    """What evaluations cost, summed."""

    __slots__ = ("cost",)

    def __init__(self) -> None:
        self.cost = 0


@dataclass(frozen=True)
class Env:
    """What an expression may mention: variables, names of types, functions."""

    variables: Mapping[str, Type | Declared]
    named: Mapping[str, Type] = field(default_factory=lambda: NAMES)
    functions: Functions = field(default_factory=lambda: STANDARD)

    def extended(
        self,
        variables: Mapping[str, Type | Declared],
        functions: Functions | None = None,
        named: Mapping[str, Type] | None = None,
    ) -> Env:
        """With more variables (or others of their names), functions and names of types."""
        return Env(
            {**self.variables, **variables},
            {**self.named, **named} if named else self.named,
            merged(self.functions, functions) if functions else self.functions,
        )

    def with_variable(self, name: str, of: Type) -> Env:
        """With a field more in `variables`: the type of a composed variable."""
        before = self.variables.get("variables")
        fields = before.fields if isinstance(before, Type) else {}
        return self.extended({"variables": struct("kubernetes.variables", {**fields, name: of})})

    @cached_property
    def types(self) -> Mapping[str, Type]:
        """The types of the variables."""
        return {name: of.type if isinstance(of, Declared) else of for name, of in self.variables.items()}


def compile(text: str, env: Env) -> Program:
    """An expression, checked; CompileError tells what is wrong with it."""
    tree = parse(text)
    try:
        issues, used = check(tree, env.types, env.named, env.functions)
        issues = issues or validators.problems(tree)
        if issues:
            raise CompileError(text, issues)
        return Program(text, tree, env, frozenset(used))
    except RecursionError:
        raise CompileError(text, [Issue(0, f"expression recursion limit exceeded: {MAX_DEPTH}")]) from None


class Program:
    """A compiled expression. `type` is the type of its answer, `text` what was compiled."""

    def __init__(self, text: str, tree: Node, env: Env, used: frozenset[str]) -> None:
        self.text = text
        self.type = tree.type
        self._tree = tree
        self._env = env
        self._used = used
        self._run, self._cost, slots, self._size = interpret.compiled(tree, env.named)
        self._inputs = [(name, slot, _reader(env.variables.get(name))) for name, slot in slots.items()]

    def uses(self, variable: str) -> bool:
        """Whether a variable occurs in it."""
        return variable in self._used

    @cached_property
    def estimate(self) -> Estimate:
        """What an evaluation may cost, by the sizes that the schemas of the variables allow."""
        return estimated(self._tree, {name: of for name, of in self._env.variables.items() if isinstance(of, Declared)})

    def evaluate(self, bindings: Mapping[str, Any], meter: Meter | None = None, limit: int = CALL_LIMIT) -> Any:
        """The answer, a CEL value. EvaluationError if there is none; CostError if it costs more than `limit`."""
        frame: list[Any] = [self._cost, limit, *([None] * (self._size - interpret.FIRST))]
        try:
            for name, slot, read in self._inputs:
                if name not in bindings:
                    frame[slot] = _unbound(bindings, name)
                else:
                    frame[slot] = bindings[name] if read is None else read(bindings[name])
            answer = self._run(frame)
            interpret.spend(frame, 0)
            return answer
        except RecursionError:
            raise EvaluationError("expression recursion limit exceeded") from None
        finally:
            if meter is not None:
                meter.cost += frame[0]


def _reader(of: Type | Declared | None) -> Any:
    return of.read if isinstance(of, Declared) else None


def _unbound(bindings: Mapping[str, Any], name: str) -> Any:
    """`authorizer.requestResource` comes with the authorizer; anything else must be bound."""
    if name == "authorizer.requestResource" and "authorizer" in bindings:
        return bindings["authorizer"].request_resource
    raise EvaluationError(f"no such attribute(s): {name}")
