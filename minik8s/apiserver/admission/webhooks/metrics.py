"""How admission webhooks go, under upstream's names (apiserver_admission_webhook_*, apiserver_admission_match_condition_*)."""

from __future__ import annotations

from minik8s.base.metrics import Metrics

_PREFIX = "apiserver_admission"
_HIGHEST_CODE = 600
REFUSED, CALL_FAILED, SERVER_FAILED = "no_error", "calling_webhook_error", "apiserver_internal_error"


class WebhookMetrics:
    """`kind` is "admit" or "validating"."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            f"{_PREFIX}_webhook_admission_duration_seconds",
            "How long admission webhooks take, by name, type and operation.",
            ("name", "type", "operation", "rejected"),
            (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25),
        )
        self._rejections = metrics.counter(
            f"{_PREFIX}_webhook_rejection_count",
            "Requests that admission webhooks rejected, or that were rejected because a webhook failed.",
            ("name", "type", "operation", "error_type", "rejection_code"),
        )
        self._fail_open = metrics.counter(
            f"{_PREFIX}_webhook_fail_open_count", "Failed webhooks whose failure policy is Ignore.", ("name", "type")
        )
        self._requests = metrics.counter(
            f"{_PREFIX}_webhook_request_total",
            "Calls of admission webhooks, by HTTP code.",
            ("name", "type", "operation", "code", "rejected"),
        )
        labels = ("name", "kind", "type", "operation")
        self._condition_errors = metrics.counter(
            f"{_PREFIX}_match_condition_evaluation_errors_total", "Match conditions that could not be evaluated.", labels
        )
        self._exclusions = metrics.counter(
            f"{_PREFIX}_match_condition_exclusions_total", "Requests that match conditions kept from a webhook.", labels
        )

    def called(self, hook: str, kind: str, operation: str, seconds: float, code: int, *, rejected: bool) -> None:
        told = str(rejected).lower()
        self._requests.add((hook, kind, operation, _shown(code), told), 1)
        self._seconds.observe((hook, kind, operation, told), seconds)

    def rejected(self, hook: str, kind: str, operation: str, why: str, code: int) -> None:
        self._rejections.add((hook, kind, operation, why, _shown(code)), 1)

    def failed_open(self, hook: str, kind: str) -> None:
        self._fail_open.add((hook, kind), 1)

    def condition_failed(self, hook: str, kind: str, operation: str) -> None:
        self._condition_errors.add((hook, "webhook", kind, operation), 1)

    def excluded(self, hook: str, kind: str, operation: str) -> None:
        self._exclusions.add((hook, "webhook", kind, operation), 1)


def _shown(code: int) -> str:
    return str(min(code, _HIGHEST_CODE))
