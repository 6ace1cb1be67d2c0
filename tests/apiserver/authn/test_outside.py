"""Tokens that come from outside: files, bootstrap tokens, older ServiceAccount tokens, OpenID Connect ("Authenticating")."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from minik8s.api.resources import SECRETS, SERVICEACCOUNTS
from minik8s.api.user import AUTHENTICATED, User
from minik8s.apiserver.authn import Authenticator, InvalidToken, StaticTokens, token_file
from minik8s.apiserver.authn.notyet import NotYet
from minik8s.apiserver.authn.oidc import REFETCH, OpenIDConnect
from minik8s.apiserver.authn.oidc_config import issuer_of_flags, issuers_of
from minik8s.apiserver.authn.serviceaccounts import API_AUDIENCES, INVALID_SINCE, LAST_USED, ServiceAccountTokens
from minik8s.base import pki
from minik8s.base.clock import RealClock

NOW = 1_800_000_000.0


class SetClock(RealClock):
    at = NOW
    ticks = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.ticks


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


# --- a file --------------------------------------------------------------------------------------------------------------


def test_a_file_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text('t1,alice,1,"dev,ops"\nt2, bob, 2\n\n,nobody,3\n')
    assert token_file.read(file) == {
        "t1": User("alice", ("dev", "ops", AUTHENTICATED), "1"),
        "t2": User("bob", (AUTHENTICATED,), "2"),
    }
    file.write_text("t1,alice,1\nt2,bob\n")
    with pytest.raises(ValueError, match="line 2"):
        token_file.read(file)


# --- bootstrap tokens ----------------------------------------------------------------------------------------------------


def bootstrap(**data: str) -> dict[str, Any]:
    texts = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"} | {
        key.replace("_", "-"): value for key, value in data.items()
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in texts.items()},
    }


@pytest.fixture
def chain(shelf: Any, clock: SetClock) -> Authenticator:
    return Authenticator(StaticTokens({}), ServiceAccountTokens(pki.new_key(), shelf, clock), shelf, clock)


def test_a_bootstrap_token_counts_while_its_secret_does(shelf: Any, clock: SetClock, chain: Authenticator) -> None:
    shelf.put(bootstrap(auth_extra_groups="system:bootstrappers:x", expiration="2027-01-15T08:00:10Z"))
    token = "Bearer abcdef.0123456789abcdef"
    groups = ("system:bootstrappers", "system:bootstrappers:x", AUTHENTICATED)
    assert chain.authenticate(token) == User("system:bootstrap:abcdef", groups)
    clock.at += 11
    with pytest.raises(Exception, match="Unauthorized"):
        chain.authenticate(token)


@pytest.mark.parametrize(
    "secret",
    [
        bootstrap(token_secret="0123456789abcdeg"),
        bootstrap(token_id="fedcba"),
        bootstrap(usage_bootstrap_authentication="false"),
        bootstrap(expiration="tomorrow"),
        bootstrap(auth_extra_groups="system:masters"),
        {**bootstrap(), "type": "Opaque"},
    ],
)
def test_what_is_no_bootstrap_token(shelf: Any, chain: Authenticator, secret: dict[str, Any]) -> None:
    shelf.put(secret)
    with pytest.raises(InvalidToken):
        chain.review("abcdef.0123456789abcdef", API_AUDIENCES)


# --- older ServiceAccount tokens -----------------------------------------------------------------------------------------


def test_an_older_token_lives_in_its_secret(shelf: Any, clock: SetClock, chain: Authenticator) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "ns", "uid": "u"}}
    token = chain.accounts.legacy(account, "s")
    metadata: dict[str, Any] = {"name": "s", "namespace": "ns"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"token": base64.b64encode(token.encode())}}
    shelf.put(account, secret)
    used: list[str] = []
    chain.accounts.used = lambda secret, day: used.append(day)
    assert chain.authenticate(f"Bearer {token}").name == "system:serviceaccount:ns:robot"
    assert used == ["2027-01-15"]
    shelf.put({**secret, "metadata": metadata | {"labels": {LAST_USED: "2027-01-15"}}})
    chain.review(token, API_AUDIENCES)
    assert used == ["2027-01-15"]
    with pytest.raises(InvalidToken, match="target audiences"):
        chain.review(token, ("other",))
    shelf.put({**secret, "metadata": metadata | {"labels": {INVALID_SINCE: "2027-01-01"}}})
    with pytest.raises(InvalidToken, match="has been marked invalid"):
        chain.review(token, API_AUDIENCES)
    shelf.put({**secret, "data": {"token": base64.b64encode(b"another")}})
    with pytest.raises(InvalidToken, match="server's copy"):
        chain.review(token, API_AUDIENCES)
    shelf.put(secret, {**account, "metadata": account["metadata"] | {"uid": "v"}})  # type: ignore[operator]
    with pytest.raises(InvalidToken, match="does not match claim"):
        chain.review(token, API_AUDIENCES)
    shelf.drop(SERVICEACCOUNTS, "ns", "robot")
    shelf.drop(SECRETS, "ns", "s")
    with pytest.raises(InvalidToken, match="invalidated"):
        chain.review(token, API_AUDIENCES)


# --- OpenID Connect ------------------------------------------------------------------------------------------------------


class Provider:
    """An issuer: its documents over TLS, and its tokens."""

    def __init__(self) -> None:
        self.keys = {"k1": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.url = self.authority = ""
        self.asked = 0

    def token(self, kid: str = "k1", **claims: Any) -> str:
        known = {"iss": self.url, "aud": "me", "sub": "jane", "exp": NOW + 60}
        return jwt.encode(known | claims, self.keys[kid], "RS256", {"kid": kid})

    async def __call__(self, http: web.BaseRequest) -> web.Response:
        if http.path != "/jwks":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"})
        self.asked += 1
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        public = {kid: orjson.loads(algorithm.to_jwk(key.public_key())) for kid, key in self.keys.items()}
        return web.json_response({"keys": [key | {"kid": kid, "use": "sig"} for kid, key in public.items()]})


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    found = Provider()
    authority = pki.Authority.create("issuer", RealClock())
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    pki.write_pair(authority.server(["127.0.0.1"]), *files)
    server = await asyncio.get_running_loop().create_server(web.Server(found), "127.0.0.1", 0, ssl=pki.server_context(*files))
    found.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found.authority = authority.pair.certificate.decode()
    yield found
    server.close()


async def verified(verifier: OpenIDConnect, token: str) -> User:
    with contextlib.suppress(NotYet):
        return verifier.verify(token)[0]
    try:
        verifier.verify(token)
    except NotYet as keys:
        await keys.fetched
    return verifier.verify(token)[0]


async def test_an_issuers_tokens(provider: Provider, clock: SetClock) -> None:
    issuer = issuer_of_flags(
        provider.url,
        "me",
        groups_claim="teams",
        groups_prefix="oidc:",
        required={"hd": "example.org"},
        authority=provider.authority,
    )
    verifier = OpenIDConnect(issuer, clock)
    user = await verified(verifier, provider.token(teams=["dev"], hd="example.org"))
    assert user == User(f"{provider.url}#jane", ("oidc:dev", AUTHENTICATED))
    for claims, told in (
        ({"hd": "other"}, "does not match"),
        ({}, "not present"),
        ({"hd": "example.org", "aud": "you"}, "expected audience"),
        ({"hd": "example.org", "exp": NOW - 1}, "expired"),
        ({"hd": "example.org", "nbf": NOW + 1000}, "nbf"),
        ({"hd": "example.org", "teams": 7}, "groups claim"),
        ({"hd": "example.org", "sub": 7}, "username claim"),
    ):
        with pytest.raises(InvalidToken, match=told):
            verifier.verify(provider.token(**claims))
    forged = jwt.encode(
        {"iss": provider.url, "aud": "me", "sub": "x", "exp": NOW + 60},
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "RS256",
        {"kid": "k1"},
    )
    with pytest.raises(InvalidToken, match="signature"):
        verifier.verify(forged)
    unsigned = jwt.encode({"iss": provider.url, "aud": "me", "sub": "x", "exp": NOW + 60}, "", "none", {"kid": "k1"})
    with pytest.raises(InvalidToken, match="signature"):
        verifier.verify(unsigned)
    await verifier.close()


async def test_rotated_keys_are_fetched_once(provider: Provider, clock: SetClock) -> None:
    issuer = issuer_of_flags(provider.url, "me", username_prefix="-", authority=provider.authority)
    verifier = OpenIDConnect(issuer, clock)
    assert (await verified(verifier, provider.token())).name == "jane"
    provider.keys["k2"] = provider.keys["k1"]
    with pytest.raises(InvalidToken):
        verifier.verify(provider.token("k2"))  # too soon after the last
    clock.ticks += REFETCH
    assert (await verified(verifier, provider.token("k2"))).name == "jane"
    assert provider.asked == 2
    await verifier.close()


async def test_an_issuer_that_is_not_there(clock: SetClock, caplog: pytest.LogCaptureFixture) -> None:
    verifier = OpenIDConnect(issuer_of_flags("https://127.0.0.1:1", "me"), clock)
    token = jwt.encode({"iss": "https://127.0.0.1:1", "aud": "me"}, "x" * 32, "HS256")
    with pytest.raises(InvalidToken):
        await verified(verifier, token)
    assert "can't be had" in caplog.text
    await verifier.close()


def configured(**jwt_fields: Any) -> dict[str, Any]:
    each = {
        "issuer": {"url": "https://i", "audiences": ["me"]},
        "claimMappings": {"username": {"claim": "email", "prefix": ""}, "uid": {"claim": "id"}},
    } | jwt_fields
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [each]}


def test_a_configuration_of_issuers() -> None:
    (issuer,) = issuers_of(configured())
    claims = {"email": "j@example.org", "id": "7"}
    assert (issuer.username(claims), issuer.uid(claims), issuer.audiences) == ("j@example.org", "7", ("me",))
    with pytest.raises(InvalidToken, match="not verified"):
        issuer.username(claims | {"email_verified": False})


EXPRESSIONS = {
    "claimMappings": {
        "username": {"expression": "claims.email_verified ? 'x:' + claims.email : ''"},
        "groups": {"expression": "claims.roles.split(',')"},
        "uid": {"expression": "claims.sub"},
        "extra": [{"key": "example.org/tenant", "valueExpression": "claims.?tenant.orValue('')"}],
    },
    "claimValidationRules": [{"expression": "claims.exp - claims.iat <= 3600", "message": "lives too long"}],
    "userValidationRules": [{"expression": "!user.username.startsWith('x:system')", "message": "is the system's"}],
}


async def test_expressions_over_claims(provider: Provider, clock: SetClock) -> None:
    issuer = {"url": provider.url, "audiences": ["you", "me"], "audienceMatchPolicy": "MatchAny"}
    (found,) = issuers_of(configured(issuer=issuer | {"certificateAuthority": provider.authority}, **EXPRESSIONS))
    verifier = OpenIDConnect(found, clock)
    claims = {"email": "jane", "email_verified": True, "roles": "dev,ops", "iat": int(NOW), "exp": int(NOW) + 60, "tenant": "t"}
    user = User("x:jane", ("dev", "ops", AUTHENTICATED), "jane", {"example.org/tenant": ("t",)})
    assert await verified(verifier, provider.token(**claims)) == user
    for wrong, told in (
        ({"email_verified": False}, "empty name"),
        ({"iat": int(NOW) - 7200}, "lives too long"),
        ({"email": "system:x"}, "is the system's"),
        ({"roles": 7}, "error evaluating"),
    ):
        with pytest.raises(InvalidToken, match=told):
            verifier.verify(provider.token(**claims | wrong))
    await verifier.close()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (configured(claimMappings={"username": {"expression": "claims.email"}}), "email_verified"),
        (configured(claimMappings={"username": {"expression": "claims."}}), "compilation failed"),
        (configured(claimMappings={"username": {"expression": "'x'", "claim": "sub"}}), "beside an expression"),
        (configured(userValidationRules=[{"expression": "'x'"}]), "must evaluate to bool"),
        ({}, "no AuthenticationConfiguration"),
        (configured(issuer={"url": "http://i", "audiences": ["me"]}), "no https"),
        (configured(issuer={"url": "https://i"}), "required"),
        (configured(issuer={"url": "https://i", "audiences": ["a", "b"]}), "MatchAny"),
        (configured(claimMappings={"username": {"claim": "sub"}}), "prefix"),
        (configured(extra=1), "unsupported"),
        ({**configured(), "jwt": configured()["jwt"] * 2}, "same url"),
    ],
)
def test_what_is_no_configuration(written: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        issuers_of(written)
