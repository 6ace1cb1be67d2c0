"""How the HorizontalPodAutoscaler controller goes, under upstream's names (horizontal_pod_autoscaler_controller_*)."""

from __future__ import annotations

from minik8s.base.metrics import Metrics

_BUCKETS = [0.001 * 2**n for n in range(15)]


def action_of(current: int, replicas: int | None) -> str:
    """The label that says what a number of replicas comes to."""
    if replicas is None or replicas == current:
        return "none"
    return "scale_up" if replicas > current else "scale_down"


class AutoscalerMetrics:
    """Those of one controller."""

    def __init__(self, metrics: Metrics) -> None:
        prefix, labels = "horizontal_pod_autoscaler_controller", ("action", "error")
        self._looks = metrics.counter(f"{prefix}_reconciliations_total", "Looks at an autoscaler.", labels)
        self._seconds = metrics.histogram(
            f"{prefix}_reconciliation_duration_seconds", "How long a look at an autoscaler takes.", labels, _BUCKETS
        )
        of_metric = (*labels, "metric_type")
        self._computed = metrics.counter(f"{prefix}_metric_computation_total", "Metrics that were asked for.", of_metric)
        self._computing = metrics.histogram(
            f"{prefix}_metric_computation_duration_seconds", "How long it takes to ask for a metric.", of_metric, _BUCKETS
        )
        self.autoscalers = metrics.gauge(f"{prefix}_num_horizontal_pod_autoscalers", "HorizontalPodAutoscalers that there are.")
        self.desired = metrics.gauge(
            f"{prefix}_desired_replicas", "Replicas that an autoscaler wants.", ("namespace", "hpa_name")
        )

    def looked(self, action: str, error: str, seconds: float) -> None:
        """One look is over; `error` is "spec", "internal" or "none"."""
        self._looks.add((action, error), 1)
        self._seconds.observe((action, error), seconds)

    def computed(self, action: str, error: str, metric: str, seconds: float) -> None:
        """One metric was asked for, and what it comes to is known; `metric` is its type."""
        self._computed.add((action, error, metric), 1)
        self._computing.observe((action, error, metric), seconds)
