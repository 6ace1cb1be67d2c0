"""Which issuers of tokens count, and what their claims mean: from the `--oidc-*` flags, or from an AuthenticationConfiguration.

`issuer_of_flags` and `issuers_of` give `oidc.Issuer`s; ValueError says in a line what can't be used. Source: "Authenticating", OpenID
Connect Tokens, of the Kubernetes documentation (apiserver.config.k8s.io/v1); KEP-3331. CEL expressions are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.apiserver.authn.oidc import ALGORITHMS, Claims, Issuer
from minik8s.apiserver.authn.serviceaccounts import InvalidToken

VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))


def issuer_of_flags(
    url: str,
    client_id: str,
    *,
    username_claim: str = "sub",
    username_prefix: str = "",
    groups_claim: str = "",
    groups_prefix: str = "",
    required: Mapping[str, str] | None = None,
    authority: str = "",
    algorithms: Sequence[str] = (),
) -> Issuer:
    if not url.startswith("https://"):
        raise ValueError("--oidc-issuer-url must be an https address")
    if not client_id:
        raise ValueError("--oidc-issuer-url needs --oidc-client-id")
    if wrong := sorted(set(algorithms) - set(ALGORITHMS)):
        raise ValueError(f"--oidc-signing-algs: {wrong[0]!r} is none of {', '.join(ALGORITHMS)}")
    if username_prefix == "-":
        username_prefix = ""
    elif not username_prefix and username_claim != "email":
        username_prefix = f"{url}#"
    return Issuer(
        url,
        (client_id,),
        _username(username_claim, username_prefix),
        _groups(groups_claim, groups_prefix),
        rules=[_required(name, value) for name, value in (required or {}).items()],
        algorithms=tuple(algorithms) or ("RS256",),
        authority=authority,
    )


def issuers_of(written: Any) -> list[Issuer]:
    """The issuers of an AuthenticationConfiguration."""
    _only(written, ("apiVersion", "kind", "jwt"), "the configuration")
    if written.get("kind") != "AuthenticationConfiguration" or written.get("apiVersion") not in VERSIONS:
        raise ValueError("it is no AuthenticationConfiguration of apiserver.config.k8s.io/v1")
    issuers = [_issuer(each, f"jwt[{number}]") for number, each in enumerate(written.get("jwt") or ())]
    if len({issuer.url for issuer in issuers}) < len(issuers):
        raise ValueError("two issuers have the same url")
    return issuers


def _issuer(written: Any, where: str) -> Issuer:
    _only(written, ("issuer", "claimMappings", "claimValidationRules"), where)
    issuer, mappings = written.get("issuer") or {}, written.get("claimMappings") or {}
    fields = ("url", "discoveryURL", "certificateAuthority", "audiences", "audienceMatchPolicy")
    _only(issuer, fields, f"{where}.issuer")
    _only(mappings, ("username", "groups", "uid"), f"{where}.claimMappings")
    url, audiences = issuer.get("url", ""), tuple(issuer.get("audiences") or ())
    for name in ("url", "discoveryURL"):
        if (text := issuer.get(name, "")) and not text.startswith("https://"):
            raise ValueError(f"{where}.issuer.{name}: {text!r} is no https address")
    if not url or not audiences:
        raise ValueError(f"{where}.issuer: url and audiences are required")
    if len(audiences) > 1 and issuer.get("audienceMatchPolicy") != "MatchAny":
        raise ValueError(f"{where}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    username, groups, uid = (
        _mapping(mappings, name, f"{where}.claimMappings.{name}") for name in ("username", "groups", "uid")
    )
    if not username[0]:
        raise ValueError(f"{where}.claimMappings.username: a claim is required")
    rules = []
    for number, rule in enumerate(written.get("claimValidationRules") or ()):
        _only(rule, ("claim", "requiredValue"), f"{where}.claimValidationRules[{number}]")
        rules.append(_required(rule.get("claim", ""), rule.get("requiredValue", "")))
    return Issuer(
        url,
        audiences,
        _username(*username),
        _groups(*groups),
        _uid(uid[0]),
        rules=rules,
        algorithms=ALGORITHMS,
        authority=issuer.get("certificateAuthority", ""),
        discovery=issuer.get("discoveryURL", ""),
    )


def _mapping(mappings: Mapping[str, Any], name: str, where: str) -> tuple[str, str]:
    mapping = mappings.get(name) or {}
    _only(mapping, ("claim", "prefix"), where)
    if name != "uid" and mapping.get("claim") and mapping.get("prefix") is None:
        raise ValueError(f'{where}.prefix: required when claim is set; may be ""')
    return mapping.get("claim", ""), mapping.get("prefix") or ""


def _only(holder: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(holder, Mapping):
        raise ValueError(f"{where} must hold keys and values")  # noqa: TRY004  # of a file, as all that is wrong with it
    for name in holder:
        if name in ("expression", "extra", "userValidationRules", "message"):
            raise ValueError(f"{where}: CEL expressions ({name}) are not supported")
        if name not in known:
            raise ValueError(f"{where}: unknown or unsupported field {name!r}")


# --- claims ----------------------------------------------------------------------------------------------------------


def _username(claim: str, prefix: str) -> Callable[[Claims], str]:
    def username(claims: Claims) -> str:
        value = claims.get(claim)
        if value is None:
            raise InvalidToken(f'oidc: parse username claims "{claim}": claim not present')
        if not isinstance(value, str) or not value:
            raise InvalidToken(f'oidc: parse username claims "{claim}": claim is no text')
        if claim == "email" and claims.get("email_verified", True) is not True:
            raise InvalidToken("oidc: email not verified")
        return prefix + value

    return username


def _groups(claim: str, prefix: str) -> Callable[[Claims], Sequence[str]]:
    def groups(claims: Claims) -> Sequence[str]:
        value = claims.get(claim) if claim else None
        if value is None:
            return ()
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(group, str) for group in found):
            raise InvalidToken(f'oidc: parse groups claim "{claim}": neither a text nor a list of texts')
        return [prefix + group for group in found]

    return groups


def _uid(claim: str) -> Callable[[Claims], str]:
    def uid(claims: Claims) -> str:
        value = claims.get(claim, "") if claim else ""
        if not isinstance(value, str):
            raise InvalidToken(f'oidc: error parsing uid claim "{claim}": it is no text')
        return value

    return uid


def _required(claim: str, wanted: str) -> Callable[[Claims], None]:
    def rule(claims: Claims) -> None:
        if claim not in claims:
            raise InvalidToken(f"oidc: required claim {claim} not present in ID token")
        if claims[claim] != wanted:
            raise InvalidToken(f"oidc: required claim {claim} value does not match. Got = {claims[claim]}, want = {wanted}")

    return rule
