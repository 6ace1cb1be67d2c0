"""Who asks: authentication.k8s.io/v1 UserInfo as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. `groups` holds `system:authenticated` or `system:unauthenticated` too."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def component(name: str) -> User:
    """A control-plane part's own identity, e.g. `component("kube-scheduler")`."""
    return User(f"system:{name}", (AUTHENTICATED,))
