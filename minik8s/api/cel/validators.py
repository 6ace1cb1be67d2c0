"""What a well-typed tree may still have wrong: literals that are no timestamps, durations or regular expressions, mixed lists and maps.

Source: the validators that Kubernetes sets for its environments. Knows `ast`, `libraries/clock`, `api/regex`.
"""

from __future__ import annotations

from collections.abc import Callable

from minik8s.api import regex
from minik8s.api.cel.ast import Call, Const, ListOf, MapOf, Node, walk
from minik8s.api.cel.errors import EvaluationError, Issue
from minik8s.api.cel.libraries import clock
from minik8s.api.cel.libraries.formatting import misfit
from minik8s.api.cel.types import Type, describe


def problems(tree: Node) -> list[Issue]:
    """All complaints about a checked tree."""
    found: list[Issue] = []
    exempt = {id(each) for node in walk(tree) if isinstance(node, Call) and node.function == "format" for each in walk(node)}
    for node in walk(tree):
        if isinstance(node, Call):
            found += _literal(node) + _format(node)
        elif id(node) in exempt:
            continue
        elif isinstance(node, ListOf):
            kinds = [(each, _inner(each.type, index in node.optional)) for index, each in enumerate(node.elements)]
            found += _mixed(kinds)[:1]
        elif isinstance(node, MapOf):
            found += _mixed([(entry.key, entry.key.type) for entry in node.entries])
            found += _mixed([(entry.value, _inner(entry.value.type, entry.optional)) for entry in node.entries])
    return found


def _is_pattern(text: object) -> None:
    regex.compiled(str(text))


_CHECKS: dict[str, Callable[..., object]] = {
    "timestamp": clock.to_timestamp,
    "duration": clock.to_duration,
    "matches": _is_pattern,
    "find": _is_pattern,
    "findAll": _is_pattern,
}
"""By function: what its first argument must bear."""


def _literal(node: Call) -> list[Issue]:
    check = _CHECKS.get(node.function)
    arg = node.args[0] if node.args else None
    if check is None or not isinstance(arg, Const):
        return []
    try:
        check(arg.value)
    except (EvaluationError, regex.RegexError):
        return [Issue(arg.offset, f"invalid {node.function} argument")]
    return []


def _format(node: Call) -> list[Issue]:
    """What is wrong with the arguments of a literal that is formatted."""
    target, args = node.target, node.args
    if node.function != "format" or not isinstance(target, Const) or not isinstance(target.value, str) or len(args) != 1:
        return []
    given = args[0]
    if not isinstance(given, ListOf):
        return []
    wrong = misfit(target.value, [element.type for element in given.elements])
    if wrong is None:
        return []
    index, complaint = wrong
    return [Issue(node.offset if index is None else given.elements[index].offset, complaint)]


def _inner(of: Type, optional: bool) -> Type:
    return of.params[0] if optional and of.params else of


def _mixed(kinds: list[tuple[Node, Type]]) -> list[Issue]:
    if not kinds:
        return []
    first = kinds[0][1]
    return [
        Issue(node.offset, f"expected type '{describe(first)}' but found '{describe(of)}'")
        for node, of in kinds[1:]
        if of != first
    ]
