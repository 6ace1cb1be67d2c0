"""CustomResourceDefinitions: what the golden answers don't show. Source: apiextensions.k8s.io/v1."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from minik8s.api.kinds import crd

CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()


def definition(**spec: Any) -> dict[str, Any]:
    v1 = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "widgets", "kind": "Widget"}
    facts = {"group": "a.example.com", "scope": "Namespaced", "names": names, "versions": [v1]}
    obj = {"metadata": {"name": "widgets.a.example.com"}, "spec": copy.deepcopy(facts) | spec, "status": {}}
    crd.default(obj)
    crd.prepare_create(obj)
    return obj


def established(obj: dict[str, Any]) -> dict[str, Any]:
    obj["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    return obj


def webhook(bundle: str) -> dict[str, Any]:
    config = {"url": "https://a.example.com/convert", "caBundle": bundle}
    return {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}


def test_defaults() -> None:
    service = {"namespace": "a", "name": "b"}
    obj = definition(conversion={"strategy": "Webhook", "webhook": {"clientConfig": {"service": service}}})
    assert obj["spec"]["names"] == {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    assert service["port"] == 443
    assert obj["status"] == {"acceptedNames": {"plural": "", "kind": ""}, "conditions": None, "storedVersions": ["v1"]}
    assert definition()["spec"]["conversion"] == {"strategy": "None"}


def test_the_version_of_storage_is_noted_for_ever() -> None:
    old, new = definition(), definition()
    v2 = new["spec"]["versions"][0] | {"name": "v2"}
    new["spec"]["versions"] = [new["spec"]["versions"][0] | {"storage": False}, v2]
    crd.prepare_update(new, old)
    assert new["status"]["storedVersions"] == ["v1", "v2"]
    assert crd.validate_update(new, old) == []
    new["spec"]["versions"] = [v2]
    assert [error.field for error in crd.validate_update(new, old)] == ["status.storedVersions[0]"]


@pytest.mark.parametrize(("before", "after", "wrong"), [("", "AAAA", True), ("AAAA", "BBBB", False), ("", CERTIFICATE, False)])
def test_a_bundle_of_certificates_is_minded_once_it_is_needed(before: str, after: str, wrong: bool) -> None:
    old, new = established(definition(conversion=webhook(before))), established(definition(conversion=webhook(after)))
    path = "spec.conversion.webhookClientConfig.caBundle"
    assert [error.field for error in crd.validate_update(new, old)] == ([path] if wrong else [])
    assert crd.validate_create(definition(conversion=webhook(after))) == []


def test_names_are_free_until_they_are_established() -> None:
    old, new = definition(), definition(scope="Cluster")
    assert crd.validate_update(new, old) == []
    assert [str(error) for error in crd.validate_update(new, established(old))] == [
        'spec.scope: Invalid value: "Cluster": field is immutable'
    ]


def test_a_schema_that_was_accepted_stays_so() -> None:
    """Also where it would be refused today; another one is judged."""
    odd = {"type": "object", "properties": {"a": {"type": "odd"}}}
    version = definition()["spec"]["versions"][0] | {"schema": {"openAPIV3Schema": odd}}
    old = definition(versions=[version])
    assert crd.validate_create(old) != []
    assert crd.validate_update(copy.deepcopy(old), old) == []
    assert crd.validate_update(old, definition()) != []
