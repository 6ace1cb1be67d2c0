"""What calls may cost by the sizes of their operands, function by function: the numbers of `estimate`.

Source: cel-go's checker/cost.go, its extensions, and the estimates of Kubernetes' libraries. Knows `ast`, `costs`, `functions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from minik8s.api.cel import costs
from minik8s.api.cel.ast import Const, Node
from minik8s.api.cel.functions import Overload
from minik8s.api.cel.types import Type

MOST = (1 << 64) - 1


def _capped(value: int) -> int:
    return min(value, MOST)


def _scaled(value: int, factor: float) -> int:
    product = math.ceil(value * factor)
    return min(product, MOST)


@dataclass(frozen=True, slots=True)
class Estimate:
    """From `min` to `max`, of costs or of sizes; what would exceed 2**64-1 is that."""

    min: int
    max: int

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(_capped(self.min + other.min), _capped(self.max + other.max))

    def __mul__(self, other: Estimate) -> Estimate:
        return Estimate(_capped(self.min * other.min), _capped(self.max * other.max))

    def __or__(self, other: Estimate) -> Estimate:
        return Estimate(min(self.min, other.min), max(self.max, other.max))

    def scaled(self, factor: float) -> Estimate:
        """Times a factor, rounded up."""
        return Estimate(_scaled(self.min, factor), _scaled(self.max, factor))


def fixed(value: int) -> Estimate:
    """Just so much."""
    return Estimate(value, value)


NOTHING, ONE, UNKNOWN = fixed(0), fixed(1), Estimate(0, MOST)


Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sized:
    """An operand: its size is known, and that of its items can be looked up."""

    node: Node | None
    type: Type
    path: Path
    size: Estimate
    look_up: Callable[[Path], Estimate | None]

    @property
    def items(self) -> Sized | None:
        """The elements of a list; None if their type isn't known."""
        if not self.type.params:
            return None
        path = (*self.path, "@items") if self.path else ()
        return Sized(None, self.type.params[0], path, self.look_up(path) or UNKNOWN, self.look_up)


@dataclass(frozen=True, slots=True)
class Given:
    """A call whose cost is asked for."""

    overload: Overload
    target: Sized | None
    args: list[Sized]


Result = tuple[Estimate, Estimate | None]  # the cost without the operands, and the size of the result
Function = Callable[[Given], Result | None]


def _traverse(size: Estimate, times: float = 1) -> Estimate:
    return size.scaled(times * costs.STRING)


def _fixed(cost: int) -> Function:
    return lambda given: (fixed(cost), None)


def _reads_argument(times: float = 1, keeps_size: bool = False) -> Function:
    def estimate(given: Given) -> Result | None:
        if not given.args:
            return None
        return _traverse(given.args[0].size, times), given.args[0].size if keeps_size else None

    return estimate


def _reads_target(given: Given) -> Result | None:
    return (_traverse(given.target.size), given.target.size) if given.target is not None else None


def _list_function(given: Given) -> Result | None:
    if given.target is None:
        return None
    item = given.target.items
    if item is None:
        return _traverse(given.target.size), None
    each = ONE
    if item.type.kind in ("string", "bytes"):
        each += _traverse(item.size)
    return given.target.size * each, None


def _selector(given: Given) -> Result | None:
    if len(given.args) != 1:
        return None
    length = given.args[0].size
    return fixed(costs.LIST) + _traverse(length) + length.scaled(0.5).scaled(costs.LIST + costs.STRUCT), None


def _replace(given: Given) -> Result | None:
    if given.target is None or len(given.args) < 2:
        return None
    size, old, new = given.target.size, given.args[0].size, given.args[1].size
    if old.min == 0:
        longest = _capped(_capped(size.max + 1) * new.max + size.max)
    elif new.max <= old.min:
        longest = size.max
    else:
        longest = _capped(math.ceil(size.max / old.min) * new.max)
    if old.max == 0:
        shortest = _capped(_capped(size.min + 1) * new.min + size.min)
    elif old.max <= new.min:
        shortest = size.min
    else:
        shortest = _capped(math.ceil(size.min / old.max) * new.min)
    return _traverse(size, 2), Estimate(shortest, longest)


def _split(given: Given) -> Result | None:
    if given.target is None:
        return None
    most = given.target.size.max
    limit = given.args[1].node if len(given.args) > 1 else None
    if isinstance(limit, Const) and isinstance(limit.value, int):
        most = limit.value if limit.value >= 0 else limit.value + MOST + 1
    return _traverse(given.target.size, 2), Estimate(0, most)


def _join(given: Given) -> Result | None:
    if given.target is None:
        return None
    item = given.target.items
    size = given.target.size * item.size if item is not None else NOTHING
    if given.args:
        size += given.args[0].size * Estimate(max(given.target.size.min - 1, 0), max(given.target.size.max - 1, 0))
    return _traverse(size), size


def _find(given: Given) -> Result | None:
    if given.target is None or not given.args:
        return None
    return _regex(given.target.size, given.args[0].size), Estimate(0, given.target.size.max)


def _regex(size: Estimate, pattern: Estimate) -> Estimate:
    return _traverse(size + ONE) * pattern.scaled(costs.REGEX)


def _matches(given: Given) -> Result | None:
    return (_regex(given.target.size, given.args[0].size), None) if given.target is not None else None


def _contains(given: Given) -> Result | None:
    return (_traverse(given.target.size) * _traverse(given.args[0].size), None) if given.target is not None else None


_ADDRESS = Estimate(4, 16)


def _contains_ip(given: Given) -> Result | None:
    cost = _traverse(_ADDRESS + _ADDRESS)
    if given.overload.args[1].kind == "string":
        cost += _traverse(given.args[0].size)
    return cost, None


def _contains_cidr(given: Given) -> Result | None:
    cost = _traverse(_ADDRESS + _ADDRESS) + _traverse(_ADDRESS) + ONE
    if given.overload.args[1].kind == "string":
        cost += _traverse(given.args[0].size)
    return cost, None


def _ip(given: Given) -> Result | None:
    return (ONE, None) if given.target is not None else (_traverse(given.args[0].size), None)


def _validate(given: Given) -> Result | None:
    return _traverse(given.args[0].size).scaled(costs.FORMAT_REGEX * costs.REGEX), None


_UNIT_EQUALITY = ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.authorization.")


def _equality(given: Given) -> Result | None:
    kind = given.args[0].type
    if kind == given.args[1].type and given.overload.function == "_==_":
        if kind.name.startswith(_UNIT_EQUALITY):
            return ONE, None
        if kind.name == "kubernetes.NamedFormat":
            return _traverse(Estimate(1, 64)), None
        if kind.name == "kubernetes.URL":
            return _traverse(Estimate(1, given.args[1].size.max if given.args[1].size != UNKNOWN else 1)), None
    return _compared(given)


def _compared(given: Given) -> Result | None:
    most = min(given.args[0].size.max, given.args[1].size.max)
    return _traverse(Estimate(1 if most > 0 else 0, most)), None


def _joined(given: Given) -> Result | None:
    size = given.args[0].size + given.args[1].size
    return (ONE if given.overload.args[0].kind == "list" else _traverse(size)), size


def _to_bytes(given: Given) -> Result | None:
    size = given.args[0].size
    return _traverse(size), Estimate(size.min, _capped(size.max * 4))


def _from_bytes(given: Given) -> Result | None:
    size = given.args[0].size
    return _traverse(size), Estimate(size.min // 4, size.max)


def _quote(given: Given) -> Result | None:
    size = given.args[0].size
    return _traverse(size), Estimate(_capped(size.min + 2), _capped(size.max * 2 + 2))


def _in_list(given: Given) -> Result | None:
    return given.args[1].size, None


def _allocating(size: Estimate, factor: float = 1) -> Result:
    """What makes a new list."""
    return size.scaled(factor) + fixed(1 + costs.LIST), size


def _literal_int(sized: Sized, default: int) -> int:
    value = sized.node.value if isinstance(sized.node, Const) else None
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else default


def _slice(given: Given) -> Result | None:
    if given.target is None:
        return None
    start, end = _literal_int(given.args[0], 0), _literal_int(given.args[1], given.target.size.max)
    return _allocating(fixed((end - start) & MOST))


def _flatten(given: Given) -> Result | None:
    if given.target is None:
        return None
    return _allocating(given.target.size, _literal_int(given.args[0], MOST) if given.args else 1)


def _squared(own_argument: bool) -> Function:
    """What compares each element with each: of the target, or of the argument."""

    def estimate(given: Given) -> Result | None:
        if given.target is None:
            return None
        sized = given.args[0] if own_argument else given.target
        compared = given.overload.args[-1].params[0].kind
        factor = 2 + costs.STRING if compared in ("string", "bytes") else 2.0
        return _allocating(sized.size * sized.size, factor)

    return estimate


def _sets(factor: float) -> Function:
    return lambda given: ((given.args[0].size * given.args[1].size).scaled(factor) + ONE, None)


BY_FUNCTION: dict[str, Function] = {
    "check": _fixed(costs.CHECK),
    "fieldSelector": _selector,
    "labelSelector": _selector,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _list_function),
    **dict.fromkeys(("url", "jsonpatch.escapeKey"), _reads_argument(keeps_size=True)),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _reads_target),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _reads_argument()),
    "ip": _ip,
    "ip.isCanonical": _reads_argument(2),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "_==_": _equality,
    "_!=_": _equality,
    "slice": _slice,
    "lists.range": lambda given: _allocating(fixed(_literal_int(given.args[0], MOST))),
    "reverse": lambda given: _allocating(given.target.size) if given.target is not None else None,
    "flatten": _flatten,
    "distinct": _squared(False),
    "sort": _squared(False),
    "@sortByAssociatedKeys": _squared(True),
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
}
BY_OVERLOAD: dict[str, Function] = {
    "format(string, list(dyn))": lambda given: (_traverse(given.target.size), None) if given.target is not None else None,
    "bytes(string)": _to_bytes,
    "string(bytes)": _from_bytes,
    "strings.quote(string)": _quote,
    "startsWith(string, string)": _reads_argument(),
    "endsWith(string, string)": _reads_argument(),
    "@in(<A>, list(<A>))": _in_list,
    "matches(string, string)": _matches,
    "contains(string, string)": _contains,
    **dict.fromkeys(("_+_(string, string)", "_+_(bytes, bytes)", "_+_(list(<A>), list(<A>))"), _joined),
    **{f"{function}({kind}, {kind})": _compared for function in ("_<_", "_<=_", "_>_", "_>=_") for kind in ("string", "bytes")},
}
