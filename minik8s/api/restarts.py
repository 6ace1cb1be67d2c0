"""Which ended containers start again: restart policies and rules (KEP-753, KEP-5307). The kubelet and the status rules ask here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Frozen = Mapping[str, Any]
ALL = "RestartAllContainers"


def restarts(container: Frozen, spec: Frozen, exit_code: int) -> bool:
    """Whether a container of the pod starts again after it ended with this code."""
    policy = container.get("restartPolicy")
    if policy is not None and matching_rule(container, exit_code) is not None:
        return True
    policy = policy or spec.get("restartPolicy") or "Always"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def restarts_all(container: Frozen, exit_code: int) -> bool:
    """Whether all containers of the pod start again after this one ended with this code (KEP-5532)."""
    rule = matching_rule(container, exit_code)
    return rule is not None and rule.get("action") == ALL


def matching_rule(container: Frozen, exit_code: int) -> Frozen | None:
    """The first of the container's `restartPolicyRules` that speaks of this exit code."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes")
        if codes is not None and (exit_code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            found: Frozen = rule
            return found
    return None


def all_may_restart(spec: Frozen) -> bool:
    """Whether some rule of the pod restarts all its containers."""
    return any(
        rule.get("action") == ALL
        for key in ("initContainers", "containers")
        for container in spec.get(key) or ()
        for rule in container.get("restartPolicyRules") or ()
    )
