"""Variables of containers. Rules: v1.EnvVar, "Environment variables for Services"; the answers are those of golden/node/env."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from minik8s.api.resources import CONFIGMAPS, SECRETS, Resource
from minik8s.kubelet.downward import Surroundings, field_value, quote
from minik8s.kubelet.env import ConfigError, environment, expand, references, service_variables

from .pods import container, pod

OBJECTS: dict[tuple[Resource, str], dict[str, Any]] = {
    (CONFIGMAPS, "conf"): {"data": {"k": "v1", "multi": "a\nb", "1digit": "d", "bad=name": "x"}},
    (SECRETS, "sec"): {"data": {"k": base64.b64encode(b"fromsecret").decode(), "pass": base64.b64encode(b"s3cret").decode()}},
}
AROUND = Surroundings(["10.0.0.9"], ["192.0.2.1"])


def made(
    env: list[dict[str, Any]], env_from: list[dict[str, Any]] | None = None, files: str | None = None, **fields: Any
) -> Any:
    spec = container(env=env, envFrom=env_from or [], **fields)
    return environment(pod(spec), spec, lambda r, n: OBJECTS.get((r, n)), [], AROUND, lambda volume, path: files)


def test_expansion_in_values() -> None:  # golden nv-expand
    values = ["1", "$(A)2", "$$(A)", "$(NONE)", "$(Z)", "late", "$(", "$$$(A)", "$(A)$(B)-$(C)"]
    env = made([{"name": n, "value": v} for n, v in zip("ABCDEZGHI", values, strict=True)])
    assert env == {
        "A": "1",
        "B": "12",
        "C": "$(A)",
        "D": "$(NONE)",
        "E": "$(Z)",
        "Z": "late",
        "G": "$(",
        "H": "$1",
        "I": "112-$(A)",
    }


def test_sources_and_their_order() -> None:  # golden nv-configmap
    env = made(
        [
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pass"}}},
            {"name": "T", "value": "$(K)+$(S)"},
            {"name": "V", "value": "$(k)+$(P_k)"},
        ],
        [
            {"configMapRef": {"name": "conf"}},
            {"secretRef": {"name": "sec"}},
            {"prefix": "P_", "configMapRef": {"name": "conf"}},
        ],
    )
    assert (env["K"], env["S"], env["T"], env["V"]) == ("v1", "s3cret", "v1+s3cret", "fromsecret+v1")
    assert env["k"] == "fromsecret"
    assert env["P_1digit"] == "d"
    assert "bad=name" not in env


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"configMapKeyRef": {"name": "conf", "key": "other"}}, "couldn't find key other in ConfigMap ns/conf"),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"secretKeyRef": {"name": "sec", "key": "other"}}, "couldn't find key other in Secret ns/sec"),
    ],
)
def test_what_is_missing(variable: dict[str, Any], message: str) -> None:  # golden ne-env-*
    with pytest.raises(ConfigError) as error:
        made([{"name": "A", "valueFrom": variable}])
    assert str(error.value) == message
    (kind,) = variable
    assert made([{"name": "A", "valueFrom": {kind: {**variable[kind], "optional": True}}}]) == {}


def test_resources() -> None:  # golden nv-resources
    wanted = {
        "LC": ("limits.cpu", None, "2"),
        "LCM": ("limits.cpu", "1m", "1500"),
        "LM": ("limits.memory", None, "67108864"),
        "LMM": ("limits.memory", "1Mi", "64"),
        "RC": ("requests.cpu", None, "1"),
        "RCM": ("requests.cpu", "1m", "125"),
        "RMK": ("requests.memory", "1k", "20972"),
        "RE": ("requests.ephemeral-storage", None, "0"),
    }
    env = made(
        [
            {"name": n, "valueFrom": {"resourceFieldRef": {"resource": r} | ({"divisor": d} if d else {})}}
            for n, (r, d, _) in wanted.items()
        ],
        resources={"requests": {"cpu": "125m", "memory": "20Mi"}, "limits": {"cpu": "1500m", "memory": "64Mi"}},
    )
    assert env == {n: value for n, (_, _, value) in wanted.items()}


def test_a_variable_out_of_a_file() -> None:  # golden nv-file-key
    ref = {"volumeName": "d", "path": "e.env", "key": "A"}
    assert made([{"name": "A", "valueFrom": {"fileKeyRef": ref}}], files="A='from file'\n") == {"A": "from file"}
    absent = {"fileKeyRef": {**ref, "key": "NOPE", "optional": True}}
    assert made([{"name": "B", "valueFrom": absent}], files="A=x\n") == {}
    with pytest.raises(ConfigError):
        made([{"name": "A", "valueFrom": {"fileKeyRef": ref}}])


def test_service_variables() -> None:  # golden nv-service-env
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "alt", "port": 8080, "protocol": "UDP"}]
    web = {"metadata": {"namespace": "ns", "name": "my-web"}, "spec": {"clusterIP": "10.1.1.1", "ports": ports}}
    other = {"metadata": {"namespace": "elsewhere", "name": "x"}, "spec": web["spec"]}
    headless = {"metadata": {"namespace": "ns", "name": "h"}, "spec": {"clusterIP": "None", "ports": ports}}
    master = {
        "metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIP": "10.1.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
    }
    found = service_variables(pod(), [web, other, headless, master])
    assert found["MY_WEB_SERVICE_HOST"] == "10.1.1.1"
    assert found["MY_WEB_PORT"] == "tcp://10.1.1.1:80"
    assert found["MY_WEB_PORT_8080_UDP"] == "udp://10.1.1.1:8080"
    assert found["MY_WEB_SERVICE_PORT_ALT"] == "8080"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert not any(name.startswith(("X_", "H_")) for name in found)
    alone = service_variables(pod(enableServiceLinks=False), [web, master])
    assert len(found) == 13 + 8
    assert set(alone) == {n for n in found if n.startswith("KUBERNETES_")}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "a"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'app="web"\nb="2"'),
        ("metadata.annotations['note']", 'say "hi"\nthere'),
        ("spec.nodeName", "n1"),
        ("status.podIPs", "10.0.0.9"),
        ("status.hostIP", "192.0.2.1"),
    ],
)
def test_fields(path: str, value: str) -> None:  # golden nv-fields, nl-downward
    meta = {"labels": {"b": "2", "app": "web"}, "annotations": {"note": 'say "hi"\nthere'}}
    assert field_value(pod(metadata=meta), path, AROUND) == value


def test_annotations_tell_where_the_pod_came_from() -> None:  # golden nl-downward
    text = field_value(pod(), "metadata.annotations", Surroundings(seen_at="2026-01-01T00:00:00Z"))
    assert text == 'kubernetes.io/config.seen="2026-01-01T00:00:00Z"\nkubernetes.io/config.source="api"'


def test_quoting_as_go_does() -> None:
    assert quote('a"b\\c\n\t\x01é\u2028') == '"a\\"b\\\\c\\n\\t\\x01é\\u2028"'


def test_what_a_container_refers_to() -> None:
    spec = container(
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "B", "value": "x"}],
        envFrom=[{"configMapRef": {"name": "c"}}],
    )
    assert references(spec) == {(SECRETS, "s"), (CONFIGMAPS, "c")}


def test_unknown_names_can_be_an_error() -> None:
    def missing(name: str) -> str:
        raise ConfigError(f"missing value for {name}")

    with pytest.raises(ConfigError, match="missing value for NOPE"):
        expand("logs/$(NOPE)", {}, missing)
