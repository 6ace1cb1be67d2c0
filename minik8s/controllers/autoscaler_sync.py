"""One look at a HorizontalPodAutoscaler: reads its target's scale, its pods and its metrics, lets decide, performs.

Targets: whatever has a scale in this server, custom resources too (not what other API servers serve).
Neighbours: `autoscaler_reader.py` asks, `autoscaler_rules.py` (one metric), `autoscaler_limits.py` (windows and rates) and
`autoscaler_decision.py` (all together) decide; `autoscaler.py` says when.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import NO_SUCH_RESOURCE, ApiError, BadRequest, Conflict, NotFound
from minik8s.api.resources import HORIZONTALPODAUTOSCALERS, RESOURCES, Resource
from minik8s.api.selectors import LabelSelector, parse_labels
from minik8s.client.events import WARNING
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key
from minik8s.controllers import autoscaler_decision as decision
from minik8s.controllers.autoscaler_decision import Outcome
from minik8s.controllers.autoscaler_limits import Past
from minik8s.controllers.autoscaler_reader import MetricsReader
from minik8s.controllers.autoscaler_rules import Scaled
from minik8s.controllers.autoscalermetrics import AutoscalerMetrics, action_of
from minik8s.controllers.manager import Context

Object = Mapping[str, Any]
TRIES, PAUSE = 5, 0.01
"""How often a scale is written that others write at the same time, and the seconds in between."""


class Autoscaler:
    """That of one process. What was recommended and done before is remembered here alone, as upstream does."""

    def __init__(self, context: Context, autoscalers: Informer, pods: Informer) -> None:
        self._context, self._client, self._clock = context, context.client, context.clock
        self._autoscalers, self._pods = autoscalers, pods
        self._metrics = MetricsReader(context.client, self._rows_of)
        self._report = AutoscalerMetrics(context.metrics)
        self._past: dict[Key, Past] = {}
        self._selectors: dict[Key, LabelSelector] = {}

    async def look(self, key: Key) -> bool:
        """Whether there still is one."""
        hpa = self._autoscalers.get(*key)
        self._report.autoscalers.set((), len(self._autoscalers))
        if hpa is None:
            self._past.pop(key, None)
            self._selectors.pop(key, None)
            self._report.desired.remove(key)
            return False
        began = self._clock.monotonic()
        outcome = await self._outcome(key, hpa)
        if outcome.rescale:
            outcome = await self._rescale(hpa, outcome)
        self._past[key] = outcome.past
        for type_, reason, message in outcome.events:
            self._context.events.event(hpa, type_, reason, message)
        if outcome.replicas is not None:
            self._report.desired.set(key, outcome.replicas)
        action = action_of(outcome.current or 0, outcome.replicas)
        self._report.looked(action, outcome.problem or "none", self._clock.monotonic() - began)
        await self._tell(hpa, outcome)
        return True

    async def _outcome(self, key: Key, hpa: Object) -> Outcome:
        past, reference = self._past.get(key, Past()), hpa["spec"]["scaleTargetRef"]
        if reference.get("apiVersion", "").count("/") > 1:
            text = f"unexpected GroupVersion string: {reference['apiVersion']}"
            return decision.unreachable(past, text, decision.SPEC)
        try:
            _, scale = await self._scale_of(hpa)
        except ApiError as error:
            return decision.unreachable(past, str(error))
        current = (scale.get("spec") or {}).get("replicas", 0)
        status = scale.get("status") or {}
        if not past.recommendations:
            past = Past(((self._clock.now(), current),))
        if (outcome := decision.without_metrics(hpa["spec"], past, current)) is not None:
            return outcome
        text = status.get("selector", "")
        if not text:
            return decision.unselected(past, current, "SelectorRequired", "selector is required")
        try:
            selector = self._selectors[key] = parse_labels(text)
        except BadRequest as error:
            why = f"couldn't convert selector into a corresponding internal selector object: {error}"
            return decision.unselected(past, current, "InvalidSelector", why)
        if rivals := self._rivals(key, selector):
            return decision.unselected(past, current, "AmbiguousSelector", decision.ambiguous(text, [key, *rivals]))
        return await self._measured(hpa, Scaled(current, status.get("replicas", 0)), text, selector, past)

    async def _measured(self, hpa: Object, scaled: Scaled, text: str, selector: LabelSelector, past: Past) -> Outcome:
        namespace, readings, seconds = hpa["metadata"]["namespace"], [], []
        for metric in hpa["spec"]["metrics"]:
            began = self._clock.monotonic()
            readings.append(await self._metrics.read(metric, namespace, text))
            seconds.append(self._clock.monotonic() - began)
        pods = self._selected(namespace, selector)
        outcome = decision.decide(hpa, Scaled(scaled.wanted, scaled.present, pods), readings, past, self._clock.now())
        before = (hpa.get("status") or {}).get("currentReplicas", 0)
        for (kind, replicas), took in zip(outcome.measured, seconds, strict=True):
            error = "none" if replicas is not None else decision.INTERNAL
            self._report.computed(action_of(before, replicas), error, kind, took)
        return outcome

    def _selected(self, namespace: str, selector: LabelSelector) -> list[Object]:
        return [pod for pod in self._pods.list(namespace) if selector.matches(pod["metadata"].get("labels"))]

    def _rivals(self, key: Key, selector: LabelSelector) -> list[Key]:
        """Other autoscalers that select some of the same pods."""
        others = {other: theirs for other, theirs in self._selectors.items() if other != key and other[0] == key[0]}
        pods = self._selected(key[0], selector) if others else []
        return [other for other, theirs in others.items() if any(theirs.matches(pod["metadata"].get("labels")) for pod in pods)]

    # --- the target --------------------------------------------------------------------------------------------------------

    def _rows_of(self, group: str, kind: str) -> list[Resource]:
        rows = (*RESOURCES, *self._context.custom.rows())
        return [row for row in rows if (row.group, row.kind) == (group, kind)]

    async def _scale_of(self, hpa: Object) -> tuple[Resource, Object]:
        """The target's row and its Scale. Raises the ApiError of the first row of its kind where none has one."""
        reference, namespace = hpa["spec"]["scaleTargetRef"], hpa["metadata"]["namespace"]
        group, kind = reference.get("apiVersion", "").rpartition("/")[0], reference["kind"]
        failure: ApiError = NotFound(f'no matches for kind "{kind}" in group "{group}"')
        for number, row in enumerate(self._rows_of(group, kind)):
            try:
                return row, await self._get_scale(row, reference["name"], namespace)
            except ApiError as error:
                failure = failure if number else error
        raise failure

    async def _get_scale(self, row: Resource, name: str, namespace: str) -> Object:
        if row in RESOURCES and "scale" not in row.subresources:
            raise NotFound(NO_SUCH_RESOURCE)
        return await self._client.get(row, name, namespace, subresource="scale")

    async def _rescale(self, hpa: Object, outcome: Outcome) -> Outcome:
        """Gives the target its replicas, from whatever state its scale is in by now."""
        failure: ApiError | None = None
        for _ in range(TRIES):
            try:
                row, scale = await self._scale_of(hpa)
                await self._client.update(row, {**scale, "spec": {"replicas": outcome.replicas}}, subresource="scale")
            except Conflict as error:
                failure = error
                await self._clock.sleep(PAUSE)
            except ApiError as error:
                failure = error
                break
            else:
                return decision.rescaled(outcome, hpa["spec"].get("behavior"), self._clock.now())
        return decision.not_rescaled(outcome, str(failure))

    async def _tell(self, hpa: Object, outcome: Outcome) -> None:
        """Writes the status where it changes, whoever changed the rest meanwhile: nobody else writes it."""
        before = hpa.get("status") or {}
        status = decision.status_of(before, outcome, self._clock.now())
        if status == before:
            return
        metadata = {name: value for name, value in hpa["metadata"].items() if name != "resourceVersion"}
        try:
            written = await self._client.update(
                HORIZONTALPODAUTOSCALERS, {**hpa, "metadata": metadata, "status": status}, subresource="status"
            )
        except NotFound:
            return
        except ApiError as error:
            self._context.events.event(hpa, WARNING, "FailedUpdateStatus", str(error))
            return
        await self._autoscalers.caught_up(written)
