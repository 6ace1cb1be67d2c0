"""CEL's types, and what unifies with what.

A type is a kind, a name and parameters. Structs also know their fields; opaque ones (`optional_type`, `net.IP`) have only a name.
`Bindings` hold what type parameters stand for while a call is checked. Source: the CEL specification's type system as cel-go reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Type:
    """A type; equal to another of the same kind, name and parameters. As a value of CEL it is what `type(x)` answers."""

    __slots__ = ("_field", "fields", "kind", "name", "nested", "params", "plain")

    def __init__(
        self,
        kind: str,
        name: str = "",
        params: tuple[Type, ...] = (),
        fields: Mapping[str, Type] | None = None,
        plain: bool = False,
        field: Callable[[str], Type | None] | None = None,
        nested: Callable[[str], Type] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name or kind
        self.params = params
        self.fields = fields or {}
        self.plain = plain  # its values are dicts of JSON, not values.Struct
        self._field = field
        self.nested = nested  # the types whose names begin with this one's, where any such name is one

    def field(self, name: str) -> Type | None:
        """The type of a struct's field; None if it has none of that name."""
        return self._field(name) if self._field is not None else self.fields.get(name)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Type) and self.kind == other.kind and self.name == other.name and self.params == other.params
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __str__(self) -> str:
        """As Kubernetes' messages show it; the checker's own words are `describe`."""
        name = NULL_NAMES.get(self.kind, self.name)
        return f"{name}({', '.join(str(param) for param in self.params)})" if self.params else name

    def __repr__(self) -> str:
        return f"Type({self})"

    @property
    def is_dyn(self) -> bool:
        """Whether anything may be in it."""
        return self.kind == "dyn"

    @property
    def loose(self) -> bool:
        """Whether the checker says nothing about it: dyn, or wrong already."""
        return self.kind in ("dyn", "error")

    @property
    def is_optional(self) -> bool:
        """Whether it is an optional_type(T)."""
        return self.kind == "opaque" and self.name == "optional_type"


NULL_NAMES = {"null": "null_type", "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}

BOOL, INT, UINT, DOUBLE = Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, NULL = Type("string"), Type("bytes"), Type("null")
TIMESTAMP, DURATION, DYN, ERROR = Type("timestamp"), Type("duration"), Type("dyn"), Type("error", "!error!")
TYPE = Type("type")
UNKNOWN_FIELD = Type("unspecified")  # of a field that its type neither has nor denies; nothing fits it
LIST, MAP = Type("list"), Type("map")  # what type([]) and type({}) answer

SCALARS = ("bool", "int", "uint", "double", "timestamp", "duration")
NAMES = {t.name: t for t in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, DYN, TYPE, LIST, MAP)} | {
    "null_type": NULL,
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.Duration": DURATION,
    "optional_type": Type("opaque", "optional_type"),
    "net.IP": Type("opaque", "net.IP"),
    "net.CIDR": Type("opaque", "net.CIDR"),
}


def list_of(item: Type) -> Type:
    """list(T)"""
    return Type("list", "list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """map(K, V)"""
    return Type("map", "map", (key, value))


def optional_of(value: Type) -> Type:
    """optional_type(T)"""
    return Type("opaque", "optional_type", (value,))


def type_of(value: Type) -> Type:
    """type(T): the type of a type."""
    return Type("type", "type", (value,))


def param(name: str) -> Type:
    """A type parameter."""
    return Type("param", name)


def struct(name: str, fields: Mapping[str, Type], plain: bool = False) -> Type:
    """A struct with its fields."""
    return Type("struct", name, (), fields, plain)


def describe(t: Type) -> str:
    """As the checker's messages name a type."""
    if t.kind == "unspecified":
        return ""
    return f"{t.name}({', '.join(describe(p) for p in t.params)})" if t.params else t.name


def signature(args: list[Type], member: bool) -> str:
    """The types that a function was applied to: `string.(int)`, `(int, string)`."""
    target = f"{describe(args[0])}." if member else ""
    return f"{target}({', '.join(describe(arg) for arg in args[1 if member else 0 :])})"


class Bindings:
    """What the type parameters of one expression stand for."""

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}
        self._trail: list[tuple[str, Type | None]] = []  # what was bound before, to undo what led nowhere
        self._count = 0

    def fresh(self) -> Type:
        """A new parameter."""
        self._count += 1
        return param(f"_var{self._count - 1}")

    def assignable(self, pairs: list[tuple[Type, Type]]) -> bool:
        """Whether each first fits each second; if so, what that says of parameters is kept."""
        self._trail.clear()
        if all(self._fits(a, b) for a, b in pairs):
            return True
        for name, before in reversed(self._trail):
            if before is None:
                del self._bound[name]
            else:
                self._bound[name] = before
        return False

    def _bind(self, name: str, to: Type) -> None:
        self._trail.append((name, self._bound.get(name)))
        self._bound[name] = to

    def resolve(self, t: Type, free_as_dyn: bool = False) -> Type:
        """The type with its parameters replaced by what they stand for."""
        if t.kind == "param":
            bound = self._bound.get(t.name)
            if bound is not None:
                return self.resolve(bound, free_as_dyn)
            return DYN if free_as_dyn else t
        if not t.params:
            return t
        return Type(t.kind, t.name, tuple(self.resolve(p, free_as_dyn) for p in t.params), t.fields, t.plain)

    def _fits(self, a: Type, b: Type) -> bool:
        if b.kind == "param":
            valid, bound = self._stands_for(a, b)
            if valid or bound:
                return valid
        if a.kind == "param":
            return self._stands_for(b, a)[0]
        if a.loose or b.loose:
            return True
        if "null" in (a.kind, b.kind):
            other = b if a.kind == "null" else a
            return other.kind in ("null", "opaque", "struct", "duration", "timestamp")
        if a.kind != b.kind:
            return False
        if a.kind == "type":
            return True
        return a.name == b.name and len(a.params) == len(b.params) and all(map(self._fits, a.params, b.params))

    def _stands_for(self, t: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether a parameter may stand for a type (and whether it stood for something before)."""
        if t.kind == "param" and t.name == parameter.name:
            return True, True
        bound = self._bound.get(parameter.name)
        if bound is not None:
            if t == bound:
                return True, True
            if self._fits(t, bound):
                wider = t if less_specific(t, bound) else bound
                if not self._occurs(parameter, wider):
                    self._bind(parameter.name, wider)
                return True, True
            return False, True
        if self._occurs(parameter, t):
            return False, False
        self._bind(parameter.name, t)
        return True, False

    def _occurs(self, parameter: Type, t: Type) -> bool:
        if t.kind == "param":
            if t.name == parameter.name:
                return True
            bound = self._bound.get(t.name)
            return bound is not None and self._occurs(parameter, bound)
        return any(self._occurs(parameter, p) for p in t.params)


def less_specific(a: Type, b: Type) -> bool:
    """Whether the first is as wide as the second or wider."""
    if a.kind in ("dyn", "param"):
        return True
    if b.kind in ("dyn", "param") or a.kind != b.kind:
        return False
    if a.kind == "type":
        return True
    return a.name == b.name and len(a.params) == len(b.params) and all(map(less_specific, a.params, b.params))


def free_of(t: Type) -> set[str]:
    """The names of the parameters in a type."""
    if t.kind == "param":
        return {t.name}
    return set().union(*(free_of(p) for p in t.params)) if t.params else set()


def renamed(t: Type, names: Mapping[str, Type]) -> Type:
    """The type with its parameters replaced."""
    if t.kind == "param":
        return names.get(t.name, t)
    return Type(t.kind, t.name, tuple(renamed(p, names) for p in t.params), t.fields, t.plain) if t.params else t
