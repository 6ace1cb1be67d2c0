"""The CEL parts of an AuthenticationConfiguration: expressions over `claims` (what a token says) and `user` (whom that makes).

Each function compiles an expression, ValueError with what is wrong with it, and gives a function for `oidc.Issuer`, which raises
InvalidToken. Source: KEP-3331; "Using Authentication Configuration" of the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api import cel
from minik8s.api.user import User, user_info
from minik8s.apiserver.authn.serviceaccounts import InvalidToken

Claims = Mapping[str, Any]
_CLAIMS = cel.Env({"claims": cel.map_of(cel.STRING, cel.DYN)})
_USER = cel.Env({"user": cel.map_of(cel.STRING, cel.DYN)})


def text(expression: str, where: str) -> Callable[[Claims], str]:
    """Of an expression that gives a text."""
    program = _compiled(expression, _CLAIMS, where)

    def value(claims: Claims) -> str:
        found = _evaluated(program, {"claims": claims}, where)
        if not isinstance(found, str):
            raise InvalidToken(f"oidc: {where}: the expression {expression!r} gave no text")
        return found

    return value


def name(expression: str, where: str) -> Callable[[Claims], str]:
    """As `text`, which is not empty."""
    value = text(expression, where)

    def filled(claims: Claims) -> str:
        if not (found := value(claims)):
            raise InvalidToken(f"oidc: {where}: the expression {expression!r} gave an empty name")
        return found

    return filled


def texts(expression: str, where: str) -> Callable[[Claims], Sequence[str]]:
    """Of an expression that gives a text or a list of texts; empty ones are none."""
    program = _compiled(expression, _CLAIMS, where)

    def values(claims: Claims) -> Sequence[str]:
        found = _evaluated(program, {"claims": claims}, where)
        several = [found] if isinstance(found, str) else [] if found is None else found
        if not isinstance(several, list | tuple) or not all(isinstance(each, str) for each in several):
            raise InvalidToken(f"oidc: {where}: the expression {expression!r} gave neither a text nor a list of texts")
        return [each for each in several if each]

    return values


def extras(mappings: Sequence[tuple[str, str]], where: str) -> Callable[[Claims], Mapping[str, tuple[str, ...]]]:
    """Of (key, expression) pairs; keys without a value are left out."""
    compiled = [(key, texts(expression, f"{where}.{key}")) for key, expression in mappings]

    def values(claims: Claims) -> Mapping[str, tuple[str, ...]]:
        return {key: found for key, each in compiled if (found := tuple(each(claims)))}

    return values


def claim_rule(expression: str, message: str, where: str) -> Callable[[Claims], None]:
    """A rule that claims must fulfil."""
    judge = _rule(expression, message, _CLAIMS, where)
    return lambda claims: judge({"claims": claims})


_NOBODY = {"uid": "", "groups": [], "extra": {}}


def user_rule(expression: str, message: str, where: str) -> Callable[[User], None]:
    """A rule that the user must fulfil whom claims make."""
    judge = _rule(expression, message, _USER, where)

    return lambda user: judge({"user": _NOBODY | user_info(user)})


def _rule(expression: str, message: str, env: cel.Env, where: str) -> Callable[[Mapping[str, Any]], None]:
    program = _compiled(expression, env, where)
    if str(program.type) not in ("bool", "dyn"):
        raise ValueError(f"{where}.expression: must evaluate to bool")

    def judge(inputs: Mapping[str, Any]) -> None:
        if _evaluated(program, inputs, where) is not True:
            raise InvalidToken(f"oidc: validation expression '{expression}' failed: {message}")

    return judge


def _compiled(expression: str, env: cel.Env, where: str) -> cel.Program:
    try:
        return cel.compile(expression, env)
    except cel.CompileError as error:
        raise ValueError(f"{where}.expression: compilation failed: {error}") from None


def _evaluated(program: cel.Program, inputs: Mapping[str, Any], where: str) -> Any:
    try:
        return cel.to_json(program.evaluate(inputs))
    except cel.EvaluationError as error:
        raise InvalidToken(f"oidc: {where}: error evaluating the expression {program.text!r}: {error}") from None
