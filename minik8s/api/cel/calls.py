"""How calls run, and fields are read: what carries a call out is chosen beforehand, then its operands are evaluated, its cost is counted.

The shapes below are the same thing for one, two and more operands, for a constant second one, and for costs that are measured; most of
an evaluation's time goes by here. Knows `functions`, `operators`, `values`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minik8s.api.cel import operators
from minik8s.api.cel.ast import Call
from minik8s.api.cel.errors import CostError, EvaluationError
from minik8s.api.cel.functions import Overload
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import fits, type_name

Frame = list[Any]
Run = Callable[[Frame], Any]
Measure = Callable[[tuple[Any, ...], Any], int]

SPENT, LIMIT = 0, 1
VARIES = object()
_MISFIT = (TypeError, AttributeError)


def carrier(node: Call) -> Callable[..., Any]:
    """What carries a call out: the operator, the one overload if the checker is sure of it, else the one that the values fit."""
    given = [operand.type for operand in node.operands]
    fast = operators.fast(node.function, given)
    if fast is not None:
        return fast
    overloads: list[Overload] = node.overloads
    if len(overloads) == 1 and all(map(_sure, given, overloads[0].args)):
        return overloads[0].implementation

    def dispatch(*args: Any) -> Any:
        for overload in overloads:
            if all(map(fits, args, overload.args)):
                return overload.implementation(*args)
        raise _no_such(node.function, args)

    return dispatch


def call(node: Call, runs: list[Run], second: Any, measure: Measure | int) -> Run:
    """The closure of a call. `second` is the second operand where it is a constant, else VARIES."""
    implementation = carrier(node)

    def misfit(error: Exception, *args: Any) -> Exception:
        """What an implementation's TypeError means: arguments that the checker didn't foresee (a null in a list), or our mistake."""
        if node.overloads and any(all(map(fits, args, overload.args)) for overload in node.overloads):
            return error
        if node.function in operators.OPERATORS:
            return EvaluationError(f"no such overload: {node.function}")
        return _no_such(node.function, args)

    if not isinstance(measure, int):
        return _measured(implementation, runs, second, measure, misfit)
    if len(runs) == 1:
        return _one(implementation, runs[0], misfit)
    if len(runs) == 2:
        return _two(implementation, runs[0], runs[1], second, misfit)

    def run(frame: Frame) -> Any:
        args = [each(frame) for each in runs]
        try:
            return implementation(*args)
        except _MISFIT as error:
            raise misfit(error, *args) from None

    return run


def _one(implementation: Callable[..., Any], first: Run, misfit: Callable[..., Exception]) -> Run:
    def run(frame: Frame) -> Any:
        a = first(frame)
        try:
            return implementation(a)
        except _MISFIT as error:
            raise misfit(error, a) from None

    return run


def _two(implementation: Callable[..., Any], first: Run, other: Run, second: Any, misfit: Callable[..., Exception]) -> Run:
    def run(frame: Frame) -> Any:
        a = first(frame)
        b = other(frame)
        try:
            return implementation(a, b)
        except _MISFIT as error:
            raise misfit(error, a, b) from None

    def run_constant(frame: Frame) -> Any:
        a = first(frame)
        try:
            return implementation(a, second)
        except _MISFIT as error:
            raise misfit(error, a, second) from None

    return run if second is VARIES else run_constant


def _measured(
    implementation: Callable[..., Any], runs: list[Run], second: Any, measure: Measure, misfit: Callable[..., Exception]
) -> Run:
    first = runs[0] if runs else None

    def run(frame: Frame) -> Any:
        args = tuple([each(frame) for each in runs])
        try:
            result = implementation(*args)
        except _MISFIT as error:
            raise misfit(error, *args) from None
        spent = frame[SPENT] + measure(args, result)
        frame[SPENT] = spent
        if spent > frame[LIMIT]:
            raise CostError()
        return result

    def run_constant(frame: Frame) -> Any:
        assert first is not None
        a = first(frame)
        try:
            result = implementation(a, second)
        except _MISFIT as error:
            raise misfit(error, a, second) from None
        spent = frame[SPENT] + measure((a, second), result)
        frame[SPENT] = spent
        if spent > frame[LIMIT]:
            raise CostError()
        return result

    return run_constant if len(runs) == 2 and second is not VARIES else run


def key_of(operand: Run, key: str) -> Run:
    """A key of what is a dict, as a rule."""

    def run(frame: Frame) -> Any:
        value = operand(frame)
        try:
            return value[key]
        except KeyError:
            raise EvaluationError(f"no such key: {key}") from None
        except TypeError:
            return operators.select(value, key)

    return run


def field_of(operand: Run, field: str) -> Run:
    """A field of a typed object that is used as JSON has it: null ones are absent."""

    def run(frame: Frame) -> Any:
        value = operand(frame)
        try:
            found = value[field]
        except KeyError:
            found = None
        except TypeError:
            return operators.select(value, field)
        if found is None:
            raise EvaluationError(f"no such key: {field}")
        return found

    return run


def field_of_variable(slot: int, field: str) -> Run:
    """As `field_of` of a variable: the most frequent of all expressions."""

    def run(frame: Frame) -> Any:
        try:
            found = frame[slot][field]
        except KeyError:
            found = None
        except TypeError:
            return operators.select(frame[slot], field)
        if found is None:
            raise EvaluationError(f"no such key: {field}")
        return found

    return run


def _no_such(function: str, args: tuple[Any, ...]) -> EvaluationError:
    return EvaluationError(f"no such overload: {function}({', '.join(str(type_name(arg)) for arg in args)})")


def _sure(given: Type, wanted: Type) -> bool:
    """Whether a value of the first type is one of the second for certain."""
    if wanted.kind in ("dyn", "param"):
        return True
    return given.kind == wanted.kind and given.name == wanted.name and all(map(_sure, given.params, wanted.params))
