"""Who gets which certificate. Source: kubernetes.io "Certificates and Certificate Signing Requests", "TLS bootstrapping"."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from minik8s.api.resources import CERTIFICATESIGNINGREQUESTS
from minik8s.api.user import AUTHENTICATED, User, service_account
from minik8s.base.clock import RealClock, parse_time, rfc3339
from minik8s.base.pki import Authority, certificate_request, issued_by, new_key, parse_request
from minik8s.client.events import EventRecorder
from minik8s.client.informer import Informers
from minik8s.controllers import certificates
from minik8s.controllers.manager import Context, ControllerSettings
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False, controllers=[])
KEY = new_key()
USAGES = ["client auth", "digital signature"]


def asked(
    user: str = "system:node:n",
    groups: tuple[str, ...] = ("system:nodes",),
    key: bytes = KEY,
    names: tuple[str, ...] = (),
    **spec: Any,
) -> dict[str, Any]:
    request = base64.b64encode(certificate_request(key, user, groups, names)).decode()
    full = {"request": request, "signerName": certificates.KUBELET_CLIENT, "usages": USAGES} | spec
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "a"},
        "spec": full,
    }


@dataclass
class Office:
    cluster: Cluster
    authority: Authority

    async def ask(self, csr: Object, user: str = "admin", *groups: str) -> Object:
        """The request as it is once the controller has seen it."""
        client = self.cluster.plane.client(User(user, (*groups, AUTHENTICATED)))
        await client.create(CERTIFICATESIGNINGREQUESTS, csr)
        await self.cluster.clock.settle()  # type: ignore[attr-defined]
        return await self.cluster.client.get(CERTIFICATESIGNINGREQUESTS, "a")


@pytest_asyncio.fixture
async def office(cluster: Cluster, clock: VirtualClock) -> AsyncIterator[Office]:
    authority = Authority.create("client", clock)
    sign = lambda request, usages, seconds: authority.sign(parse_request(request), usages, seconds)  # noqa: E731
    settings = ControllerSettings(sign=sign, sign_serving=sign)
    informers = Informers(cluster.client, clock, Random(0), "test")
    client = cluster.plane.client(service_account("kube-system", "certificate-controller"))
    recorder = EventRecorder(client, clock, Random(0), "certificate-controller")
    context = Context(client, informers, clock, Random(0), recorder, settings)
    (reconciler,) = certificates.start(context)
    reconciler.start()
    yield Office(cluster, authority)
    await reconciler.stop()
    await informers.stop()


async def test_a_node_joins_and_renews(office: Office, cluster: Cluster) -> None:
    joined = await office.ask(asked(), "system:bootstrap:abcdef", "system:bootstrappers")
    assert condition(joined, "Approved")["reason"] == "AutoApproved"
    assert issued_by(base64.b64decode(joined["status"]["certificate"]), office.authority.pair)
    await cluster.delete("csr/a")
    renewed = await office.ask(asked(), "system:node:n", "system:nodes")
    assert condition(renewed, "Approved")["message"].startswith("Auto approving self kubelet client certificate")
    assert renewed["status"]["certificate"]


@pytest.mark.parametrize(
    ("user", "groups", "csr"),
    [
        ("system:bootstrap:x", ["system:bootstrappers"], asked("admin")),
        ("system:bootstrap:x", ["system:bootstrappers"], asked(groups=("system:masters",))),
        ("system:bootstrap:x", ["system:bootstrappers"], asked(usages=["client auth", "server auth"])),
        ("system:bootstrap:x", ["system:bootstrappers"], asked("x", ("y",), signerName=certificates.CLIENT)),
    ],
)
async def test_what_nobody_approves_by_itself(office: Office, user: str, groups: list[str], csr: Object) -> None:
    waiting = await office.ask(csr, user, *groups)
    assert waiting["spec"]["username"] == user
    assert waiting["status"] == {}


async def test_a_token_gets_no_certificate_of_a_node_that_is_there(office: Office, cluster: Cluster) -> None:
    """As k3s' node passwords: the first key that joins under a name is the node's, as long as the node is there."""
    holder = ("system:bootstrap:abcdef", "system:bootstrappers")
    assert (await office.ask(asked(), *holder))["status"]["certificate"]
    await cluster.delete("csr/a")
    await cluster.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}])
    refused = await office.ask(asked(key=new_key()), *holder)
    assert condition(refused, "Denied")["reason"] == "NodeKeyRejected"
    assert "kubectl delete node n" in condition(refused, "Denied")["message"]
    assert "certificate" not in refused["status"]
    await cluster.delete("csr/a")
    assert (await office.ask(asked(), *holder))["status"]["certificate"], "with its own key it may ask again"
    await cluster.delete("csr/a")
    own = ("system:bootstrap:own-agent", "system:bootstrappers")
    assert (await office.ask(asked(key=new_key()), *own))["status"]["certificate"], "the server's own agent always may"
    await cluster.delete("csr/a")
    await cluster.delete("node/n")
    assert (await office.ask(asked(key=new_key()), *holder))["status"]["certificate"]


SERVING = {"signerName": certificates.KUBELET_SERVING, "usages": ["server auth", "digital signature", "key encipherment"]}


async def test_a_kubelets_serving_certificate_is_approved_by_hand(office: Office, cluster: Cluster) -> None:
    waiting = await office.ask(asked(names=("n.example.org", "10.0.0.1"), **SERVING), "system:node:n", "system:nodes")
    assert waiting["status"] == {}
    assert (await approve(cluster, waiting))["status"]["certificate"]


async def test_a_serving_certificate_needs_names(office: Office, cluster: Cluster) -> None:
    failed = await approve(cluster, await office.ask(asked(**SERVING), "system:node:n", "system:nodes"))
    assert condition(failed, "Failed")["message"] == "DNS or IP subjectAltName is required"


async def approve(cluster: Cluster, csr: Object) -> Object:
    added = {"type": "Approved", "status": "True", "reason": "Seen", "message": "by hand"}
    await cluster.client.update(CERTIFICATESIGNINGREQUESTS, {**csr, "status": {"conditions": [added]}}, subresource="approval")
    await cluster.clock.settle()  # type: ignore[attr-defined]
    return await cluster.client.get(CERTIFICATESIGNINGREQUESTS, "a")


async def test_approved_by_hand(office: Office, cluster: Cluster) -> None:
    """The lifetime is the one asked for, at least 10 minutes."""
    waiting = await office.ask(
        asked("bob", ("dev",), signerName=certificates.CLIENT, expirationSeconds=600), "root", "system:masters"
    )
    done = await approve(cluster, waiting)
    assert done["status"]["certificate"]


async def test_approved_but_not_to_be_signed(office: Office, cluster: Cluster) -> None:
    waiting = await office.ask(asked("bob", signerName=certificates.KUBELET_CLIENT), "root", "system:masters")
    failed = await approve(cluster, waiting)
    assert condition(failed, "Failed")["reason"] == "SignerValidationFailure"
    assert condition(failed, "Failed")["message"] == "subject common name does not begin with 'system:node:'"
    assert "certificate" not in failed["status"]


@pytest.mark.parametrize(("decided", "hours"), [(False, 24), (True, 1)])
async def test_requests_are_forgotten(office: Office, cluster: Cluster, clock: VirtualClock, decided: bool, hours: int) -> None:
    """What is decided after an hour, what waits after a day."""
    waiting = await office.ask(asked("bob", ("dev",), signerName=certificates.CLIENT), "root", "system:masters")
    if decided:
        await approve(cluster, waiting)
    await clock.advance(hours * 3600 - 1)
    assert await cluster.get("csr/a") is not None
    await clock.advance(4000)
    assert await cluster.get("csr/a") is None


HOUR = 3600.0
MADE, LATER = "2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z"


@pytest.mark.parametrize(
    ("status", "hours"),
    [
        ({}, 24),
        ({"conditions": [{"type": "Approved", "lastUpdateTime": LATER}]}, 6 + 24),
        ({"conditions": [{"type": "Approved", "lastUpdateTime": LATER}], "certificate": "Cg=="}, 6 + 1),
        ({"conditions": [{"type": "Denied", "lastUpdateTime": LATER}]}, 6 + 1),
        ({"conditions": [{"type": "Approved", "lastUpdateTime": MADE}, {"type": "Failed", "lastUpdateTime": LATER}]}, 6 + 1),
    ],
)
def test_when_requests_are_forgotten(status: dict[str, Any], hours: float) -> None:
    """The periods of upstream's certificatesigningrequest-cleaner-controller."""
    csr = {"metadata": {"creationTimestamp": MADE}, "status": status}
    assert certificates.forgotten_at(csr) == parse_time(MADE) + hours * HOUR


def test_an_ended_certificate_is_forgotten_with_its_request() -> None:
    clock = RealClock()
    authority = Authority.create("client", clock)
    signed = authority.sign(parse_request(certificate_request(KEY, "x", (), ())), USAGES, 600)
    status = {
        "conditions": [{"type": "Approved", "lastUpdateTime": rfc3339(clock.now())}],
        "certificate": base64.b64encode(signed).decode(),
    }
    csr = {"metadata": {"creationTimestamp": rfc3339(clock.now())}, "status": status}
    assert certificates.forgotten_at(csr) == pytest.approx(clock.now() + 600, abs=2)
