"""Questions that are answered and never stored: may they do that, whose token is this, who am I; and tokens on request.

The functions are pure: a review in, the answered review out; `install` puts them where the front desk looks. What a review may hold
is checked by its kind (`api/kinds/reviews.py`); errors of access reviews name an empty kind, as upstream's do.
Sources: the API reference of authorization.k8s.io and authentication.k8s.io.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import BadRequest, Conflict, Invalid, invalid, invalid_object, object_not_found
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds import reviews as kinds
from minik8s.api.kinds.table import rules_of
from minik8s.api.resources import (
    LOCALSUBJECTACCESSREVIEWS,
    NODES,
    PODS,
    SECRETS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SERVICEACCOUNTS,
    SUBJECTACCESSREVIEWS,
    TOKENREVIEWS,
    Resource,
)
from minik8s.api.selectors import EQUALS, FieldRequirement, FieldSelector, parse_fields
from minik8s.api.user import User, user_info
from minik8s.apiserver import bodies
from minik8s.apiserver.authn import Authenticator, InvalidToken
from minik8s.apiserver.authn.notyet import NotYet
from minik8s.apiserver.authz import Chain
from minik8s.apiserver.authz.rbac import RBAC
from minik8s.apiserver.bodies import TypeOf
from minik8s.apiserver.contract import Attributes, Authorizer, Decision, Operation, Reader
from minik8s.apiserver.frontdesk import FrontDesk, Handler, Reply
from minik8s.apiserver.request import Request
from minik8s.base.clock import rfc3339

TOKEN_REQUEST = TypeOf("authentication.k8s.io", "v1", "TokenRequest")
Answer = Callable[[Object, User], Object]


def install(desk: FrontDesk, authorizer: Chain, authenticator: Authenticator) -> None:
    """Makes the front desk answer all reviews and issue tokens."""
    answers: Mapping[Resource, Answer] = {
        SUBJECTACCESSREVIEWS: lambda review, _: access_review(review, subject_of(review), authorizer),
        LOCALSUBJECTACCESSREVIEWS: lambda review, _: access_review(review, subject_of(review), authorizer),
        SELFSUBJECTACCESSREVIEWS: lambda review, user: access_review(review, user, authorizer),
        SELFSUBJECTRULESREVIEWS: lambda review, user: rules_review(review, user, authorizer.rbac),
        SELFSUBJECTREVIEWS: lambda review, user: self_review(review, user, desk.clock.now()),
        TOKENREVIEWS: lambda review, _: token_review(review, authenticator),
    }
    for resource, answer in answers.items():
        desk.reviews[resource] = _handler(desk, resource, answer)

    async def token(request: Request) -> Reply:
        asked = bodies.object_of(request, TOKEN_REQUEST)
        prepare_token_request(asked, request.namespace, request.name, desk.reader)
        await desk.registry.admission.admit(request, Operation.CREATE, asked)
        return Reply(201, issue_token(asked, desk.reader, authenticator, desk.clock.now()))

    desk.subresources[SERVICEACCOUNTS, "token"] = token


def _handler(desk: FrontDesk, resource: Resource, answer: Answer) -> Handler:
    async def handler(request: Request) -> Reply:
        review = bodies.object_of(request, TypeOf.of(resource))
        bodies.check_namespace(request, review)
        if resource.namespaced:
            review["metadata"]["namespace"] = request.namespace
        else:
            review["metadata"].pop("namespace", None)
        await desk.registry.admission.admit(request, Operation.CREATE, review)
        try:
            return Reply(201, answer(review, request.user))
        except NotYet as keys:
            await asyncio.shield(keys.fetched)
            return Reply(201, answer(review, request.user))

    return handler


# --- may they? -----------------------------------------------------------------------------------------------------------


def access_review(review: Object, user: User, authorizer: Authorizer) -> Object:
    """A SubjectAccessReview (Local, Self) with its status. Invalid where its spec is."""
    resource = {
        "SubjectAccessReview": SUBJECTACCESSREVIEWS,
        "LocalSubjectAccessReview": LOCALSUBJECTACCESSREVIEWS,
        "SelfSubjectAccessReview": SELFSUBJECTACCESSREVIEWS,
    }[review["kind"]]
    if errors := rules_of(resource).validate(review):
        error = invalid_object("", resource.group, "", errors)
        raise Invalid(error.message, {key: value for key, value in (error.details or {}).items() if value})
    decision, reason = authorizer.authorize(_attributes(review["spec"], user))
    status: Object = {"allowed": decision is Decision.ALLOW}
    if decision is Decision.DENY:
        status["denied"] = True
    return review | {"status": status | ({"reason": reason} if reason else {})}


def subject_of(review: Frozen) -> User:
    """The user that a SubjectAccessReview speaks of."""
    spec = review.get("spec") or {}
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def rules_review(review: Object, user: User, rbac: RBAC) -> Object:
    """A SelfSubjectRulesReview: what the user holds by roles in a namespace. It can't tell what other authorizers give."""
    namespace = (review.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request")
    rules, errors = rbac.rules_for(user, namespace)
    status: Object = {
        "resourceRules": [dict(rule) for rule in rules if rule.get("resources")],
        "nonResourceRules": [dict(rule) for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": bool(errors),
    }
    if errors:
        status["evaluationError"] = ", ".join(errors)
    return review | {"spec": {}, "status": status}


def _attributes(spec: Frozen, user: User) -> Attributes:
    if other := spec.get("nonResourceAttributes"):
        return Attributes(user, other.get("verb", ""), path=other.get("path", ""))
    asked = spec["resourceAttributes"]
    parts = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
    selector = _field_selector(asked.get("fieldSelector"))
    return Attributes(user, **{part: asked.get(part, "") for part in parts}, fields=selector)


def _field_selector(selector: Frozen | None) -> FieldSelector | None:
    """As far as it asks for exact values: more than that no authorizer looks at."""
    if not selector:
        return None
    if raw := selector.get("rawSelector"):
        try:
            return parse_fields(raw)
        except BadRequest:
            return None
    exact = [
        FieldRequirement(each.get("key", ""), EQUALS, each["values"][0])
        for each in selector.get("requirements") or ()
        if each.get("operator") == "In" and len(each.get("values") or ()) == 1
    ]
    return FieldSelector(tuple(exact))


# --- who is it? ----------------------------------------------------------------------------------------------------------


def self_review(review: Object, user: User, now: float) -> Object:
    """A SelfSubjectReview: who the server takes the user for."""
    return review | {"metadata": {"creationTimestamp": rfc3339(now)}, "status": {"userInfo": user_info(user)}}


def token_review(review: Object, authenticator: Authenticator) -> Object:
    """A TokenReview: whose token it is, and for which of the asked audiences (the API server's own where none are asked)."""
    spec = review.get("spec") or {}
    if not (token := spec.get("token", "")):
        raise BadRequest("token is required for TokenReview in authentication")
    try:
        identity = authenticator.review(token, tuple(spec.get("audiences") or authenticator.accounts.audiences))
    except InvalidToken as error:
        return review | {"metadata": {}, "status": {"error": str(error), "user": {}}}
    status = {"authenticated": True, "user": user_info(identity.user), "audiences": list(identity.audiences)}
    return review | {"metadata": {}, "status": status}


# --- tokens --------------------------------------------------------------------------------------------------------------

_BINDABLE = {"Pod": PODS, "Node": NODES, "Secret": SECRETS}


def prepare_token_request(request: Object, namespace: str, name: str, reader: Reader) -> None:
    """Fills in a TokenRequest for the ServiceAccount of the URL and checks it. NotFound, Invalid, Conflict."""
    metadata = request["metadata"]
    for field, wanted in (("name", name), ("namespace", namespace)):
        if metadata.get(field, wanted) not in ("", wanted):
            wrong = invalid(f"metadata.{field}", metadata[field], f"must match the service account {field} if specified")
            raise invalid_object(TOKEN_REQUEST.kind, TOKEN_REQUEST.group, name, [wrong])
    account = _get(reader, SERVICEACCOUNTS, namespace, name)
    uid = account["metadata"]["uid"]
    if metadata.get("uid", uid) not in ("", uid):
        raise Conflict(
            f'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "{name}": the UID in the token request '
            f"({metadata['uid']}) does not match the UID of the service account ({uid})",
            {"name": name, "group": TOKEN_REQUEST.group, "kind": TOKEN_REQUEST.kind},
        )
    kinds.TOKEN_REQUEST.default(request)
    spec = request["spec"]
    spec.setdefault("boundObjectRef", None)
    if errors := kinds.TOKEN_REQUEST.validate(request):
        raise invalid_object(TOKEN_REQUEST.kind, TOKEN_REQUEST.group, "", errors)
    request["metadata"] = {"name": name, "namespace": namespace, "uid": uid}


def issue_token(request: Object, reader: Reader, authenticator: Authenticator, now: float) -> Object:
    """The prepared TokenRequest with its token. NotFound or Conflict where what it is to be bound to isn't there."""
    metadata, spec = request["metadata"], request["spec"]
    account = _get(reader, SERVICEACCOUNTS, metadata["namespace"], metadata["name"])
    bound = _bound_object(spec["boundObjectRef"], account, reader) if spec["boundObjectRef"] else None
    spec["audiences"] = spec.get("audiences") or list(authenticator.accounts.audiences)
    seconds = spec["expirationSeconds"]
    token = authenticator.accounts.issue(account, spec["audiences"], seconds, bound)
    status = {"token": token, "expirationTimestamp": rfc3339(now + seconds)}
    return request | {"metadata": metadata | {"creationTimestamp": rfc3339(now)}, "status": status}


def _bound_object(reference: Frozen, account: Frozen, reader: Reader) -> Frozen:
    kind, version, name = reference.get("kind", ""), reference.get("apiVersion", ""), reference.get("name", "")
    resource = _BINDABLE.get(kind) if version == "v1" else None
    if resource is None:
        shown = version if "/" in version else f"/{version}"
        raise BadRequest(f"cannot bind token to object of type {shown}, Kind={kind}")
    obj = _get(reader, resource, account["metadata"]["namespace"] if resource.namespaced else "", name)
    if resource is PODS and obj["spec"].get("serviceAccountName") != (account_name := account["metadata"]["name"]):
        raise BadRequest(
            f'cannot bind token for serviceaccount "{account_name}" to pod running with different serviceaccount name.'
        )
    if reference.get("uid") and reference["uid"] != obj["metadata"]["uid"]:
        raise Conflict(
            f'Operation cannot be fulfilled on {kind} "{name}": the UID in the bound object reference ({reference["uid"]}) does '
            "not match the UID in record. The object might have been deleted and then recreated",
            {"name": name, "kind": kind},
        )
    return obj


def _get(reader: Reader, resource: Resource, namespace: str, name: str) -> Mapping[str, Any]:
    obj = reader.get(resource, namespace, name)
    if obj is None:
        raise object_not_found(resource, name)
    return obj
