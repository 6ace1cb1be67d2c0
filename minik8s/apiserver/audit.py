"""Audit: who asked for what, when, on whose behalf, and what came of it (audit.k8s.io/v1 Event), as the policy wants it.

A request whose rule asks for more than None gets a `Trail`: what is learned of it on its way is told to the trail, which writes an
event for each stage. Requests of this process's parts are audited as those over HTTP are. Where no policy is given there is no Auditor,
and no request pays for it. Neighbours: `audit_policy.py` (how much of which request), `audit_log.py` (the file). Source: "Auditing" of
the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from minik8s.api import decode
from minik8s.api.errors import ApiError, InternalError
from minik8s.api.user import User, user_info
from minik8s.apiserver import bodies, forms
from minik8s.apiserver.audit_log import AuditLog
from minik8s.apiserver.audit_policy import COMPLETE, METADATA, NONE, PANIC, RECEIVED, REQUEST_RESPONSE, STARTED, Policy, Verdict
from minik8s.apiserver.contract import PATCH_ANNOTATION, Attributes
from minik8s.apiserver.forms import Form
from minik8s.apiserver.listing import Page
from minik8s.apiserver.request import STREAMS, Request
from minik8s.base.clock import Clock, rfc3339_micro
from minik8s.base.metrics import Metrics
from minik8s.base.uids import uids

if TYPE_CHECKING:
    from minik8s.apiserver.frontdesk import Reply

AGENT_LIMIT = 1024
"""Characters of a User-Agent that are written."""


class Auditor:
    """Begins trails, and writes their events."""

    def __init__(self, policy: Policy, log: AuditLog, clock: Clock, rng: Random, metrics: Metrics) -> None:
        self.log = log
        self.clock = clock
        self._policy = policy
        self._ids = uids(rng)
        events = metrics.counter("apiserver_audit_event_total", "Audit events that were made.")
        metrics.collect.append(lambda: events.set((), log.taken))
        self._levels = metrics.counter("apiserver_audit_level_total", "Requests by the level of their audit.", ("level",))

    async def begin(self, asked: Attributes, uri: str, audit_id: str, sources: tuple[str, ...], agent: str) -> Trail | None:
        """The trail of a request, which begins with its first event; None where no rule wants any. Waits while the log is behind."""
        verdict = self._policy.judge(asked)
        self._levels.add((verdict.level,), 1)
        if verdict.level == NONE:
            return None
        if self.log.full:
            await self.log.room()
        trail = Trail(self, verdict, asked, audit_id or next(self._ids), uri, sources, agent)
        trail.stage(RECEIVED)
        return trail

    async def follow(self, request: Request, asked: Attributes, answer: Callable[[Request], Awaitable[Reply]]) -> Reply:
        """Answers a part of this process, audited."""
        trail = await self.begin_inside(request, asked)
        if trail is None:
            return await answer(request)
        trail.asked(request)
        try:
            reply = await answer(request)
        except ApiError as error:
            trail.complete(error.status_code, error)
            raise
        except Exception as error:
            trail.panic(error)
            raise
        await trail.answered(request, reply)
        trail.complete(reply.code)
        return reply

    async def begin_inside(self, request: Request, asked: Attributes) -> Trail | None:
        """The trail of a request by a part of this process."""
        path = request.resource.path(request.namespace, request.name, request.subresource)
        trail = await self.begin(asked, path, "", ("127.0.0.1",), "minik8s")
        if trail is not None:
            trail.annotations = request.annotations
        return trail


class Trail:
    """What is known of one request. `annotations` are its event's; the resource request's own dict, where it has one."""

    def __init__(
        self,
        auditor: Auditor,
        verdict: Verdict,
        asked: Attributes,
        audit_id: str,
        uri: str,
        sources: tuple[str, ...],
        agent: str,
    ) -> None:
        self.id = audit_id
        self.annotations: dict[str, str] = {}
        self._long = asked.verb in ("watch", "proxy") or asked.subresource in STREAMS
        self._auditor = auditor
        self._verdict = verdict
        self._started = False
        self._event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level,
            "auditID": audit_id,
            "stage": "",
            "requestURI": uri,
            "verb": asked.verb,
            "user": user_info(asked.user),
        }
        if sources:
            self._event["sourceIPs"] = sources
        if agent:
            self._event["userAgent"] = agent if len(agent) <= AGENT_LIMIT else agent[:AGENT_LIMIT] + "...TRUNCATED"
        if not asked.path:
            self._event["objectRef"] = _reference(asked)
        self._event["requestReceivedTimestamp"] = rfc3339_micro(auditor.clock.now())

    # --- what is learned ---------------------------------------------------------------------------------------------

    def acts_as(self, user: User, constraint: str) -> None:
        """The request goes on as somebody else; `constraint` is the verb that allowed it, "" for the plain one."""
        self._event["impersonatedUser"] = user_info(user)
        if constraint:
            self._event["authenticationMetadata"] = {"impersonationConstraint": constraint}

    def asked(self, request: Request) -> None:
        """The body of a resource request: its object says whom the request is about, and is kept from the level Request on."""
        obj, reference = _object(request), self._event.get("objectRef")
        if obj is None or reference is None:
            return
        if request.verb in ("create", "update") and isinstance(obj, Mapping) and isinstance(obj.get("metadata"), Mapping):
            for field in ("namespace", "name", "uid", "resourceVersion"):
                if (value := obj["metadata"].get(field)) and isinstance(value, str):
                    reference.setdefault(field, value)
        if self._verdict.level != METADATA:
            self._event["requestObject"] = self._shown(obj)

    async def answered(self, request: Request, reply: Reply, form: Form = forms.PLAIN) -> None:
        """What is answered, in the form in which its client sees it but always JSON, kept at the level RequestResponse."""
        if self._verdict.level != REQUEST_RESPONSE:
            return
        clock, resource, form = self._auditor.clock, reply.resource or request.resource, replace(form, media=forms.JSON)
        if isinstance(reply.answer, Page):
            body = await forms.encode_page(reply.answer, resource, form, clock)
        else:
            body = forms.encode_object(reply.answer, resource, form, clock.now())
        shown = self._shown(orjson.loads(body)) if self._verdict.omit_managed_fields else orjson.Fragment(body)
        self._event["responseObject"] = shown

    # --- stages ------------------------------------------------------------------------------------------------------

    def started(self, code: int) -> None:
        """The head of a long answer goes out."""
        if self._long and not self._started:
            self._started = True
            self._event["responseStatus"] = {"metadata": {}, "code": code}
            self.stage(STARTED)

    def complete(self, code: int, error: ApiError | None = None) -> None:
        if error is None:
            self.started(code)
            self._event["responseStatus"] = {"metadata": {}, "code": code}
        else:
            status = self._failed(error)
            if self._verdict.level == REQUEST_RESPONSE and "objectRef" in self._event:
                self._event["responseObject"] = status
        self.stage(COMPLETE)

    def broke_off(self) -> None:
        """Its client went away, or this server ends."""
        early = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
        self._event.setdefault("responseStatus", early)
        self.stage(COMPLETE)

    def panic(self, error: Exception) -> None:
        """A fault of ours ended the request."""
        self._failed(InternalError(f"APIServer panic'd: {type(error).__name__}"))
        self.stage(PANIC)

    def _failed(self, error: ApiError) -> dict[str, Any]:
        status = error.to_status()
        self._event["responseStatus"] = {key: status[key] for key in _STATUS if key in status}
        return status

    def stage(self, name: str) -> None:
        if name in self._verdict.omitted:
            return
        event = self._event
        event["stage"] = name
        begun = event["requestReceivedTimestamp"]
        event["stageTimestamp"] = begun if name == RECEIVED else rfc3339_micro(self._auditor.clock.now())
        if annotations := self.annotations:
            hidden = PATCH_ANNOTATION if self._verdict.level == METADATA else ()
            event["annotations"] = {key: annotations[key] for key in sorted(annotations) if not key.startswith(hidden)}
        self._auditor.log.write(orjson.dumps(event))

    def _shown(self, obj: Any) -> Any:
        if not self._verdict.omit_managed_fields or not isinstance(obj, Mapping):
            return obj
        if isinstance(items := obj.get("items"), list):
            return {**_without_managed_fields(obj), "items": [_without_managed_fields(item) for item in items]}
        return _without_managed_fields(obj)


_STATUS = ("metadata", "status", "message", "reason", "details", "code")


def _reference(asked: Attributes) -> dict[str, str]:
    known = {
        "resource": asked.resource,
        "namespace": asked.namespace,
        "name": asked.name,
        "apiGroup": asked.group,
        "apiVersion": asked.version,
        "subresource": asked.subresource,
    }
    return {field: value for field, value in known.items() if value}


def _object(request: Request) -> Any:
    """What was sent, as far as it can be read; that it can't is told by the answer."""
    body = request.body
    if not isinstance(body, bytes):
        return body
    if not body:
        return None
    try:
        if request.verb == "patch":
            media = decode.YAML if bodies.is_yaml(request, body) else decode.JSON
        else:
            media = decode.media_type(request.content_type)
        return decode.parse(body, media)[0]
    except (ApiError, ValueError):
        return None


def _without_managed_fields(obj: Any) -> Any:
    metadata = obj.get("metadata") if isinstance(obj, Mapping) else None
    if not isinstance(metadata, Mapping) or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
