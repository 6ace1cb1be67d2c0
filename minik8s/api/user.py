"""Who asks: authentication.k8s.io/v1 UserInfo as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. `groups` holds `system:authenticated` or `system:unauthenticated` too."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def user_info(user: User) -> dict[str, Any]:
    """authentication.k8s.io/v1 UserInfo, without what is empty."""
    info: dict[str, Any] = {"username": user.name} if user.name else {}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


MASTERS = "system:masters"
SERVICE_ACCOUNTS = "system:serviceaccounts"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def component(name: str) -> User:
    """A control-plane part's own identity, e.g. `component("kube-scheduler")`."""
    return User(f"system:{name}", (AUTHENTICATED,))


def service_account(namespace: str, name: str, uid: str = "", extra: Mapping[str, tuple[str, ...]] | None = None) -> User:
    """A ServiceAccount's identity; that of a controller is `service_account("kube-system", "deployment-controller")`."""
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
    return User(f"system:serviceaccount:{namespace}:{name}", groups, uid, extra or {})


def split_service_account(user: str) -> tuple[str, str] | None:
    """Namespace and name of a ServiceAccount's user name, None for other users."""
    match user.split(":"):
        case ["system", "serviceaccount", namespace, name] if namespace and name:
            return namespace, name
    return None
