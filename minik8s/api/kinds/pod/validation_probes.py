"""Probes and lifecycle hooks: one handler each, and what that handler needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from minik8s.api import names
from minik8s.api.errors import forbidden, invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors

_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def validate_probes(container: Frozen, path: str) -> Errors:
    """All probes of a container."""
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(key)) is not None:
            yield from _probe(probe, f"{path}.{key}", readiness=key == "readinessProbe")


def validate_lifecycle(lifecycle: Frozen, path: str, grace: int | None) -> Errors:
    """Hooks; `grace` is the pod's termination grace period, within which a sleep must end."""
    for key in ("postStart", "preStop"):
        if (handler := lifecycle.get(key)) is not None:
            yield from _handler(handler, f"{path}.{key}", _HOOKS)
            if _HOOKS.keys() & handler.keys() == {"sleep"} and grace is not None:
                seconds = handler["sleep"].get("seconds", 0)
                if not 0 <= seconds <= grace:
                    text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    yield invalid(f"{path}.{key}.sleep", seconds, text)


def _probe(probe: Frozen, path: str, *, readiness: bool) -> Errors:
    yield from _handler(probe, path, _PROBES)
    for key in _COUNTS:
        if (count := probe.get(key, 0)) < 0:
            yield from checks.not_negative(count, f"{path}.{key}")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if readiness:
        if grace is not None:
            yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif probe.get("successThreshold") != 1:
        yield invalid(f"{path}.successThreshold", probe.get("successThreshold", 0), "must be 1")


def _handler(handler: Frozen, path: str, kinds: dict[str, Callable[[Frozen, str], Errors]]) -> Errors:
    found = [key for key in kinds if handler.get(key) is not None]
    if not found:
        return (required(path, "must specify a handler type"),)
    errors = kinds[found[0]](handler[found[0]], f"{path}.{found[0]}")
    if len(found) == 1:
        return errors
    return [*errors, *(forbidden(f"{path}.{key}", "may not specify more than 1 handler type") for key in found[1:])]


def _exec(action: Frozen, path: str) -> Errors:
    return checks.needed(action, ("command",), path)


_SCHEMES = ("HTTP", "HTTPS")
_HEADER = re.compile("[-A-Za-z0-9]+")
_HEADER_ERROR = names.pattern_error(
    "a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", "X-Header-Name"
)


def _http_get(action: Frozen, path: str) -> Errors:
    if not action.get("path"):
        yield required(f"{path}.path")
    yield from checks.port(action.get("port", 0), f"{path}.port")
    if action.get("scheme") not in _SCHEMES:
        yield from checks.one_of(action.get("scheme", ""), f"{path}.scheme", _SCHEMES)
    headers: Sequence[Frozen] = action.get("httpHeaders") or ()
    for header in headers:
        if not _HEADER.fullmatch(header.get("name", "")):
            yield invalid(f"{path}.httpHeaders", header.get("name", ""), _HEADER_ERROR)


def _port(action: Frozen, path: str) -> Errors:
    return checks.port(action.get("port", 0), f"{path}.port")


def _sleep(_action: Frozen, _path: str) -> Errors:
    return ()


_PROBES: dict[str, Callable[[Frozen, str], Errors]] = {"exec": _exec, "httpGet": _http_get, "tcpSocket": _port, "grpc": _port}
_HOOKS: dict[str, Callable[[Frozen, str], Errors]] = {"exec": _exec, "httpGet": _http_get, "tcpSocket": _port, "sleep": _sleep}
