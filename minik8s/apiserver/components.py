"""ComponentStatuses (deprecated since 1.19): what the server knows of the parts that it leans on, made at each ask and never stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from minik8s.api.errors import NotFound
from minik8s.api.resources import COMPONENTSTATUSES
from minik8s.apiserver.cache import Collection, Entry
from minik8s.apiserver.listing import Page, selection_of
from minik8s.apiserver.request import Request

Checks = Mapping[str, Callable[[], str]]
"""Name -> what is wrong, empty where all is well."""


def list_components(checks: Checks, request: Request) -> Page:
    """Those that the request selects; such a list has no revision."""
    selection = selection_of(request)
    entries = [_entry(name, check()) for name, check in sorted(checks.items())]
    return Page([entry for entry in entries if selection.matches(entry)], 0)


def get_component(checks: Checks, name: str) -> Entry:
    if name not in checks:
        raise NotFound(f'componentstatus "{name}" not found', {"name": name, "kind": "componentstatus"})
    return _entry(name, checks[name]())


def _entry(name: str, problem: str) -> Entry:
    condition = {"type": "Healthy", "status": "False" if problem else "True", "message": problem or "ok"}
    rest: dict[str, Any] = {"metadata": {"name": name}, "conditions": [condition]}
    obj = {"kind": COMPONENTSTATUSES.kind, "apiVersion": COMPONENTSTATUSES.api_version, **rest}
    return Entry(Collection(COMPONENTSTATUSES, {}), f"/{name}", 0, orjson.dumps(rest), obj)
