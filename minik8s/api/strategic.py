"""Strategic merge patch: lists of structs merge by a key that the schema names, and directives say what else to do.

Directives: `$patch` (replace, delete; in a list's item too), `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`, `$retainKeys`.
Neither object nor patch is changed. A patch that can't be applied is a BadRequest in upstream's words (which answers 500 to some).
Source: "strategic merge patch" of the Kubernetes API conventions, apimachinery's strategicpatch. Knows `errors`, `schema`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import schema
from minik8s.api.errors import BadRequest
from minik8s.api.schema import Field

DIRECTIVE, RETAIN_KEYS = "$patch", "$retainKeys"
DELETE_FROM, SET_ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


def merge(obj: Mapping[str, Any], patch: Mapping[str, Any], definition: str) -> dict[str, Any]:
    """The object of that type with the patch applied; it may share parts with both."""
    return _merge_map(obj, patch, "&" + definition)


def _merge_map(old: Mapping[str, Any], patch: Mapping[str, Any], shape: str) -> dict[str, Any]:
    if DIRECTIVE in patch:
        return _directed(patch)
    result = _retained(old, patch)
    done = {RETAIN_KEYS}
    for key, order in patch.items():
        if key.startswith(SET_ORDER):
            field = key.removeprefix(SET_ORDER)
            done |= {key, field}
            _set_order(result, patch, field, order, _field(shape, field))
    for key, value in patch.items():
        if key not in done:
            _merge_member(result, key, value, shape)
    return result


def _merge_member(result: dict[str, Any], key: str, value: Any, shape: str) -> None:
    deleting = key.startswith(DELETE_FROM)
    key = key.removeprefix(DELETE_FROM)
    if value is None:
        result.pop(key, None)
        return
    before = result.get(key)
    facts = _field(shape, key)
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        result[key] = value if "replace" in facts.strategies else _merge_map(before, value, facts.shape)
    elif isinstance(before, list) and isinstance(value, list):
        merging = deleting or "merge" in facts.strategies
        result[key] = _merge_list(before, value, facts, deleting) if merging else value
    elif not deleting:
        kept = _plain(value)
        if kept is _GONE:
            result.pop(key, None)
        else:
            result[key] = kept


def _directed(patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a map becomes whose patch has a directive."""
    directive = patch[DIRECTIVE]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != DIRECTIVE}
    if directive == "delete":
        return {}
    raise _bad_directive(patch)


def _retained(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The old map, without what `$retainKeys` doesn't name."""
    if RETAIN_KEYS not in patch:
        return dict(old)
    keys = patch[RETAIN_KEYS]
    named = isinstance(keys, list) and all(
        key in keys
        for key, value in patch.items()
        if value is not None and key != RETAIN_KEYS and not key.startswith((DELETE_FROM, SET_ORDER))
    )
    if not named:
        raise BadRequest("invalid patch format of retainKeys")
    return {key: value for key, value in old.items() if key in keys}


# --- lists -------------------------------------------------------------------------------------------------------------


def _merge_list(old: list[Any], patch: list[Any], facts: Field, deleting: bool) -> list[Any]:
    if not _are_maps(old, patch):
        if deleting:
            gone = set(patch)
            return [item for item in old if item not in gone]
        merged = list(dict.fromkeys([*old, *patch]))
        return _ordered(merged, patch, old, "")
    key = facts.merge_key
    if not key:
        raise BadRequest(f"cannot merge lists without merge key for {facts.type.go_name if facts.type else facts.shape}")
    old, patch = _list_directives(old, patch, key)
    merged = list(old)
    places = {item[key]: i for i, item in reversed(list(enumerate(merged))) if key in item}
    for item in patch:
        value = _key_of(item, key)
        at = places.setdefault(value, len(merged))
        if at == len(merged):
            merged.append(item)
        else:
            merged[at] = _merge_map(merged[at], item, facts.shape[1:])
    return _ordered(merged, patch, old, key)


def _list_directives(old: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Old list and patch after the items of the patch that are directives."""
    plain = [item for item in patch if DIRECTIVE not in item]
    deleted = {_key_of(item, key) for item in patch if item.get(DIRECTIVE) == "delete"}
    replaced = False
    for item in patch:
        directive = item.get(DIRECTIVE)
        if directive == "replace":
            replaced = True
        elif directive == "merge":
            raise BadRequest("merging lists cannot yet be specified in the patch")
        elif DIRECTIVE in item and directive != "delete":
            raise _bad_directive(item)
    return (plain, []) if replaced else ([item for item in old if item.get(key) not in deleted], plain)


def _set_order(result: dict[str, Any], patch: Mapping[str, Any], field: str, order: Any, facts: Field) -> None:
    """Merges one list and puts it in the order that the patch asks for."""
    old, new = result.get(field), patch.get(field)
    if not all(isinstance(each, list) for each in (order, old or [], new or [])):
        raise BadRequest("invalid patch format of setElementOrder list")
    key = facts.merge_key
    _check_order(new or [], order, key)
    if old is None and new is None:
        return
    if new is None:
        merged = old
    elif old is None:
        merged = _plain(new)
    else:
        merged = _merge_list(old, new, facts, False) if "merge" in facts.strategies else new
    result[field] = _ordered(merged or [], order, old or [], key)


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """The items of the patch must stand in the order list, in this order."""
    if not patch or not order:
        return
    wanted = (_key_of(item, key) for item in order)
    for item in patch:
        if not (isinstance(item, Mapping) and DIRECTIVE in item) and _key_of(item, key) not in wanted:
            raise BadRequest(
                f"The order in patch list:\n{as_go(patch)}\n doesn't match $setElementOrder list:\n{as_go(order)}\n"
            )


def _ordered(merged: list[Any], order: Sequence[Any], before: Sequence[Any], key: str) -> list[Any]:
    """The items that `order` names in its order, the others as they stood before, woven by where they stood."""
    wanted, stood = _places(order, key), _places(before, key)
    keyed = [(_key_of(item, key), item) for item in merged]
    named = sorted((pair for pair in keyed if pair[0] in wanted), key=lambda pair: wanted[pair[0]])
    others = [pair for pair in keyed if pair[0] not in wanted]
    woven = []
    i = j = 0
    while i < len(others) and j < len(named):
        one, other = stood.get(others[i][0]), stood.get(named[j][0])
        if one is not None and other is not None and one < other:
            woven.append(others[i][1])
            i += 1
        else:
            woven.append(named[j][1])
            j += 1
    return woven + [item for _, item in named[j:]] + [item for _, item in others[i:]]


def _places(items: Sequence[Any], key: str) -> dict[Any, int]:
    """The first place of each key."""
    return {_key_of(item, key): i for i, item in reversed(list(enumerate(items)))}


def _key_of(item: Any, key: str) -> Any:
    """The value that tells an item from the others."""
    if key and (not isinstance(item, Mapping) or key not in item):
        raise BadRequest(f"map: {as_go(item)} does not contain declared merge key: {key}")
    value = item[key] if key else item
    if isinstance(value, Mapping | list):
        raise BadRequest(f"invalid merge key: {as_go(value)}")
    return value


def _are_maps(*lists: list[Any]) -> bool:
    """Whether the lists hold structs; they must be of one kind."""
    kinds = {"map" if isinstance(item, Mapping) else type(item).__name__ for each in lists for item in each}
    if len(kinds) > 1 or "list" in kinds:
        raise BadRequest(f"list element types are not identical: {as_go(list(lists))}")
    return kinds == {"map"}


# --- details -----------------------------------------------------------------------------------------------------------

_GONE = object()
_UNKNOWN = Field("*")


def _field(shape: str, key: str) -> Field:
    """The facts of a member of a struct or a map."""
    if shape[0] == "&":
        return schema.type_of(shape[1:]).fields.get(key, _UNKNOWN)
    return Field(shape[1:]) if shape[0] == "{" else _UNKNOWN


def _plain(value: Any) -> Any:
    """A new part of the object: without nulls and directives; _GONE if it is itself one."""
    if isinstance(value, Mapping):
        if DIRECTIVE in value:
            return _GONE
        members = ((key, _plain(item)) for key, item in value.items() if item is not None)
        return {key: item for key, item in members if item is not _GONE}
    if isinstance(value, list):
        return [item for item in map(_plain, value) if item is not _GONE]
    return value


def _bad_directive(patch: Mapping[str, Any]) -> BadRequest:
    return BadRequest(f"unknown patch type: {patch[DIRECTIVE]} in map: {as_go(patch)}")


def as_go(value: Any) -> str:
    """As Go prints a value: `map[a:b]`."""
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{as_go(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(as_go, value))}]"
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
