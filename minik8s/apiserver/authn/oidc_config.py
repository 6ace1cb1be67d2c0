"""Which issuers of tokens count, and what their claims mean: from the `--oidc-*` flags, or from an AuthenticationConfiguration.

`issuer_of_flags` and `issuers_of` give `oidc.Issuer`s; ValueError says in a line what can't be used. Source: "Authenticating", OpenID
Connect Tokens, of the Kubernetes documentation (apiserver.config.k8s.io/v1); KEP-3331. Neighbour: `oidc_expressions.py` (CEL).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api.user import User
from minik8s.apiserver.authn import oidc_expressions
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
    """The issuer that the options `--oidc-*` describe; ValueError tells which of them can't be."""
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
    _only(written, ("issuer", "claimMappings", "claimValidationRules", "userValidationRules"), where)
    issuer = written.get("issuer") or {}
    _only(issuer, ("url", "discoveryURL", "certificateAuthority", "audiences", "audienceMatchPolicy"), f"{where}.issuer")
    url, audiences = issuer.get("url", ""), tuple(issuer.get("audiences") or ())
    for name in ("url", "discoveryURL"):
        if (text := issuer.get(name, "")) and not text.startswith("https://"):
            raise ValueError(f"{where}.issuer.{name}: {text!r} is no https address")
    if not url or not audiences:
        raise ValueError(f"{where}.issuer: url and audiences are required")
    if len(audiences) > 1 and issuer.get("audienceMatchPolicy") != "MatchAny":
        raise ValueError(f"{where}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    username, groups, uid, extra = _mappings(written.get("claimMappings") or {}, f"{where}.claimMappings")
    found = Issuer(
        url,
        audiences,
        username,
        groups,
        uid,
        extra,
        rules=[_rule(rule, at) for rule, at in _numbered(written, "claimValidationRules", where)],
        user_rules=[_user_rule(rule, at) for rule, at in _numbered(written, "userValidationRules", where)],
        algorithms=ALGORITHMS,
        authority=issuer.get("certificateAuthority", ""),
        discovery=issuer.get("discoveryURL", ""),
    )
    _check_email(written, where)
    return found


def _numbered(holder: Mapping[str, Any], field: str, where: str) -> list[tuple[Any, str]]:
    return [(each, f"{where}.{field}[{number}]") for number, each in enumerate(holder.get(field) or ())]


def _mappings(
    written: Any, where: str
) -> tuple[
    Callable[[Claims], str],
    Callable[[Claims], Sequence[str]],
    Callable[[Claims], str],
    Callable[[Claims], Mapping[str, tuple[str, ...]]],
]:
    """(username, groups, uid, extra), each by a claim or an expression."""
    _only(written, ("username", "groups", "uid", "extra"), where)
    username, groups, uid = (_mapping(written, name, f"{where}.{name}") for name in ("username", "groups", "uid"))
    if not username[0] and not username[2]:
        raise ValueError(f"{where}.username: a claim or an expression is required")
    keys = []
    for each, at in _numbered(written, "extra", where):
        _only(each, ("key", "valueExpression"), at)
        if "/" not in (key := each.get("key", "")) or key != key.lower():
            raise ValueError(f"{at}.key: {key!r} must be a domain-prefixed path in lower case, such as example.org/foo")
        keys.append((key, each.get("valueExpression", "")))
    return (
        oidc_expressions.name(username[2], f"{where}.username") if username[2] else _username(*username[:2]),
        oidc_expressions.texts(groups[2], f"{where}.groups") if groups[2] else _groups(*groups[:2]),
        oidc_expressions.text(uid[2], f"{where}.uid") if uid[2] else _uid(uid[0]),
        oidc_expressions.extras(keys, f"{where}.extra") if keys else lambda claims: {},
    )


def _mapping(mappings: Mapping[str, Any], name: str, where: str) -> tuple[str, str, str]:
    """(claim, prefix, expression)"""
    mapping = mappings.get(name) or {}
    _only(mapping, ("claim", "prefix", "expression"), where)
    claim, prefix, expression = mapping.get("claim", ""), mapping.get("prefix"), mapping.get("expression", "")
    if expression and (claim or prefix is not None):
        raise ValueError(f"{where}: claim and prefix can't be set beside an expression")
    if name != "uid" and claim and prefix is None:
        raise ValueError(f'{where}.prefix: required when claim is set; may be ""')
    return claim, prefix or "", expression


def _rule(rule: Any, where: str) -> Callable[[Claims], None]:
    _only(rule, ("claim", "requiredValue", "expression", "message"), where)
    if expression := rule.get("expression"):
        return oidc_expressions.claim_rule(expression, rule.get("message", ""), where)
    return _required(rule.get("claim", ""), rule.get("requiredValue", ""))


def _user_rule(rule: Any, where: str) -> Callable[[User], None]:
    _only(rule, ("expression", "message"), where)
    return oidc_expressions.user_rule(rule.get("expression", ""), rule.get("message", ""), where)


def _check_email(written: Mapping[str, Any], where: str) -> None:
    """A name that is an address must not be one that nobody verified."""
    mappings = written.get("claimMappings") or {}
    if not re.search(r"\bclaims\.email\b", expression := (mappings.get("username") or {}).get("expression", "")):
        return
    others = [each.get("valueExpression", "") for each in mappings.get("extra") or ()]
    others += [rule.get("expression", "") for rule in written.get("claimValidationRules") or ()]
    if not any(re.search(r"\bclaims\.\??email_verified\b", text) for text in (expression, *others)):
        raise ValueError(
            f"{where}.claimMappings.username.expression: claims.email_verified must be used there, in an extra or in a validation "
            "rule when claims.email is used"
        )


def _only(holder: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(holder, Mapping):
        raise ValueError(f"{where} must hold keys and values")  # noqa: TRY004  # of a file, as all that is wrong with it
    if wrong := [str(name) for name in holder if name not in known]:
        raise ValueError(f"{where}: unknown or unsupported field {wrong[0]!r}")


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
