"""Reviews and token requests, as upstream 1.36 answered them."""

from typing import Any

import jwt
import pytest

from minik8s.api.errors import ApiError, BadRequest, Invalid
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import bootstrap, reviews
from minik8s.apiserver.authn import ADMIN, Authenticator, static_tokens
from minik8s.apiserver.authn.serviceaccounts import ServiceAccountTokens
from minik8s.apiserver.authz import authorizer_for
from minik8s.base import pki
from minik8s.base.clock import RealClock

JANE = User("jane", (AUTHENTICATED,))
NOW = 1_800_000_000.0


@pytest.fixture
def chain(shelf: Any) -> Authenticator:
    shelf.put(
        *bootstrap.objects(),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "ns", "uid": "sa-1"}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "pod-1"},
            "spec": {"serviceAccountName": "a"},
        },
    )
    clock = RealClock()
    return Authenticator(static_tokens("admin"), ServiceAccountTokens(pki.new_key(), shelf, clock), shelf, clock)


def review(kind: str, group: str = "authorization.k8s.io", metadata: Any = None, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata or {}, "spec": spec}


def asked(**spec: Any) -> dict[str, Any]:
    return review("SubjectAccessReview", **spec)


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"user": "x", "groups": [MASTERS], "resourceAttributes": {"verb": "delete", "resource": "nodes"}}, {"allowed": True}),
        ({"user": "x", "resourceAttributes": {"verb": "delete", "resource": "nodes"}}, {"allowed": False}),
        (
            {"groups": [AUTHENTICATED], "nonResourceAttributes": {"path": "/version", "verb": "get"}},
            {
                "allowed": True,
                "reason": 'RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group '
                '"system:authenticated"',
            },
        ),
        (
            {
                "user": "system:node:n1",
                "groups": ["system:nodes"],
                "resourceAttributes": {"namespace": "ns", "verb": "get", "resource": "secrets", "name": "s"},
            },
            {"allowed": False, "reason": "no relationship found between node 'n1' and this object"},
        ),
        (
            {
                "user": "system:node:n1",
                "groups": ["system:nodes"],
                "resourceAttributes": {
                    "verb": "list",
                    "resource": "pods",
                    "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]},
                },
            },
            {"allowed": True},
        ),
    ],
)
def test_access_reviews(chain: Authenticator, shelf: Any, spec: dict[str, Any], status: dict[str, Any]) -> None:
    question = asked(**spec)
    answer = reviews.access_review(question, reviews.subject_of(question), authorizer_for(shelf))
    assert answer == question | {"status": status}


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            asked(user="a"),
            '.authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of '
            "nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            review("LocalSubjectAccessReview", metadata={"namespace": "ns"}, user="a", resourceAttributes={"verb": "list"}),
            '.authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "": '
            "must match metadata.namespace",
        ),
    ],
)
def test_errors_of_reviews_name_no_kind(chain: Authenticator, shelf: Any, question: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as error:
        reviews.access_review(question, JANE, authorizer_for(shelf))
    assert error.value.message == message
    assert set(error.value.details or {}) == {"causes", "group"}


def test_the_rules_that_somebody_holds(chain: Authenticator, shelf: Any) -> None:
    answer = reviews.rules_review(review("SelfSubjectRulesReview", namespace="ns"), JANE, authorizer_for(shelf).rbac)
    assert answer["spec"] == {}
    assert answer["status"]["incomplete"] is False
    assert {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]} in (
        answer["status"]["resourceRules"]
    )
    assert [rule["verbs"] for rule in answer["status"]["nonResourceRules"]] == [["get"], ["get"]]
    with pytest.raises(BadRequest, match="no namespace on request"):
        reviews.rules_review(review("SelfSubjectRulesReview"), JANE, authorizer_for(shelf).rbac)


def test_who_am_i() -> None:
    user = User("jane", ("team", AUTHENTICATED), "42", {"scopes": ("x",)})
    answer = reviews.self_review(review("SelfSubjectReview", "authentication.k8s.io"), user, NOW)
    assert answer["metadata"] == {"creationTimestamp": "2027-01-15T08:00:00Z"}
    assert answer["status"] == {
        "userInfo": {"username": "jane", "uid": "42", "groups": ["team", AUTHENTICATED], "extra": {"scopes": ["x"]}}
    }


def token_review(chain: Authenticator, token: str, *audiences: str) -> Any:
    spec: dict[str, Any] = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    return reviews.token_review(review("TokenReview", "authentication.k8s.io", **spec), chain)["status"]


def request_token(chain: Authenticator, shelf: Any, metadata: Any = None, **spec: Any) -> Any:
    request = review("TokenRequest", "authentication.k8s.io", metadata, **spec)
    reviews.prepare_token_request(request, "ns", "a", shelf)
    return reviews.issue_token(request, shelf, chain, NOW)


def test_whose_token_is_it(chain: Authenticator, shelf: Any) -> None:
    token = request_token(chain, shelf)["status"]["token"]
    elsewhere = request_token(chain, shelf, audiences=["elsewhere"])["status"]["token"]
    mine = token_review(chain, token)
    assert (mine["authenticated"], mine["audiences"], mine["user"]["uid"]) == (True, ["https://kubernetes.default.svc"], "sa-1")
    assert token_review(chain, elsewhere, "elsewhere", "third")["audiences"] == ["elsewhere"]
    assert token_review(chain, elsewhere)["error"].startswith("[invalid bearer token, token audiences")
    assert token_review(chain, "wrong") == {"error": "invalid bearer token", "user": {}}
    assert token_review(chain, "admin")["user"]["username"] == ADMIN.name
    assert token_review(chain, "admin", "elsewhere") == {"error": "invalid bearer token", "user": {}}
    with pytest.raises(BadRequest):
        token_review(chain, "")


def test_a_token_on_request(chain: Authenticator, shelf: Any) -> None:
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "pod-1"}
    answer = request_token(chain, shelf, audiences=["x"], expirationSeconds=7200, boundObjectRef=bound)
    token = answer["status"].pop("token")
    assert answer == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": "a", "namespace": "ns", "uid": "sa-1", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "spec": {"audiences": ["x"], "expirationSeconds": 7200, "boundObjectRef": bound},
        "status": {"expirationTimestamp": "2027-01-15T10:00:00Z"},
    }
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["kubernetes.io"]["pod"] == {"name": "p", "uid": "pod-1"}
    assert claims["exp"] - claims["iat"] == 7200
    assert request_token(chain, shelf)["spec"] == {
        "audiences": ["https://kubernetes.default.svc"],
        "expirationSeconds": 3600,
        "boundObjectRef": None,
    }


@pytest.mark.parametrize(
    ("metadata", "spec", "message"),
    [
        ({}, {"expirationSeconds": 60}, "may not specify a duration less than 10 minutes"),
        ({}, {"expirationSeconds": 1 << 33}, "may not specify a duration larger than 2^32 seconds"),
        ({"name": "other"}, {}, "must match the service account name if specified"),
        ({}, {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "nope"}}, 'pods "nope" not found'),
        ({}, {"boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": "nope"}}, 'nodes "nope" not found'),
        (
            {},
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "nope"}},
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            {},
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "old"}},
            "the UID in the bound object reference (old) does not match the UID in record",
        ),
        ({"uid": "old"}, {}, "does not match the UID of the service account"),
    ],
)
def test_requests_that_get_no_token(
    chain: Authenticator, shelf: Any, metadata: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiError) as error:
        request_token(chain, shelf, metadata, **spec)
    assert message in error.value.message
