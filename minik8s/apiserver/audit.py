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
from minik8s.base.uids import new_uid

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
        self._ids = Random(rng.getrandbits(128))  # noqa: S311  # ids are no secrets, and many
        self._events = metrics.counter("apiserver_audit_event_total", "Audit events that were made.")
        self._levels = metrics.counter("apiserver_audit_level_total", "Requests by the level of their audit.", ("level",))
        self._events.set((), 0)

    async def begin(self, asked: Attributes, uri: str, audit_id: str, sources: tuple[str, ...], agent: str) -> Trail | None:
        """The trail of a request, which begins with its first event; None where no rule wants any. Waits while the log is behind."""
        verdict = self._policy.judge(asked)
        self._levels.add((verdict.level,), 1)
        if verdict.level == NONE:
            return None
        if self.log.full:
            await self.log.room()
        trail = Trail(self, verdict, asked, audit_id or new_uid(self._ids), uri, sources, agent)
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

    def write(self, line: bytes) -> None:
        self._events.add((), 1)
        self.log.write(line)


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
        self._begun = rfc3339_micro(auditor.clock.now())
        self._started = False
        self._status: dict[str, Any] | None = None
        self._request: Any = None
        self._response: Any = None
        self._reference = None if asked.path else _reference(asked)
        if len(agent) > AGENT_LIMIT:
            agent = agent[:AGENT_LIMIT] + "...TRUNCATED"
        self._known: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level,
            "auditID": audit_id,
            "requestURI": uri,
            "verb": asked.verb,
            "user": user_info(asked.user),
            "requestReceivedTimestamp": self._begun,
        }
        if sources:
            self._known["sourceIPs"] = sources
        if agent:
            self._known["userAgent"] = agent
        if self._reference is not None:
            self._known["objectRef"] = self._reference
        self._encoded = b""  # what is known, but for its closing brace: the same in all events unless more is learned

    # --- what is learned ---------------------------------------------------------------------------------------------

    def acts_as(self, user: User, constraint: str) -> None:
        """The request goes on as somebody else; `constraint` is the verb that allowed it, "" for the plain one."""
        self._known["impersonatedUser"] = user_info(user)
        if constraint:
            self._known["authenticationMetadata"] = {"impersonationConstraint": constraint}
        self._encoded = b""

    def asked(self, request: Request) -> None:
        """The body of a resource request: its object says whom the request is about, and is kept from the level Request on."""
        obj = _object(request)
        if obj is None or self._reference is None:
            return
        if request.verb in ("create", "update") and isinstance(obj, Mapping) and isinstance(obj.get("metadata"), Mapping):
            for field in ("namespace", "name", "uid", "resourceVersion"):
                if (value := obj["metadata"].get(field)) and isinstance(value, str):
                    self._reference.setdefault(field, value)
            self._encoded = b""
        if self._verdict.level != METADATA:
            self._request = self._shown(obj)

    async def answered(self, request: Request, reply: Reply, form: Form = forms.PLAIN) -> None:
        """What is answered, in the form in which its client sees it but always JSON, kept at the level RequestResponse."""
        if self._verdict.level != REQUEST_RESPONSE:
            return
        clock, resource, form = self._auditor.clock, reply.resource or request.resource, replace(form, media=forms.JSON)
        if isinstance(reply.answer, Page):
            body = await forms.encode_page(reply.answer, resource, form, clock)
        else:
            body = forms.encode_object(reply.answer, resource, form, clock.now())
        self._response = self._shown(orjson.loads(body)) if self._verdict.omit_managed_fields else orjson.Fragment(body)

    # --- stages ------------------------------------------------------------------------------------------------------

    def started(self, code: int) -> None:
        """The head of a long answer goes out."""
        if self._long and not self._started:
            self._started = True
            self._status = {"metadata": {}, "code": code}
            self.stage(STARTED)

    def complete(self, code: int, error: ApiError | None = None) -> None:
        if error is None:
            self.started(code)
            self._status = {"metadata": {}, "code": code}
        else:
            status = error.to_status()
            self._status = {key: status[key] for key in _STATUS if key in status}
            if self._verdict.level == REQUEST_RESPONSE and self._reference is not None:
                self._response = status
        self.stage(COMPLETE)

    def broke_off(self) -> None:
        """Its client went away, or this server ends."""
        if self._status is None:
            self._status = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
        self.stage(COMPLETE)

    def panic(self, error: Exception) -> None:
        """A fault of ours ended the request."""
        status = InternalError(f"APIServer panic'd: {type(error).__name__}").to_status()
        self._status = {key: status[key] for key in _STATUS if key in status}
        self.stage(PANIC)

    def stage(self, name: str) -> None:
        if name in self._verdict.omitted:
            return
        now = self._begun if name == RECEIVED else rfc3339_micro(self._auditor.clock.now())
        event: dict[str, Any] = {"stage": name, "stageTimestamp": now}
        if self._status is not None:
            event["responseStatus"] = self._status
        if self._request is not None:
            event["requestObject"] = self._request
        if self._response is not None:
            event["responseObject"] = self._response
        hidden = PATCH_ANNOTATION if self._verdict.level == METADATA else ()
        if annotations := {key: text for key, text in sorted(self.annotations.items()) if not key.startswith(hidden)}:
            event["annotations"] = annotations
        if not self._encoded:
            self._encoded = orjson.dumps(self._known)[:-1]
        self._auditor.write(b"%b,%b" % (self._encoded, orjson.dumps(event)[1:]))

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
