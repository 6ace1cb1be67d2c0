"""ConfigMaps, Secrets, events, nodes, namespaces, certificates: rules that golden answers don't show by themselves."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minik8s.api import convert, kind
from minik8s.api.kinds import certificate, configmap, endpoints, event, namespace, node
from minik8s.api.user import User

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])


def pem(key: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    """A certificate and its key, as Secrets hold them."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key()).serial_number(1)
    cert = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    texts = cert.public_bytes(serialization.Encoding.PEM), key.private_bytes(serialization.Encoding.PEM, *form)
    return base64.b64encode(texts[0]).decode(), base64.b64encode(texts[1]).decode()


def test_tls_secrets_warn_of_keys_that_dont_fit() -> None:
    cert, key = pem(ec.generate_private_key(ec.SECP256R1()))
    _, other = pem(ec.generate_private_key(ec.SECP256R1()))
    assert configmap.secret_warnings({"type": configmap.TLS, "data": {"tls.crt": cert, "tls.key": key}}, None) == []
    mismatch = configmap.secret_warnings({"type": configmap.TLS, "data": {"tls.crt": cert, "tls.key": other}}, None)
    assert mismatch == ["tls: private key does not match public key"]


def test_string_data_wins_over_data() -> None:
    secret = {"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "new"}}
    configmap.default_secret(secret)
    assert secret == {"data": {"a": "bmV3", "b": "eQ=="}, "type": "Opaque"}


@pytest.mark.parametrize("size", [configmap.MAX_SIZE, configmap.MAX_SIZE + 1])
def test_a_mebibyte_is_the_limit(size: int) -> None:
    too_long = size > configmap.MAX_SIZE
    data = base64.b64encode(b"x" * size).decode()
    assert len(configmap.validate_configmap({"data": {"k": "x" * size}})) == too_long
    assert len(configmap.validate_secret({"metadata": {}, "type": "Opaque", "data": {"k": data}})) == too_long


def test_events_have_two_faces_of_one_object() -> None:
    core = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "m",
        "source": {"component": "kubelet"},
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 3,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    new = convert.new_event(core)
    assert new["regarding"] == core["involvedObject"]
    assert (new["note"], new["deprecatedCount"], new["apiVersion"]) == ("m", 3, "events.k8s.io/v1")
    assert "reportingController" not in new
    assert convert.core_event(new) == core
    assert event.row(new, 1767323055.0) == event.row(core, 1767323055.0)
    assert event.row(core, 1767323055.0) == ["10s", "", "", "pod/p", "", "kubelet", "m", "10s", 3, "e"]


def test_node_roles_and_state() -> None:
    labels = {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/": "", "kubernetes.io/role": "old"}
    obj = {"metadata": {"name": "n", "labels": labels}, "spec": {"unschedulable": True}, "status": {"conditions": []}}
    assert node.roles(obj) == ["old", "worker"]
    assert node.row(obj, 0.0)[1:3] == ["Unknown,SchedulingDisabled", "old,worker"]


@pytest.mark.parametrize(
    ("resource", "amount", "wrong"),
    [("cpu", "500m", False), ("cpu", "-1", True), ("pods", "1500m", True), ("example.org/dev", "1500m", True)],
)
def test_amounts_of_resources(resource: str, amount: str, wrong: bool) -> None:
    assert bool(node.validate_resource("p", resource, amount)) == wrong


def test_a_namespaces_label_is_its_name() -> None:
    obj = {"metadata": {"name": "n", "labels": {namespace.NAME_LABEL: "other"}}}
    namespace.prepare_create(obj)
    assert obj["metadata"]["labels"] == {namespace.NAME_LABEL: "n"}
    assert obj["spec"] == {"finalizers": ["kubernetes"]}
    assert obj["status"] == {"phase": "Active"}


def test_endpoints_show_three() -> None:
    subset = {"addresses": [{"ip": "fd00::1"}, {"ip": "192.0.2.1"}], "ports": [{"port": 1}, {"port": 2}]}
    row = endpoints.endpoints_row({"metadata": {"name": "e"}, "subsets": [subset]}, 0.0)
    assert row[1] == "[fd00::1]:1,192.0.2.1:1,[fd00::1]:2 + 1 more..."


def signing_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    built = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    return base64.b64encode(built.public_bytes(serialization.Encoding.PEM)).decode()


def test_a_requests_user_is_the_servers_to_say() -> None:
    spec = {"request": signing_request(), "signerName": "a.b/c", "usages": ["client auth"], "username": "root", "groups": ["g"]}
    obj = {"metadata": {"name": "c"}, "spec": spec}
    certificate.SIGNING_REQUEST.prepare_create(obj)
    certificate.requested_by(obj, User("jane", ("dev",), "7", {"k": ("v",)}))
    assert {key: obj["spec"][key] for key in certificate.REQUESTOR} == {
        "username": "jane",
        "uid": "7",
        "groups": ["dev"],
        "extra": {"k": ["v"]},
    }
    assert certificate.validate(obj) == []


def test_a_forged_request_is_refused() -> None:
    raw = bytearray(base64.b64decode(signing_request()))
    at = raw.index(b"\n", 100) - 5
    raw[at] = ord("A") if raw[at] != ord("A") else ord("B")
    spec = {"request": base64.b64encode(raw).decode(), "signerName": "a.b/c", "usages": ["client auth"]}
    assert [error.field for error in certificate.validate({"spec": spec})] == ["spec.request"]


def test_approval_keeps_all_but_the_conditions_and_gets_times() -> None:
    old = {"metadata": {"name": "c"}, "spec": {"a": 1}, "status": {"certificate": "x", "conditions": []}}
    new = {"metadata": {"name": "c"}, "spec": {}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    certificate.prepare_approval(new, old)
    certificate.stamp_conditions(new, old, "2026-01-02T03:04:05Z")
    assert new["spec"] == {"a": 1}
    assert new["status"]["certificate"] == "x"
    assert new["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_the_signer_cant_approve() -> None:
    old = {"metadata": {"name": "c"}, "spec": {}, "status": {"conditions": []}}
    new = {"metadata": {"name": "c"}, "spec": {}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    certificate.prepare_status(new, old)
    fields = [error.message for error in certificate.validate_status(new, old) if error.field == "status.conditions"]
    assert fields == ['Forbidden: updates may not add a condition of type "Approved"']


def test_thawed_shares_nothing() -> None:
    shared = {"a": ({"b": 1},)}
    private = kind.thawed(shared)
    private["a"][0]["b"] = 2
    assert shared == {"a": ({"b": 1},)}
