"""How folds over lists and maps run: all, exists, exists_one, map, filter, and their forms with two variables.

Knows `calls`, `costs`, `errors`, `values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, Protocol

from minik8s.api.cel.calls import LIMIT, SPENT, Frame, Run
from minik8s.api.cel.costs import Loop
from minik8s.api.cel.errors import CostError, EvaluationError, no_overload
from minik8s.api.cel.values import Struct


class Elements(Sized, Iterable[Any], Protocol):
    """What a fold goes over: the elements of a list, the keys of a map, or pairs."""


Step = Callable[[Frame, Any], None]


def make(macro: str, ranged: Run, slots: list[int], body: Run, where: Run | None, loop: Loop) -> Run:
    """The closure of a fold."""
    over = _Over(ranged, slots, loop)
    if macro == "all":
        return _quantifier(over, body, False)
    if macro == "exists":
        return _quantifier(over, body, True)
    if macro == "exists_one":
        return _exists_one(over, body)
    if macro in ("map", "filter", "transformList"):
        return _list(over, body, where)
    return _map(over, body, where, slots[0] if macro == "transformMap" else None)


class _Over:
    """What is gone over: `elements(frame)`; before each, `step(frame, element)` sets the variables and counts the cost."""

    def __init__(self, ranged: Run, slots: list[int], loop: Loop) -> None:
        self.loop = loop
        two = len(slots) == 2
        first, second, cost = slots[0], slots[-1], loop.step

        def elements(frame: Frame) -> Elements:
            value = ranged(frame)
            if isinstance(value, list):
                return list(enumerate(value)) if two else value
            return list(_items(value)) if two else _keys(value)

        def step(frame: Frame, element: Any) -> None:
            spent = frame[SPENT] + cost
            frame[SPENT] = spent
            if spent > frame[LIMIT]:
                raise CostError()
            if two:
                frame[first], frame[second] = element
            else:
                frame[first] = element

        self.elements = elements
        self.step = step


def _keys(value: Any) -> Elements:
    if isinstance(value, dict):
        return value
    if isinstance(value, Struct):
        return list(value.names())
    raise no_overload()


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return [(name, value.field(name)) for name in _keys(value)]


def _quantifier(over: _Over, body: Run, decisive: bool) -> Run:
    elements, step, early = over.elements, over.step, over.loop.early

    def run(frame: Frame) -> Any:
        wrong: EvaluationError | None = None
        found = elements(frame)
        left = len(found)
        for element in found:
            step(frame, element)
            left -= 1
            try:
                holds = body(frame)
            except CostError:
                raise
            except EvaluationError as error:
                wrong = wrong or error
                continue
            if holds is decisive:
                frame[SPENT] += early if left else 0
                return decisive
            if holds is not (not decisive):
                wrong = wrong or no_overload()
        if wrong is not None:
            raise wrong
        return not decisive

    return run


def _exists_one(over: _Over, body: Run) -> Run:
    elements, step, hit = over.elements, over.step, over.loop.hit

    def run(frame: Frame) -> Any:
        count = 0
        for element in elements(frame):
            step(frame, element)
            if _holds(body(frame)):
                frame[SPENT] += hit
                count += 1
        return count == 1

    return run


def _holds(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload()


def _list(over: _Over, body: Run, where: Run | None) -> Run:
    elements, step, hit = over.elements, over.step, over.loop.hit

    def run(frame: Frame) -> Any:
        out: list[Any] = []
        for element in elements(frame):
            step(frame, element)
            if where is None or _holds(where(frame)):
                frame[SPENT] += hit
                out.append(body(frame))
        return out

    return run


def _map(over: _Over, body: Run, where: Run | None, key: int | None) -> Run:
    """transformMap, whose keys are in the slot `key`; transformMapEntry, whose body makes maps."""
    elements, step, hit = over.elements, over.step, over.loop.hit

    def run(frame: Frame) -> Any:
        out: dict[Any, Any] = {}
        for element in elements(frame):
            step(frame, element)
            if where is not None and not _holds(where(frame)):
                continue
            frame[SPENT] += hit
            made = body(frame)
            for name, value in [(frame[key], made)] if key is not None else list(_items(made)):
                if name in out:
                    raise EvaluationError(f"insert failed: key {name} already exists")
                out[name] = value
        return out

    return run
