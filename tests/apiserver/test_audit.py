"""The audit log. Rules: "Auditing" of the Kubernetes documentation and the reference of audit.k8s.io/v1."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from minik8s.api.errors import Forbidden
from minik8s.api.resources import CONFIGMAPS
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.audit import Auditor
from minik8s.apiserver.audit_log import BATCH, MEGABYTE, AuditLog
from minik8s.apiserver.audit_policy import LEVELS, policy_of
from minik8s.apiserver.contract import PATCH_ANNOTATION, Admission, Attributes
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.tasks import Owner
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False, controllers=[])
ADMIN = User("admin", (MASTERS, AUTHENTICATED))
JANE = User("jane", ("dev", AUTHENTICATED))


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more}


PODS = Attributes(JANE, "get", version="v1", resource="pods", namespace="a", name="p")
LOG = Attributes(JANE, "get", version="v1", resource="pods", subresource="log", namespace="a", name="p")
VERSION = Attributes(JANE, "get", path="/version")


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        ({}, [PODS, LOG, VERSION]),
        ({"users": ["jane"]}, [PODS, LOG, VERSION]),
        ({"users": ["bob"]}, []),
        ({"userGroups": ["dev", "x"], "verbs": ["get"]}, [PODS, LOG, VERSION]),
        ({"verbs": ["list"]}, []),
        ({"namespaces": ["a"]}, [PODS, LOG]),
        ({"namespaces": [""]}, []),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, [PODS]),
        ({"resources": [{"group": "*", "resources": ["pods/*"]}]}, [PODS, LOG]),
        ({"resources": [{"resources": ["pods/log"]}]}, [LOG]),
        ({"resources": [{"resources": ["*/log"]}]}, [LOG]),
        ({"resources": [{"group": "apps"}]}, []),
        ({"resources": [{"resources": ["*"], "resourceNames": ["p"]}]}, [PODS, LOG]),
        ({"resources": [{"resources": ["*"], "resourceNames": ["q"]}]}, []),
        ({"nonResourceURLs": ["/ver*"]}, [VERSION]),
        ({"nonResourceURLs": ["/version"]}, [VERSION]),
        ({"nonResourceURLs": ["/"]}, []),
    ],
)
def test_which_requests_a_rule_is_about(rule: dict[str, Any], matched: list[Attributes]) -> None:
    judge = policy_of(policy({"level": "Request", **rule})).judge
    assert [asked for asked in (PODS, LOG, VERSION) if judge(asked).level == "Request"] == matched


def test_the_first_rule_counts_and_stages_add_up() -> None:
    found = policy_of(
        policy(
            {"level": "None", "users": ["bob"]},
            {"level": "Metadata", "omitStages": ["Panic"], "omitManagedFields": False},
            {"level": "Request"},
            omitStages=["RequestReceived"],
            omitManagedFields=True,
        )
    )
    verdict = found.judge(PODS)
    assert (verdict.level, verdict.omitted) == ("Metadata", {"Panic", "RequestReceived"})
    assert not verdict.omit_managed_fields


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"kind": "Policy"}, "no Policy"),
        (policy(), "no rules"),
        (policy({"level": "Some"}), "is none of"),
        (policy({"level": "Request", "user": ["x"]}), "unknown field 'user'"),
        (policy({"level": "Request", "nonResourceURLs": ["/a*b"]}), "final character"),
        (policy({"level": "Request", "nonResourceURLs": ["/a"], "namespaces": ["b"]}), "cannot apply to both"),
        (policy({"level": "Request", "resources": [{"resourceNames": ["x"]}]}), "at least one resource"),
        (policy({"level": "Request", "resources": [{"group": "apps/v1"}]}), "group alone"),
        (policy({"level": "Request"}, omitStages=["Begin"]), "omitStages"),
    ],
)
def test_what_no_policy_is(written: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        policy_of(written)


# --- events --------------------------------------------------------------------------------------------------------------


class Audited:
    """A desk whose audit is written to a list, and an HTTP server before it."""

    def __init__(self, cluster: Cluster, rules: dict[str, Any]) -> None:
        self.plane, self.user, self.url, self.held = cluster.plane, ADMIN, "", cluster.clock.hold
        self.log = AuditLog(Path("/nowhere"), cluster.clock)
        self.plane.desk.audit = Auditor(policy_of(rules), self.log, cluster.clock, Random(1), cluster.plane.metrics)

    def events(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log._lines]
        self.log._lines.clear()
        return [event for event in found if event["user"]["username"] in ("admin", "jane")]

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        async with (
            self.held(),
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status, answer.headers["Audit-Id"]


@pytest_asyncio.fixture
async def audited(cluster: Cluster, request: Any) -> AsyncIterator[Audited]:
    found = Audited(cluster, getattr(request, "param", policy({"level": "RequestResponse"})))

    async def page(http: Any, user: User) -> Any:
        return web.Response(text="ok")

    face = HttpFace(found.plane.desk, lambda _: found.user, {"/x": page}, None, RequestMetrics(found.plane.metrics))  # type: ignore[arg-type]
    server = await asyncio.get_running_loop().create_server(face.server(), "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found.events()
    yield found
    server.close()
    found.plane.desk.audit = None


MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
MAPS = "/api/v1/namespaces/default/configmaps"


async def test_a_write_over_http(audited: Audited) -> None:
    code, audit_id = await audited(
        "POST", f"{MAPS}?fieldManager=me", MAP, **{"User-Agent": "test", "X-Forwarded-For": "1.2.3.4"}
    )
    received, complete = audited.events()
    assert code == 201
    assert received["stage"] == "RequestReceived"
    assert "responseStatus" not in received
    assert {
        key: complete[key] for key in ("stage", "auditID", "verb", "level", "requestURI", "user", "sourceIPs", "userAgent")
    } == {
        "stage": "ResponseComplete",
        "auditID": audit_id,
        "verb": "create",
        "level": "RequestResponse",
        "requestURI": f"{MAPS}?fieldManager=me",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["1.2.3.4", "127.0.0.1"],
        "userAgent": "test",
    }
    assert complete["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1", "name": "c"}
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["requestObject"] == MAP
    assert complete["responseObject"]["metadata"]["managedFields"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert complete["requestReceivedTimestamp"] == received["stageTimestamp"]


@pytest.mark.parametrize(
    "audited", [policy({"level": "RequestResponse"}, omitManagedFields=True, omitStages=["RequestReceived"])], indirect=True
)
async def test_lists_go_without_managed_fields(audited: Audited) -> None:
    await audited("POST", MAPS, MAP)
    await audited("GET", MAPS, Accept="application/yaml")
    created, listed = audited.events()
    assert "managedFields" not in created["responseObject"]["metadata"]
    (item,) = listed["responseObject"]["items"]
    assert (item["metadata"]["name"], "managedFields" in item["metadata"]) == ("c", False)


@pytest.mark.parametrize("audited", [policy({"level": "Metadata"}, omitStages=["RequestReceived"])], indirect=True)
async def test_what_is_refused_and_on_whose_behalf(audited: Audited) -> None:
    code, _ = await audited("POST", MAPS, MAP, **{"Impersonate-User": "jane"})
    (event,) = audited.events()
    assert code == 403
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"] == {"username": "jane", "groups": ["system:authenticated"]}
    assert event["responseStatus"]["reason"] == "Forbidden"
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert "requestObject" not in event
    _, audit_id = await audited("GET", "/x", **{"Audit-ID": "mine"})
    (event,) = audited.events()
    assert (event["requestURI"], event["auditID"], audit_id, "objectRef" in event) == ("/x", "mine", "mine", False)


async def test_a_watch_begins_and_ends(audited: Audited) -> None:
    audited.held = contextlib.nullcontext  # type: ignore[assignment]
    await audited("GET", f"{MAPS}?watch=true&timeoutSeconds=1")
    stages = [(event["stage"], event.get("responseStatus", {}).get("code")) for event in audited.events()]
    assert stages == [("RequestReceived", None), ("ResponseStarted", 200), ("ResponseComplete", 200)]


@pytest.mark.parametrize("audited", [policy({"level": "None", "users": ["admin"]}, {"level": "Request"})], indirect=True)
async def test_parts_of_this_process_are_audited_too(audited: Audited) -> None:
    with pytest.raises(Forbidden):
        await audited.plane.client(JANE).create(CONFIGMAPS, {**MAP, "metadata": {"name": "c", "namespace": "default"}})
    await audited.plane.client(ADMIN).create(CONFIGMAPS, {**MAP, "metadata": {"name": "c", "namespace": "default"}})
    assert [(event["stage"], event["user"]["username"]) for event in audited.events()] == [
        ("RequestReceived", "jane"),
        ("ResponseComplete", "jane"),
    ]


async def test_without_a_policy_there_is_an_id_all_the_same(audited: Audited) -> None:
    audited.plane.desk.audit = None
    assert len((await audited("GET", "/x"))[1]) == 36
    assert audited.events() == []


# --- the file ------------------------------------------------------------------------------------------------------------


async def test_the_file_is_rotated_and_nothing_is_lost(tmp_path: Path) -> None:
    path, owner = tmp_path / "logs" / "audit.log", Owner("test")
    log = AuditLog(path, RealClock(), max_size=1, max_backups=2)
    log.open()
    owner.start(log.run(), "log")
    lines = [b"%06d" % number + b"x" * 1000 for number in range(2500)]
    for line in lines:
        log.write(line)
    await log.close()
    files = [*sorted(path.parent.glob("audit-*.log")), path]
    assert len(files) == 3
    assert all(file.stat().st_size <= MEGABYTE for file in files)
    assert b"".join(file.read_bytes() for file in files).splitlines() == lines
    assert path.stat().st_mode & 0o777 == 0o600
    log = AuditLog(path, RealClock(), max_size=1, max_backups=2)
    owner.start(log.run(), "log")
    for line in lines:
        log.write(line)
    await log.close()
    assert len([*path.parent.iterdir()]) == 3, "older ones went"
    await owner.stop()


async def test_lines_are_gathered(tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """And written at once where there are many, or where it ends."""
    log, written = AuditLog(tmp_path / "audit.log", clock), []
    append = log._append
    monkeypatch.setattr(log, "_append", lambda lines, *rest: (written.append(len(lines)), append(lines, *rest)))
    running = asyncio.ensure_future(log.run())
    for _ in range(100):
        log.write(b"x")
        await asyncio.sleep(0)
    await clock.sleep(1)
    assert written == [100]
    for _ in range(3):
        log.write(b"x" * BATCH)
    log.write(b"last")
    await log.close()
    await running
    assert written == [100, 1, 1, 1, 1]


async def test_what_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    log = AuditLog(tmp_path / "none" / "audit.log", RealClock(), lost.append)
    owner = Owner("test")
    owner.start(log.run(), "log")
    log.write(b"{}")
    await log.close()
    await owner.stop()
    assert lost == [1]
    assert "the audit log lost 1 events" in caplog.text


def test_levels_rise() -> None:
    assert LEVELS == ("None", "Metadata", "Request", "RequestResponse")


class Patching(Quiet):
    """Notes what webhooks note of their patches."""

    def handles(self, request: Admission) -> bool:
        return True

    async def admit(self, request: Admission) -> None:
        request.annotations |= {PATCH_ANNOTATION + "round_0_index_0": "secret", "mutation.webhook.admission.k8s.io/x": "{}"}


@pytest.mark.parametrize(
    ("audited", "shown"),
    [(policy({"level": level}, omitStages=["RequestReceived"]), level != "Metadata") for level in LEVELS[1:]],
    indirect=["audited"],
)
async def test_patches_of_webhooks_are_part_of_the_request(audited: Audited, shown: bool) -> None:
    """ "Mutating webhook auditing annotations" of the dynamic admission control chapter."""
    audited.plane.desk.admission.append(Patching())
    await audited("POST", MAPS, MAP)
    (event,) = audited.events()
    assert "mutation.webhook.admission.k8s.io/x" in event["annotations"]
    assert (PATCH_ANNOTATION + "round_0_index_0" in event["annotations"]) is shown
