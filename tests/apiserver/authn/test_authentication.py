"""Who asks: the chain, service-account tokens (KEP-1205, KEP-4193), impersonation (KEP-5284 and the older form)."""

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest

from minik8s.api.errors import BadRequest, Forbidden, Unauthorized
from minik8s.api.resources import NODES, PODS, SERVICEACCOUNTS
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, MASTERS, User, service_account
from minik8s.apiserver.authn import (
    ADMIN,
    Authenticator,
    Connections,
    InvalidToken,
    admin_token,
    certificate_user,
    peer_user,
    static_tokens,
)
from minik8s.apiserver.authn.impersonation import impersonate, wanted_user
from minik8s.apiserver.authn.serviceaccounts import API_AUDIENCES, ISSUER, ServiceAccountTokens
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.contract import Attributes
from minik8s.base import jointoken, pki
from minik8s.base.clock import RealClock, rfc3339

KEY = pki.new_key()
TOKEN = jointoken.token_for("s3cret", jointoken.NODE, b"ca")


class SetClock(RealClock):
    at = 1_800_000_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def account(name: str = "robot", uid: str = "sa-1", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ns", "uid": uid, **metadata}}


def pod(uid: str = "pod-1", **metadata: Any) -> dict[str, Any]:
    named = {"name": "p", "namespace": "ns", "uid": uid, **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": {"nodeName": "n1", "serviceAccountName": "robot"}}


def node(uid: str = "node-1") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": uid}}


@pytest.fixture
def tokens(shelf: Any, clock: SetClock) -> ServiceAccountTokens:
    shelf.put(account(), pod(), node())
    return ServiceAccountTokens(KEY, shelf, clock)


@pytest.fixture
def chain(tokens: ServiceAccountTokens, shelf: Any, clock: SetClock) -> Authenticator:
    return Authenticator(static_tokens("admin-token", TOKEN), tokens, shelf, clock)


# --- the chain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        (None, ANONYMOUS),
        ("", ANONYMOUS),
        ("Basic YTpi", ANONYMOUS),
        ("Bearer admin-token", ADMIN),
        ("bearer  admin-token ", ADMIN),
        (f"Bearer {TOKEN}", User("system:bootstrap:node", ("system:bootstrappers", AUTHENTICATED))),
        ("Bearer s3cret", User("system:bootstrap:node", ("system:bootstrappers", AUTHENTICATED))),
    ],
)
def test_what_a_header_shows(chain: Authenticator, authorization: str | None, user: User) -> None:
    assert chain.authenticate(authorization) == user
    assert chain.authenticate(authorization) == user


@pytest.mark.parametrize("token", ["wrong", "a.b.c", "admin-token2", "é", "K10" + "a" * 64 + "::node:s3cret"])
def test_a_wrong_token_is_never_anonymous(chain: Authenticator, token: str) -> None:
    for _ in range(2):
        with pytest.raises(Unauthorized):
            chain.authenticate(f"Bearer {token}")


def test_certificate_before_header_before_peer(chain: Authenticator) -> None:
    jane = User("jane", (AUTHENTICATED,))
    assert chain.authenticate("Bearer wrong", certificate=jane) == jane
    assert chain.authenticate(None, peer=ADMIN) == ADMIN
    assert chain.authenticate("", peer=ADMIN) == ANONYMOUS


def test_a_certificates_subject_is_the_user(clock: SetClock) -> None:
    subject = ((("organizationName", "system:nodes"),), (("organizationName", "a"),), (("commonName", "system:node:n1"),))
    assert certificate_user({"subject": subject}) == User("system:node:n1", ("system:nodes", "a", AUTHENTICATED))
    assert certificate_user({"subject": ((("organizationName", "a"),),)}) is None
    assert certificate_user(None) is None
    assert certificate_user({}) is None


def test_the_peer_of_a_unix_socket_is_the_admin() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_user(ours) == ADMIN
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert peer_user(server) is None


async def test_a_connection_is_asked_once(tmp_path: Path) -> None:
    connections = Connections()
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend([connections.users(writer.transport), connections.users(writer.transport)])
        writer.close()

    cluster = pki.ClusterPKI.load_or_create(tmp_path / "tls", RealClock())
    pki.write_pair(cluster.client_ca.client("jane", ["g"]), tmp_path / "c.crt", tmp_path / "c.key")
    context = pki.client_context(cluster.server_ca.pair.certificate, tmp_path / "c.crt", tmp_path / "c.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=cluster.server_context(["localhost"]))
    local = await asyncio.start_unix_server(serve, str(tmp_path / "s"))
    async with server, local:
        for reader, writer in (
            await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1], ssl=context),
            await asyncio.open_unix_connection(str(tmp_path / "s")),
        ):
            await reader.read()
            writer.close()
    jane = User("jane", ("g", AUTHENTICATED))
    assert seen == [(jane, None), (jane, None), (None, ADMIN), (None, ADMIN)]


def test_the_admin_token_is_kept_private(tmp_path: Path) -> None:
    made = admin_token(tmp_path / "t")
    assert admin_token(tmp_path / "t") == made
    assert len(made) == 64
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600


# --- service accounts ------------------------------------------------------------------------------------------------------


def test_a_tokens_user(chain: Authenticator, tokens: ServiceAccountTokens) -> None:
    user = chain.authenticate("Bearer " + tokens.issue(account(), API_AUDIENCES, 600))
    groups = ("system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED)
    assert (user.name, user.groups, user.uid) == ("system:serviceaccount:ns:robot", groups, "sa-1")
    assert list(user.extra) == ["authentication.kubernetes.io/credential-id"]
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")


def test_a_pods_token_tells_pod_and_node(chain: Authenticator, tokens: ServiceAccountTokens) -> None:
    user = chain.authenticate("Bearer " + tokens.issue(account(), API_AUDIENCES, 600, pod()))
    assert {key.partition("/")[2]: value for key, value in user.extra.items() if "credential" not in key} == {
        "node-name": ("n1",),
        "node-uid": ("node-1",),
        "pod-name": ("p",),
        "pod-uid": ("pod-1",),
    }


def test_others_can_verify_a_token_with_the_published_keys(tokens: ServiceAccountTokens) -> None:
    """OpenID Connect Discovery, RFC 7517: PyJWT as the other side."""
    token = tokens.issue(account(), ["vault"], 600)
    key = jwt.PyJWKSet.from_dict(tokens.key_set())[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token, key, ["ES256"], audience="vault", issuer=ISSUER, options={"verify_nbf": False, "verify_iat": False}
    )
    assert claims["sub"] == "system:serviceaccount:ns:robot"
    assert claims["kubernetes.io"] == {"namespace": "ns", "serviceaccount": {"name": "robot", "uid": "sa-1"}}
    assert tokens.discovery()["issuer"] == ISSUER


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda shelf, clock: setattr(clock, "at", clock.at + 601), "service account token has expired"),
        (lambda shelf, clock: setattr(clock, "at", clock.at - 100), "service account token is not valid yet"),
        (lambda shelf, clock: shelf.drop(SERVICEACCOUNTS, "ns", "robot"), 'serviceaccounts "robot" not found'),
        (lambda shelf, clock: shelf.put(account(uid="sa-2")), "service account UID (sa-2) does not match claim (sa-1)"),
        (lambda shelf, clock: shelf.drop(PODS, "ns", "p"), "service account token has been invalidated"),
        (lambda shelf, clock: shelf.put(pod(uid="pod-2")), "pod UID (pod-2) does not match claim (pod-1)"),
        (
            lambda shelf, clock: shelf.put(pod(deletionTimestamp=rfc3339(clock.at - 61))),
            "service account token has been invalidated",
        ),
    ],
)
def test_a_token_ends_with_what_it_is_bound_to(
    chain: Authenticator, tokens: ServiceAccountTokens, shelf: Any, clock: SetClock, change: Any, reason: str
) -> None:
    token = tokens.issue(account(), API_AUDIENCES, 600, pod())
    assert chain.authenticate(f"Bearer {token}").uid == "sa-1"
    change(shelf, clock)
    with pytest.raises(InvalidToken) as error:
        chain.review(token, API_AUDIENCES)
    assert str(error.value) == f"[invalid bearer token, {reason}]"
    if "not valid yet" not in reason:  # a clock that goes back doesn't take back what was verified
        with pytest.raises(Unauthorized):
            chain.authenticate(f"Bearer {token}")


def test_a_terminating_pods_token_has_a_minute(
    chain: Authenticator, tokens: ServiceAccountTokens, shelf: Any, clock: SetClock
) -> None:
    header = "Bearer " + tokens.issue(account(), API_AUDIENCES, 6000, pod())
    shelf.put(pod(deletionTimestamp=rfc3339(clock.at)))
    assert chain.authenticate(header).uid == "sa-1"
    clock.at += 61
    with pytest.raises(Unauthorized):
        chain.authenticate(header)


def test_a_change_of_the_node_matters_to_node_tokens_only(
    chain: Authenticator, tokens: ServiceAccountTokens, shelf: Any
) -> None:
    of_node = "Bearer " + tokens.issue(account(), API_AUDIENCES, 600, node())
    of_pod = "Bearer " + tokens.issue(account(), API_AUDIENCES, 600, pod())
    assert chain.authenticate(of_node) == chain.authenticate(of_node)
    shelf.drop(NODES, "", "n1")
    with pytest.raises(Unauthorized):
        chain.authenticate(of_node)
    assert chain.authenticate(of_pod).uid == "sa-1"


def test_audiences_must_meet(chain: Authenticator, tokens: ServiceAccountTokens) -> None:
    token = tokens.issue(account(), ["elsewhere"], 600)
    with pytest.raises(Unauthorized):
        chain.authenticate(f"Bearer {token}")
    assert chain.review(token, ("third", "elsewhere")).audiences == ("elsewhere",)
    with pytest.raises(InvalidToken) as error:
        chain.review(token, API_AUDIENCES)
    assert str(error.value) == (
        '[invalid bearer token, token audiences ["elsewhere"] is invalid for the target audiences '
        '["https://kubernetes.default.svc"]]'
    )


def test_another_servers_token_is_a_strangers(chain: Authenticator, shelf: Any, clock: SetClock) -> None:
    stranger = ServiceAccountTokens(pki.new_key(), shelf, clock)
    other_issuer = ServiceAccountTokens(KEY, shelf, clock, issuer="https://other")
    unsigned = jwt.encode({"iss": ISSUER, "aud": list(API_AUDIENCES)}, "", algorithm="none")
    for token in (*(each.issue(account(), API_AUDIENCES, 600) for each in (stranger, other_issuer)), unsigned):
        with pytest.raises(InvalidToken, match=r"^invalid bearer token$"):
            chain.review(token, API_AUDIENCES)


def test_projected_tokens_live_longer_for_clients_that_never_read_again(tokens: ServiceAccountTokens, clock: SetClock) -> None:
    def lifetime(audiences: tuple[str, ...], bound: Any) -> float:
        token = tokens.issue(account(), audiences, 3607, bound)
        return tokens.verify(token, audiences).expires - clock.at

    assert lifetime(API_AUDIENCES, pod()) == 365 * 24 * 3600
    assert lifetime(API_AUDIENCES, None) == 3607
    assert lifetime(("vault",), pod()) == 3607


# --- impersonation ---------------------------------------------------------------------------------------------------------

JANE = User("jane", (AUTHENTICATED,))
LIST_NODES = Attributes(JANE, "list", "", "v1", "nodes")


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ([("Impersonate-User", "bob")], User("bob", (AUTHENTICATED,))),
        (
            [
                ("impersonate-user", "bob"),
                ("Impersonate-Group", "team"),
                ("Impersonate-Uid", "42"),
                ("Impersonate-Extra-Scopes", "x"),
                ("Impersonate-Extra-Scopes", "y"),
                ("Impersonate-Extra-example.org%2fkey", "z"),
            ],
            User("bob", ("team", AUTHENTICATED), "42", {"example.org/key": ("z",), "scopes": ("x", "y")}),
        ),
        ([("Impersonate-User", "system:serviceaccount:ns:a")], service_account("ns", "a")),
        ([("Impersonate-User", "system:anonymous")], ANONYMOUS),
        ([("Impersonate-User", "system:node:n")], User("system:node:n", ("system:nodes", AUTHENTICATED))),
        (
            [("Impersonate-User", "system:node:n"), ("Impersonate-Group", "system:nodes")],
            User("system:node:n", ("system:nodes", AUTHENTICATED)),
        ),
        ([("Impersonate-User", "bob"), ("Impersonate-Group", MASTERS)], User("bob", (MASTERS, AUTHENTICATED))),
    ],
)
def test_the_admin_acts_as_anybody(shelf: Any, headers: list[tuple[str, str]], user: User) -> None:
    wanted = wanted_user([("Accept", "*/*"), *headers])
    assert wanted
    assert impersonate(wanted, Attributes(ADMIN, "list", resource="nodes"), authorizer_for(shelf))[0] == user


def test_nobody_is_wanted_without_headers_and_groups_need_a_user() -> None:
    assert wanted_user([("Accept", "*/*"), ("Impersonate", "x"), ("Impersonate-User", "")]) is None
    for header in ("Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-a"):
        with pytest.raises(BadRequest):
            wanted_user([(header, "x")])


def grant(shelf: Any, *rules: tuple[str, str, str]) -> None:
    made = [{"verbs": [verb], "apiGroups": [group], "resources": [resource]} for verb, group, resource in rules]
    version = "rbac.authorization.k8s.io/v1"
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
    shelf.put(
        {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": made},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"},
            "roleRef": ref,
            "subjects": [{"kind": "User", "name": "jane"}],
        },
    )


@pytest.mark.parametrize(
    ("user", "mode"),
    [("bob", "user-info"), ("system:serviceaccount:ns:a", "serviceaccount"), ("system:node:n", "arbitrary-node")],
)
def test_a_refusal_names_the_first_missing_right(shelf: Any, user: str, mode: str) -> None:
    with pytest.raises(Forbidden) as error:
        impersonate(User(user), LIST_NODES, authorizer_for(shelf))
    assert error.value.message == (
        f'nodes is forbidden: User "jane" cannot impersonate-on:{mode}:list resource "nodes" in API group "" at the cluster scope'
    )
    assert error.value.details == {"kind": "nodes"}


def test_the_older_right_covers_every_request(shelf: Any) -> None:
    grant(shelf, ("impersonate", "", "users"))
    authorizer = authorizer_for(shelf)
    assert impersonate(User("bob"), LIST_NODES, authorizer) == (User("bob", (AUTHENTICATED,)), "")
    with pytest.raises(Forbidden):
        impersonate(User("bob", ("team",)), LIST_NODES, authorizer)
    with pytest.raises(Forbidden):
        impersonate(User("bob", (), "42"), LIST_NODES, authorizer)


def test_the_constrained_right_covers_what_it_names(shelf: Any) -> None:
    grant(
        shelf,
        ("impersonate:user-info", "authentication.k8s.io", "users"),
        ("impersonate:user-info", "authentication.k8s.io", "groups"),
        ("impersonate-on:user-info:list", "", "nodes"),
    )
    authorizer = authorizer_for(shelf)
    assert impersonate(User("bob", ("team",)), LIST_NODES, authorizer) == (
        User("bob", ("team", AUTHENTICATED)),
        "impersonate:user-info",
    )
    with pytest.raises(Forbidden):
        impersonate(User("bob"), Attributes(JANE, "list", resource="pods"), authorizer)
    with pytest.raises(Forbidden):
        impersonate(User("bob", (MASTERS,)), LIST_NODES, authorizer)


def test_a_token_is_verified_once(chain: Authenticator, tokens: ServiceAccountTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "Bearer " + tokens.issue(account(), API_AUDIENCES, 600, pod())
    first = chain.authenticate(header)
    monkeypatch.delattr(ServiceAccountTokens, "verify")
    assert chain.authenticate(header) == first
