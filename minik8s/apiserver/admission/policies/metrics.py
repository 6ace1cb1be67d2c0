"""How policies go, under upstream's names (apiserver_validating_admission_policy_*, apiserver_mutating_admission_policy_*).

Only what failed is counted of validations, as upstream does. Durations are those of the whole policy.
"""

from __future__ import annotations

from minik8s.base.metrics import Metrics

VALIDATING, MUTATING = "validating", "mutating"
ALLOW, DENY, WARN, AUDIT = "allow", "deny", "warn", "audit"
_BUCKETS = (0.0000005, 0.001, 0.01, 0.1, 1.0)


class PolicyMetrics:
    """The counts of one kind of policy."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        prefix = f"apiserver_{kind}_admission_policy"
        labels = ("policy", "policy_binding", "error_type") + (("enforcement_action",) if kind == VALIDATING else ())
        what = "validations that failed" if kind == VALIDATING else "mutations"
        self._checks = metrics.counter(f"{prefix}_check_total", f"Of {kind} admission policies, the {what}.", labels)
        self._seconds = metrics.histogram(
            f"{prefix}_check_duration_seconds", f"How long {kind} admission policies took, in seconds.", labels, _BUCKETS
        )

    def failed(self, policy: str, binding: str, error: str, action: str, seconds: float) -> None:
        """A validation that failed, by an error or (empty) by being false, and what was done about it."""
        self._count((policy, binding, error_type(error) if error else "invalid_error", action), seconds)

    def mutated(self, policy: str, binding: str, error: str, seconds: float) -> None:
        """A mutation, with what went wrong; empty if nothing did."""
        self._count((policy, binding, error_type(error) if error else "no_error"), seconds)

    def _count(self, labels: tuple[str, ...], seconds: float) -> None:
        self._checks.add(labels, 1)
        self._seconds.observe(labels, seconds)


def error_type(error: str) -> str:
    """The kind of an error, as upstream tells them apart: by its first words."""
    if error.startswith("compilation"):
        return "compile_error"
    if error.startswith("validation failed due to running out of cost budget"):
        return "out_of_budget"
    return "invalid_error"
