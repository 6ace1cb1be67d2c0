"""MutatingWebhookConfigurations and ValidatingWebhookConfigurations: whom the API server asks about requests, and about which ones.

Neighbours: `admissionrules` (rules, selectors, match conditions, as policies have them too); what comes of the configurations is the
API server's (`admission/webhooks/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, invalid, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import admissionrules, checks
from minik8s.api.printing import age
from minik8s.api.selectors import validate_selector

REVIEW_VERSIONS = ("v1", "v1beta1")
SIDE_EFFECTS = ("None", "NoneOnDryRun")
REINVOCATION = ("IfNeeded", "Never")
LONGEST_TIMEOUT = 30
HTTPS_PORT = 443
_FORM = "; desired format: https://host[/path]"

Hook = Mapping[str, Any]
Errors = Iterator[FieldError]


def default_validating(configuration: Object) -> None:
    for hook in configuration.get("webhooks") or ():
        hook.setdefault("failurePolicy", "Fail")
        admissionrules.default_match(hook)
        admissionrules.default_rules(hook.get("rules"))
        hook.setdefault("timeoutSeconds", 10)
        if service := hook.get("clientConfig", {}).get("service"):
            service.setdefault("port", HTTPS_PORT)


def default_mutating(configuration: Object) -> None:
    default_validating(configuration)
    for hook in configuration.get("webhooks") or ():
        hook.setdefault("reinvocationPolicy", "Never")


def validate(configuration: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, hook in enumerate(configuration.get("webhooks") or ()):
        path, name = f"webhooks[{i}]", hook.get("name", "")
        errors += _hook(hook, path)
        errors += _review_versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen |= {name} if name else set()
    return errors


def _hook(hook: Hook, path: str) -> Errors:
    yield from _name(hook.get("name", ""), f"{path}.name")
    for i, rule in enumerate(hook.get("rules") or ()):
        yield from admissionrules.validate_rule(rule, f"{path}.rules[{i}]")
    for key, allowed in (("failurePolicy", admissionrules.FAILURE_POLICIES), ("matchPolicy", admissionrules.MATCH_POLICIES)):
        yield from checks.one_of(hook.get(key, ""), f"{path}.{key}", sorted(allowed))
    if (side_effects := hook.get("sideEffects")) is None:
        yield required(f"{path}.sideEffects", f"must specify one of {', '.join(SIDE_EFFECTS)}")
    else:
        yield from checks.one_of(side_effects, f"{path}.sideEffects", SIDE_EFFECTS)
    timeout = hook.get("timeoutSeconds", 1)
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        yield invalid(f"{path}.timeoutSeconds", timeout, f"the timeout value must be between 1 and {LONGEST_TIMEOUT} seconds")
    for selector in ("namespaceSelector", "objectSelector"):
        yield from validate_selector(hook.get(selector), f"{path}.{selector}")
    if "reinvocationPolicy" in hook:
        yield from checks.one_of(hook["reinvocationPolicy"], f"{path}.reinvocationPolicy", REINVOCATION)
    yield from client_config(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    yield from admissionrules.validate_conditions(
        hook.get("matchConditions") or (), f"{path}.matchConditions", _condition_problem
    )


def _name(name: str, path: str) -> Errors:
    """A fully qualified name."""
    if not name:
        yield required(path)
    elif problems := names.dns_subdomain(name):
        yield invalid(path, name, ",".join(problems))
    elif name.count(".") < 2:
        yield invalid(path, name, "should be a domain with at least three segments separated by dots")


def _condition_problem(text: str) -> str:
    from minik8s.api.kinds.admissionexpressions import Expressions  # CEL is loaded with the first expression

    return Expressions().condition_problem(text)


def _review_versions(versions: Sequence[str], path: str) -> Errors:
    known = ", ".join(REVIEW_VERSIONS)
    if not versions:
        yield required(path, f"must specify one of {known}")
        return
    for i, version in enumerate(versions):
        if version in versions[:i]:
            yield invalid(f"{path}[{i}]", version, "duplicate version")
        else:
            yield from checks.name(version, f"{path}[{i}]", names.dns_label_1035)
    if not set(versions) & set(REVIEW_VERSIONS):
        yield invalid(path, list(versions), f"must include at least one of {known}")


# --- whom to call: of conversion webhooks too --------------------------------------------------------------------------


def client_config(config: Mapping[str, Any], path: str) -> Errors:
    """What is wrong with a WebhookClientConfig."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(path, "exactly one of url or service is required")
    elif url is not None:
        yield from _url(url, f"{path}.url")
    elif service is not None:
        yield from _service(service, f"{path}.service")


def _url(url: str, path: str) -> Errors:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        yield required(path, f'url must be a valid URL: parse "{url}": {error}{_FORM}')
        return
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme != "https":
        yield invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not host:
        yield invalid(path, host, f"host must be specified{_FORM}")
    if at:
        yield invalid(path, user, "user information is not permitted in the URL")
    if parts.fragment:
        yield invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield invalid(path, parts.query, "query parameters are not permitted in the URL")


def _service(service: Mapping[str, Any], path: str) -> Errors:
    yield from checks.needed(service, ("name", "namespace"), path)
    port, url_path = service.get("port", HTTPS_PORT), service.get("path") or "/"
    yield from (
        invalid(error.field, port, f"port is not valid: {error.message.partition(': ')[2].partition(': ')[2]}")
        for error in checks.port_number(port, f"{path}.port")
    )
    if url_path == "/":
        return
    if not url_path.startswith("/"):
        yield invalid(f"{path}.path", url_path, "must start with a '/'")
    for i, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        problems = [f"segment[{i}]: {problem}" for problem in names.dns_subdomain(step)]
        for problem in problems if step else [f"segment[{i}] may not be empty"]:
            yield invalid(f"{path}.path", url_path, problem)


# --- the kinds ---------------------------------------------------------------------------------------------------------


def row(configuration: Frozen, now: float) -> list[object]:
    return [configuration["metadata"]["name"], len(configuration.get("webhooks") or ()), age(configuration, now)]


_COLUMNS = (NAME, Column("Webhooks", "integer", description="How many webhooks the configuration has."), AGE)


def _kind(default: Any) -> Kind:
    return Kind(
        default=default,
        validate=validate,
        heavy=lambda: True,
        generation=True,
        generation_of=lambda configuration: configuration.get("webhooks"),
        columns=_COLUMNS,
        row=row,
    )


MUTATING = _kind(default_mutating)
VALIDATING = _kind(default_validating)
