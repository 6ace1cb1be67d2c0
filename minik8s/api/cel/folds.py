"""How folds over lists and maps run: all, exists, exists_one, map, filter, and their forms with two variables. Knows `values`, `errors`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minik8s.api.cel.costs import Loop
from minik8s.api.cel.errors import CostError, EvaluationError, no_overload
from minik8s.api.cel.values import Struct

Frame = list[Any]
Run = Callable[[Frame], Any]
SPENT, LIMIT = 0, 1


def make(macro: str, ranged: Run, slots: list[int], body: Run, where: Run | None, loop: Loop) -> Run:
    """The closure of a fold."""
    each = _steps(ranged, slots, loop)
    if macro == "all":
        return _quantifier(each, body, False, loop)
    if macro == "exists":
        return _quantifier(each, body, True, loop)
    if macro == "exists_one":
        return _exists_one(each, body, loop)
    if macro in ("map", "filter", "transformList"):
        return _list(each, body, where, loop)
    return _map(each, body, where, loop, slots[0] if macro == "transformMap" else None)


def _steps(ranged: Run, slots: list[int], loop: Loop) -> Callable[[Frame], Iterator[bool]]:
    """Sets the variables for every element in turn, counts what the step costs, and says whether it is the last."""
    step = loop.step

    def one(frame: Frame) -> Iterator[bool]:
        slot = slots[0]
        value = ranged(frame)
        items = value if isinstance(value, list | dict) else list(_keys(value))
        left = len(items)
        for item in items:
            frame[SPENT] += step
            if frame[SPENT] > frame[LIMIT]:
                raise CostError()
            frame[slot] = item
            left -= 1
            yield left == 0

    def two(frame: Frame) -> Iterator[bool]:
        first, second = slots
        value = ranged(frame)
        left = len(value) if isinstance(value, list | dict) else len(list(_keys(value)))
        for key, item in enumerate(value) if isinstance(value, list) else _items(value):
            frame[SPENT] += step
            if frame[SPENT] > frame[LIMIT]:
                raise CostError()
            frame[first], frame[second] = key, item
            left -= 1
            yield left == 0

    return one if len(slots) == 1 else two


def _keys(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, Struct):
        return value.names()
    raise no_overload()


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return [(name, value.field(name)) for name in _keys(value)]


def _quantifier(each: Callable[[Frame], Iterator[bool]], body: Run, decisive: bool, loop: Loop) -> Run:
    def run(frame: Frame) -> Any:
        wrong: EvaluationError | None = None
        for last in each(frame):
            try:
                holds = body(frame)
                if holds is decisive:
                    frame[SPENT] += 0 if last else loop.early
                    return decisive
                if holds is not (not decisive):
                    wrong = no_overload()
            except CostError:
                raise
            except EvaluationError as error:
                wrong = error
        if wrong is not None:
            raise wrong
        return not decisive

    return run


def _exists_one(each: Callable[[Frame], Iterator[bool]], body: Run, loop: Loop) -> Run:
    def run(frame: Frame) -> Any:
        count = 0
        for _ in each(frame):
            if _holds(body(frame)):
                frame[SPENT] += loop.hit
                count += 1
        return count == 1

    return run


def _holds(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload()


def _list(each: Callable[[Frame], Iterator[bool]], body: Run, where: Run | None, loop: Loop) -> Run:
    def run(frame: Frame) -> Any:
        out: list[Any] = []
        for _ in each(frame):
            if where is None or _holds(where(frame)):
                frame[SPENT] += loop.hit
                out.append(body(frame))
        return out

    return run


def _map(each: Callable[[Frame], Iterator[bool]], body: Run, where: Run | None, loop: Loop, key: int | None) -> Run:
    """transformMap, whose keys are in the slot `key`; transformMapEntry, whose body makes maps."""

    def run(frame: Frame) -> Any:
        out: dict[Any, Any] = {}
        for _ in each(frame):
            if where is not None and not _holds(where(frame)):
                continue
            frame[SPENT] += loop.hit
            made = body(frame)
            for name, value in [(frame[key], made)] if key is not None else list(_items(made)):
                if name in out:
                    raise EvaluationError(f"insert failed: key {name} already exists")
                out[name] = value
        return out

    return run
