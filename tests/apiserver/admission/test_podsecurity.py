"""PodSecurity. Rules: "Pod Security Standards" and "Pod Security Admission" of the Kubernetes documentation; words: upstream's 1.36."""

import copy
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.errors import ApiError, Forbidden
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver.admission import podsecurity
from minik8s.apiserver.admission.podsecurity import (
    BASELINE,
    PREFIX,
    PRIVILEGED,
    RESTRICTED,
    Configuration,
    Level,
    PodSecurity,
    Policy,
    policy_of,
)
from minik8s.apiserver.admission.podsecurity_checks import evaluate, in_words
from minik8s.apiserver.contract import Admission, Operation
from minik8s.testing.clock import VirtualClock

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
GOOD = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
HTTP = {"httpGet": {"path": "/", "port": 1, "host": "8.8.8.8"}}


def spec(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "a:1", **(container or {})}], **pod}


def secure(**security: Any) -> dict[str, Any]:
    return spec({"securityContext": {**GOOD, **security}})


def said(level: str, minor: int | None, pod: dict[str, Any], annotations: dict[str, str] | None = None) -> str:
    return in_words(evaluate(level, minor, {"annotations": annotations or {}}, pod))


@pytest.mark.parametrize(
    ("level", "minor", "pod", "words"),
    [
        (PRIVILEGED, None, spec(hostPID=True), ""),
        (BASELINE, None, spec(), ""),
        (RESTRICTED, None, secure(), ""),
        (BASELINE, None, spec(hostNetwork=True, hostIPC=True), "host namespaces (hostNetwork=true, hostIPC=true)"),
        (
            BASELINE,
            None,
            spec({"securityContext": {"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}}}),
            'non-default capabilities (container "a" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)',
        ),
        (
            BASELINE,
            None,
            spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]),
            'hostPath volumes (volumes "v", "w")',
        ),
        (
            BASELINE,
            None,
            spec({"ports": [{"hostPort": 80, "containerPort": 1}, {"hostPort": 443, "containerPort": 2}]}),
            'hostPort (container "a" uses hostPorts 443, 80)',
        ),
        (BASELINE, 33, spec({"livenessProbe": HTTP}), ""),
        (
            BASELINE,
            34,
            spec({"lifecycle": {"preStop": HTTP}}),
            'probe or lifecycle host (container "a" uses probe or lifecycle host "8.8.8.8")',
        ),
        (
            BASELINE,
            None,
            spec({"securityContext": {"privileged": True}}),
            'privileged (container "a" must not set securityContext.privileged=true)',
        ),
        (
            BASELINE,
            None,
            spec({"securityContext": {"procMount": "Unmasked"}}),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (BASELINE, 35, spec({"securityContext": {"procMount": "Unmasked"}}, hostUsers=False), ""),
        (
            BASELINE,
            34,
            spec({"securityContext": {"procMount": "Unmasked"}}, hostUsers=False),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            RESTRICTED,
            35,
            secure(procMount="Unmasked") | {"hostUsers": False},
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            BASELINE,
            30,
            spec(securityContext={"seLinuxOptions": {"type": "container_engine_t"}}),
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "container_engine_t")',
        ),
        (BASELINE, 31, spec(securityContext={"seLinuxOptions": {"type": "container_engine_t"}}), ""),
        (
            BASELINE,
            None,
            spec({"securityContext": {"seLinuxOptions": {"user": "u", "role": "r"}}}),
            'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: user may not be set; role may not be set)',
        ),
        (
            BASELINE,
            None,
            spec(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            BASELINE,
            None,
            spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            BASELINE,
            31,
            spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}),
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        ),
        (BASELINE, 32, spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}), ""),
        (
            BASELINE,
            None,
            spec({"securityContext": {"windowsOptions": {"hostProcess": True}}}),
            'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
        (BASELINE, None, spec({"image": "minik8s.local/host"}), 'host image ("a" must not use image "minik8s.local/host")'),
        (
            RESTRICTED,
            None,
            spec({"securityContext": {**GOOD, "allowPrivilegeEscalation": None}}),
            'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)',
        ),
        (RESTRICTED, 7, spec({"securityContext": {"runAsNonRoot": True}}), ""),
        (
            RESTRICTED,
            None,
            secure(capabilities={"add": ["NET_BIND_SERVICE", "CHOWN"]}),
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
            'container "a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (RESTRICTED, 21, secure(capabilities={"add": ["CHOWN"]}), ""),
        (
            RESTRICTED,
            None,
            secure() | {"volumes": [{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "e", "emptyDir": {}}]},
            'restricted volume types (volumes "n", "h" use restricted volume types "hostPath", "nfs")',
        ),
        (
            RESTRICTED,
            None,
            secure(runAsNonRoot=False),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
        ),
        (RESTRICTED, None, secure(runAsNonRoot=False) | {"hostUsers": False}, ""),
        (RESTRICTED, None, secure(runAsUser=0), 'runAsUser=0 (container "a" must not set runAsUser=0)'),
        (RESTRICTED, 22, secure(runAsUser=0), ""),
        (
            RESTRICTED,
            None,
            spec({"securityContext": {key: value for key, value in GOOD.items() if key != "seccompProfile"}}),
            'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
        ),
        (RESTRICTED, 25, spec(os={"name": "windows"}, securityContext={"runAsNonRoot": True}), ""),
    ],
)
def test_what_a_level_forbids(level: str, minor: int | None, pod: dict[str, Any], words: str) -> None:
    assert said(level, minor, pod) == words


def test_annotations_of_old_are_judged_too() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/a"
    words = f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{key}="unconfined"")'
    assert said(BASELINE, None, spec(), {key: "unconfined"}) == words
    key = "seccomp.security.alpha.kubernetes.io/pod"
    assert said(BASELINE, 18, spec(), {key: "unconfined"}) == f'seccompProfile (forbidden annotation {key}="unconfined")'
    assert said(BASELINE, 19, spec(), {key: "unconfined"}) == ""


def test_all_kinds_of_containers_count() -> None:
    bad = {"image": "a:1", "securityContext": {"privileged": True}}
    pod = {field: [{"name": field[0], **bad}] for field in ("initContainers", "containers", "ephemeralContainers")}
    words = 'privileged (containers "i", "c", "e" must not set securityContext.privileged=true)'
    assert said(BASELINE, None, pod) == words


def test_labels_become_a_policy() -> None:
    policy, errors = policy_of({f"{PREFIX}enforce": "baseline", f"{PREFIX}enforce-version": "v1.24"}, Policy())
    assert not errors
    assert policy == Policy(enforce=Level(BASELINE, 24), warn=Level(BASELINE, 24)), "warn follows what is enforced"
    policy, _ = policy_of({f"{PREFIX}enforce": "baseline", f"{PREFIX}warn": "restricted"}, Policy())
    assert str(policy.warn) == "restricted:latest"
    policy, errors = policy_of({f"{PREFIX}enforce": "x", f"{PREFIX}audit": "x", f"{PREFIX}warn-version": "v01"}, Policy())
    assert (policy.enforce.name, policy.audit.name, policy.warn.name) == (RESTRICTED, PRIVILEGED, PRIVILEGED)
    assert [error.field for error in errors] == [
        f"metadata.labels[{PREFIX}{label}]" for label in ("enforce", "audit", "warn-version")
    ]


class Door:
    def __init__(self, shelf: Any, config: Configuration | None = None) -> None:
        self.shelf = shelf
        self.plugin = PodSecurity(shelf, VirtualClock(), config)

    async def __call__(
        self, obj: dict[str, Any], old: dict[str, Any] | None = None, user: User = ADMIN, subresource: str = ""
    ) -> Admission:
        resource, metadata = resources.of(obj), obj["metadata"]
        assert resource
        operation = Operation.CREATE if old is None else Operation.UPDATE
        namespace = metadata.get("namespace", "")
        request = Admission(user, operation, resource, subresource, namespace, metadata["name"], copy.deepcopy(obj), old)
        if self.plugin.handles(request):
            await self.plugin.validate(request)
        return request


def namespace(**labels: str) -> dict[str, Any]:
    modes = {f"{PREFIX}{mode.replace('_', '-')}": value for mode, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": modes}}


def pod(name: str = "p", owner: str = "", **fields: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns"}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner, "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec(**fields)}


def deployment(**fields: Any) -> dict[str, Any]:
    template = {"spec": spec(**fields)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "ns"},
        "spec": {"template": template},
    }


async def test_modes_refuse_annotate_and_warn(shelf: Any) -> None:
    door = Door(shelf)
    shelf.put(namespace(enforce="privileged", audit="baseline", warn="baseline"))
    request = await door(pod(hostPID=True))
    words = 'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    assert request.warnings == [words]
    assert request.annotations == {f"{PREFIX}audit-violations": words, f"{PREFIX}enforce-policy": "privileged:latest"}
    shelf.put(namespace(enforce="baseline"))
    with pytest.raises(Forbidden, match=r'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces'):
        await door(pod(hostPID=True))
    assert (await door(deployment(hostPID=True))).warnings == [words], "what makes pods is only warned"
    assert (await door(pod(hostPID=True), old=pod(hostPID=True))).warnings == [], "an update that changes no image"
    assert (await door(pod(hostPID=True), subresource="binding")).warnings == []


async def test_privileged_by_default(shelf: Any) -> None:
    shelf.put(namespace())
    request = await Door(shelf)(pod(hostPID=True))
    assert request.annotations == {f"{PREFIX}enforce-policy": "privileged:latest"}


async def test_a_configuration_has_defaults_and_exemptions(shelf: Any) -> None:
    config = podsecurity.configuration(
        {
            "defaults": {"enforce": "baseline", "enforce-version": "latest"},
            "exemptions": {"usernames": ["root"], "runtimeClasses": ["vm"]},
        }
    )
    door = Door(shelf, config)
    shelf.put(namespace())
    with pytest.raises(Forbidden):
        await door(pod(hostPID=True))
    request = await door(pod(hostPID=True), user=User("root"))
    assert request.annotations == {f"{PREFIX}exempt": "user"}
    assert (await door(pod(hostPID=True, runtimeClassName="vm"))).annotations == {f"{PREFIX}exempt": "runtimeClass"}
    assert (await door(deployment(hostPID=True))).warnings == [], "an enforced default warns nobody"
    exempt = Door(shelf, podsecurity.configuration({"exemptions": {"namespaces": ["ns"]}}))
    changed = namespace(enforce="restricted", warn_version="v1.20")
    assert (await exempt(changed, old=namespace())).warnings == [
        'namespace "ns" is exempt from Pod Security, and the policy (enforce=restricted:latest, warn=restricted:v1.20) will be ignored'
    ]
    for wrong in ({"defaults": {"enforce": "x"}}, {"defaults": {"enfroce": "baseline"}}, {"exemptions": {"users": []}}):
        with pytest.raises(ValueError, match="PodSecurityConfiguration"):
            podsecurity.configuration(wrong)


async def test_a_stricter_namespace_tells_of_its_pods(shelf: Any) -> None:
    door = Door(shelf)
    shelf.put(
        pod("a", hostPID=True), pod("b", "rs", hostPID=True), pod("c", "rs", hostPID=True), pod("d", hostIPC=True), pod("e")
    )
    shelf.put(pod("f", volumes=[{"name": "v", "hostPath": {}}]))
    request = await door(namespace(enforce="baseline"), old=namespace())
    assert request.warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 3 other pods): host namespaces",
        "f: hostPath volumes",
    ]
    assert (await door(namespace(enforce="baseline"), old=namespace(enforce="restricted"))).warnings == []
    assert (await door(namespace(enforce="baseline"))).warnings == []


async def test_labels_that_say_nothing_are_refused_once(shelf: Any) -> None:
    door = Door(shelf)
    bad = namespace(enforce="strict")
    with pytest.raises(ApiError) as error:
        await door(bad)
    assert error.value.message == (
        'Namespace "ns" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: '
        'Invalid value: "strict": must be one of privileged, baseline, restricted'
    )
    await door(bad, old=bad)  # known already
