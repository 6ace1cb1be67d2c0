"""What kubectl does with the API beyond containers (those: tests/e2e/test_kubectl.py), by the words that it prints.

Source: kubernetes.io "kubectl reference", "Server-Side Apply", "Declarative Management of Kubernetes Objects Using Configuration
Files"; KEP-3659 (applysets).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.api_docs import PATHS

from .common import Kubectl, configmap, deployment, widget

pytestmark = pytest.mark.e2e
WIDGET = "widget.clients.example.com"


def managers(obj: dict[str, dict[str, list[dict[str, str]]]]) -> set[tuple[str, str]]:
    return {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}


# --- what is there -----------------------------------------------------------------------------------------------------


def test_explain(k: Kubectl) -> None:
    assert re.search(r"\n  size\t<integer> -required-\n    How large it is\.\n", k("explain", "widgets.spec"))
    assert "ENUM:\n    red\n    blue" in k("explain", "wd.spec.color")
    whole = k("explain", "widget", "--recursive")
    for line in (
        "GROUP:      clients.example.com",
        "      name\t<string> -required-",
        "    phase\t<string>",
        "    finalizers\t<[]string>",
    ):
        assert line in whole.splitlines(), whole
    assert "  rollingUpdate\t<RollingUpdateDeployment>" in k("explain", "deployments.spec.strategy")
    whole = k("explain", "pods", "--recursive")
    assert "          httpGet\t<HTTPGetAction>" in whole.splitlines()
    assert 'field "nosuch" does not exist' in k.fails("explain", "pods.spec.nosuch")
    of_v2 = k("explain", "deployments.spec.strategy", "--output=plaintext-openapiv2")  # it reads protobuf
    assert "   rollingUpdate\t<Object>" in of_v2.splitlines(), of_v2
    assert "<empty>" not in k("explain", "pods.spec.containers.image")  # the extra `explain` is installed for the tests
    assert "VERSION:    v1\n" in k("explain", "hpa", "--api-version=autoscaling/v1")


def test_api_resources(k: Kubectl) -> None:
    assert k("api-resources", "--api-group=clients.example.com", "--no-headers").split() == [
        "widgets",
        "wd",
        "clients.example.com/v1",
        "true",
        "Widget",
    ]
    assert k("api-resources", "--categories=toys", "-o", "name") == "widgets.clients.example.com\n"
    everything = k("api-resources", "-o", "name", "--verbs=list,watch").split()
    assert {"pods", "deployments.apps", "customresourcedefinitions.apiextensions.k8s.io"} <= set(everything)
    assert "clients.example.com/v1" in k("api-versions").split()


def test_paths_outside_the_resources(k: Kubectl) -> None:
    """docs/api.md tells of each."""
    found = json.loads(k("get", "--raw", "/"))["paths"]
    below = re.compile(r"/(apis?|openapi/v3|healthz|livez|readyz)/.*")
    assert {path for path in found if not below.fullmatch(path)} <= PATHS.keys()
    assert {path: k.server.ask("GET", path).status for path in PATHS} == dict.fromkeys(PATHS, 200)


def test_tables_of_custom_resources(k: Kubectl) -> None:
    k("apply", "-f", "-", input=[widget("w", size=3)])
    assert [line.split() for line in k("get", "wd").splitlines()] == [["NAME", "SIZE"], ["w", "3"]]
    assert [line.split() for line in k("get", "toys", "-o", "wide").splitlines()] == [
        ["NAME", "SIZE", "COLOR"],
        ["w", "3", "red"],
    ]
    assert k("get", "widgets", "-o", "custom-columns=N:.metadata.name,S:.spec.size").split() == ["N", "S", "w", "3"]
    assert k("get", "wd/w", "-o", "go-template={{.spec.color}}") == "red"
    assert k("get", "widgets,configmaps", "-o", "name").split() == [f"{WIDGET}/w", "configmap/kube-root-ca.crt"]
    told = k("describe", "widget", "w")
    assert re.search(r"^Spec:\n  Color:  red\n  Size:   3\nEvents: +<none>", told, re.MULTILINE), told


# --- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told", "told_by_apply"),
    [
        (
            configmap("x") | {"datta": {}},
            'strict decoding error: unknown field "datta"',
            ".datta: field not declared in schema",
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": 5}},
            "cannot unmarshal number into Go struct field PodSpec.spec.containers",
            ".spec.containers: expected list, got 5",
        ),
        (
            widget("x", wheels=4),
            'strict decoding error: unknown field "spec.wheels"',
            ".spec.wheels: field not declared in schema",
        ),
        (widget("x", size=0), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1", ""),
        (widget("x", color="green"), 'spec.color: Unsupported value: "green": supported values: "red", "blue"', ""),
        (
            widget("x", size="big"),
            'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"',
            ".spec.size: expected numeric (int or float), got string",
        ),
        ({"apiVersion": "v1", "kind": "Pot", "metadata": {"name": "x"}}, 'no matches for kind "Pot" in version "v1"', ""),
    ],
)
def test_a_wrong_manifest(k: Kubectl, wrong: object, told: str, told_by_apply: str) -> None:
    assert told in k.fails("apply", "-f", "-", input=[wrong])
    assert (told_by_apply or told) in k.fails("apply", "--server-side", "-f", "-", input=[wrong])


def test_validation_as_told(k: Kubectl) -> None:
    odd = configmap("x") | {"datta": {}}
    done = k.run("create", "--validate=warn", "-f", "-", input=[odd])
    assert (done.stdout, done.stderr) == ("configmap/x created\n", 'Warning: unknown field "datta"\n')
    assert k("replace", "--validate=ignore", "-f", "-", input=[odd]) == "configmap/x replaced\n"


def test_server_side_apply(k: Kubectl) -> None:
    """Conflicts, force, fields of several managers, fields that nobody applies any more."""

    def apply(obj: object, *more: str) -> str:
        return k("apply", "--server-side", "-f", "-", *more, input=[obj])

    assert apply(deployment("web", 2)) == "deployment.apps/web serverside-applied\n"
    apply(deployment("web", 2), "--field-manager=second")
    told = k.fails("apply", "--server-side", "-f", "-", "--field-manager=third", input=[deployment("web", 3)])
    assert told.startswith(
        'error: Apply failed with 2 conflicts: conflicts with "kubectl":\n- .spec.replicas\nconflicts with "second"'
    )
    apply(deployment("web", 3), "--field-manager=third", "--force-conflicts")
    found = k.get("deployment", "web")
    assert found["spec"]["replicas"] == 3
    assert {("kubectl", "Apply"), ("second", "Apply"), ("third", "Apply")} <= managers(found)

    extra = deployment("web", None)
    extra["metadata"]["annotations"] = {"note": "mine"}
    apply(extra, "--field-manager=second")
    del extra["metadata"]["annotations"]
    apply(extra, "--field-manager=second")
    found = k.get("deployment", "web")
    assert "note" not in found["metadata"]["annotations"]
    assert found["spec"]["replicas"] == 3, "it is the third's"
    with_parts = widget("w", parts=[{"name": "a", "weight": 1}])
    assert apply(with_parts) == f"{WIDGET}/w serverside-applied\n"
    apply(widget("w", parts=[{"name": "b", "weight": 2}]), "--field-manager=second")
    assert [part["name"] for part in k.get("widget", "w")["spec"]["parts"]] == ["a", "b"]
    apply(widget("w"))
    assert [part["name"] for part in k.get("widget", "w")["spec"]["parts"]] == ["b"]


def test_from_client_side_apply_to_server_side_and_back(k: Kubectl) -> None:
    k("apply", "-f", "-", input=[deployment("web", 1)])
    assert ("kubectl-client-side-apply", "Update") in managers(k.get("deployment", "web"))
    without_env = deployment("web", 2)
    del without_env["spec"]["template"]["spec"]["containers"][0]["env"]
    k("apply", "--server-side", "-f", "-", input=[without_env])  # no conflict with itself
    found = k.get("deployment", "web")
    assert ("kubectl", "Apply") in managers(found)
    assert ("kubectl-client-side-apply", "Update") not in managers(found)
    assert "env" not in found["spec"]["template"]["spec"]["containers"][0]
    assert found["spec"]["replicas"] == 2
    assert k("apply", "-f", "-", input=[deployment("web", 3)]) == "deployment.apps/web configured\n"
    assert k.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]


def test_diff_and_dry_run(k: Kubectl) -> None:
    assert k("apply", "--dry-run=server", "-f", "-", input=[widget("w")]) == f"{WIDGET}/w created (server dry run)\n"
    assert "not found" in k.fails("get", "widget", "w")
    k("apply", "-f", "-", input=[widget("w"), deployment("web")])
    assert k("diff", "-f", "-", input=[widget("w"), deployment("web")]) == ""
    for flags in ((), ("--server-side", "--force-conflicts")):
        done = k.run("diff", "-f", "-", *flags, input=[widget("w", size=7), deployment("web", image="nginx:2")])
        assert done.returncode == 1, done.stderr
        for changed in (r"^-  size: 1$", r"^\+  size: 7$", r"^-.* image: nginx:1$", r"^\+.* image: nginx:2$"):
            assert re.search(changed, done.stdout, re.MULTILINE), done.stdout
    assert (
        k("delete", "--dry-run=server", "widget", "w")
        == f'{WIDGET} "w" deleted from {k.namespace} namespace (server dry run)\n'
    )
    assert k.get("widget", "w")["spec"]["size"] == 1


def test_prune_with_an_allowlist(k: Kubectl) -> None:
    ours = {"set": "s"}
    a, b, c = (configmap(name, ours, key="value") for name in "abc")
    k("apply", "-f", "-", input=[a, b, c, widget("w", ours), configmap("other")])
    lists = ["--prune-allowlist=core/v1/ConfigMap", "--prune-allowlist=clients.example.com/v1/Widget"]
    told = k("apply", "-f", "-", "--prune", "-l", "set=s", lists[0], input=[a, b])
    assert told.splitlines() == ["configmap/a unchanged", "configmap/b unchanged", "configmap/c pruned"]
    told = k("apply", "-f", "-", "--prune", "-l", "set=s", *lists, input=[a])
    assert sorted(told.splitlines()) == ["configmap/a unchanged", "configmap/b pruned", f"{WIDGET}/w pruned"]


@pytest.mark.parametrize("parent", ["set", "configmap/set"])
def test_prune_with_an_applyset(k: Kubectl, parent: str) -> None:
    if parent.startswith("configmap"):
        marked = configmap("set")
        prefix = "applyset.kubernetes.io"
        marked["metadata"]["annotations"] = {f"{prefix}/tooling": "kubectl/v1.36", f"{prefix}/contains-group-kinds": ""}
        text = f"set.{k.namespace}.ConfigMap."  # the id is the hash of the parent's name, namespace, kind and group
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        marked["metadata"]["labels"] = {"applyset.kubernetes.io/id": f"applyset-{digest}-v1"}
        k("create", "-f", "-", input=[marked])
    flags = ["apply", "-f", "-", "--prune", f"--applyset={parent}", "--server-side"]
    on = {"KUBECTL_APPLYSET": "true"}
    k(*flags, input=[configmap("a"), configmap("b"), widget("w")], **on)
    told = k(*flags, input=[configmap("a")], **on)
    assert sorted(told.splitlines()) == ["configmap/a serverside-applied", "configmap/b pruned", f"{WIDGET}/w pruned"]
    found = k.get("secret" if parent == "set" else "configmap", "set")["metadata"]
    assert found["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert (
        k.get("configmap", "a")["metadata"]["labels"]["applyset.kubernetes.io/part-of"]
        == found["labels"]["applyset.kubernetes.io/id"]
    )


def test_patches(k: Kubectl) -> None:
    k("apply", "-f", "-", input=[widget("w"), deployment("web", 1)])
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
    assert k("patch", "deployment", "web", "-p", json.dumps(change)) == "deployment.apps/web patched\n"
    [container] = k.get("deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"]) == ("nginx:2", [{"name": "A", "value": "1"}])
    assert k("patch", "deployment", "web", "-p", json.dumps(change)) == "deployment.apps/web patched (no change)\n"
    k("patch", "widget", "w", "--type=merge", "-p", '{"spec":{"size":2}}')
    k("patch", "widget", "w", "--type=json", "-p", '[{"op":"replace","path":"/spec/size","value":3}]')
    assert k.get("widget", "w")["spec"]["size"] == 3
    k("patch", "widget", "w", "--type=merge", "--subresource=status", "-p", '{"status":{"phase":"Good"},"spec":{"size":9}}')
    found = k.get("widget", "w")
    assert (found["spec"]["size"], found["status"]) == (3, {"phase": "Good"})
    assert "is not supported by clients.example.com/v1" in k.fails("patch", "widget", "w", "--type=strategic", "-p", "{}")


def test_labels_and_annotations(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w")])
    assert k("label", "widget", "w", "a=b") == f"{WIDGET}/w labeled\n"
    assert k.fails("label", "widget", "w", "a=c") == "error: 'a' already has a value (b), and --overwrite is false\n"
    assert k("label", "widget", "w", "a=c", "--overwrite") == f"{WIDGET}/w labeled\n"
    assert k("get", "wd", "-l", "a in (c),!d", "-o", "name") == f"{WIDGET}/w\n"
    assert k("label", "widget", "w", "a-") == f"{WIDGET}/w unlabeled\n"
    assert k("annotate", "widget", "w", "note=hello there") == f"{WIDGET}/w annotated\n"
    assert k.get("widget", "w")["metadata"]["annotations"] == {"note": "hello there"}
    assert "a valid label must" in k.fails("label", "widget", "w", "a=-")


def test_edit(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w"), deployment("web")])
    assert k("edit", "widget", "w", EDITOR="sed -i s/size:.1/size:\\ 5/") == f"{WIDGET}/w edited\n"
    assert k.get("widget", "w")["spec"]["size"] == 5
    assert k("edit", "deployment", "web", EDITOR="sed -i s/nginx:1/nginx:2/") == "deployment.apps/web edited\n"
    assert k.run("edit", "widget", "w", EDITOR="true").stderr == "Edit cancelled, no changes made.\n"
    told = k.fails("edit", "deployment", "web", EDITOR="sed -i s/protocol:.TCP/protocol:\\ XYZ/")
    assert 'error: deployments.apps "web" is invalid' in told
    for file in re.findall(r'stored to "(.*)"', told):
        Path(file).unlink()


def test_replace(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w")])
    uid = k.get("widget", "w")["metadata"]["uid"]
    assert k("replace", "-f", "-", input=[widget("w", size=2)]) == f"{WIDGET}/w replaced\n"
    assert k.get("widget", "w")["metadata"]["uid"] == uid
    told = k("replace", "--force", "-f", "-", input=[widget("w", size=3)])
    assert told == f'{WIDGET} "w" deleted from {k.namespace} namespace\n{WIDGET}/w replaced\n'
    assert k.get("widget", "w")["metadata"]["uid"] != uid


# --- what the cluster makes of it --------------------------------------------------------------------------------------


def test_wait(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w")])
    waiting = subprocess.Popen(
        k.command("wait", "wd/w", "--for=jsonpath={.status.phase}=Good", "--timeout=20s"), stdout=subprocess.PIPE, text=True
    )
    k("patch", "widget", "w", "--type=merge", "--subresource=status", "-p", '{"status":{"phase":"Good"}}')
    assert waiting.communicate(timeout=20)[0] == f"{WIDGET}/w condition met\n"
    assert k("wait", "wd/w", "--for=jsonpath={.status.phase}") == f"{WIDGET}/w condition met\n"
    assert k("wait", "crd/widgets.clients.example.com", "--for=condition=Established").endswith(" condition met\n")
    assert "timed out waiting for the condition" in k.fails("wait", "wd/w", "--for=condition=Ready", "--timeout=100ms")
    k("delete", "wd/w")
    k("wait", "wd/w", "--for=delete", "--timeout=5s")


def test_scale(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w", replicas=1), deployment("web", 1)])
    assert k("scale", "widget", "w", "--replicas=5") == f"{WIDGET}/w scaled\n"
    assert k.get("widget", "w")["spec"]["replicas"] == 5
    assert k.get("widget", "w", "--subresource=scale")["kind"] == "Scale"
    told = k.fails("scale", "deployment", "web", "--replicas=3", "--current-replicas=2")
    assert "Expected replicas to be 2, was 1" in told
    assert k("scale", "deployment", "web", "--replicas=2", "--current-replicas=1") == "deployment.apps/web scaled\n"


def test_rollout(k: Kubectl) -> None:
    k("apply", "-f", "-", input=[deployment("web", 2)])
    k("rollout", "status", "deployment/web", "--timeout=20s")
    k("set", "image", "deployment/web", "c=nginx:2")
    assert "successfully rolled out" in k("rollout", "status", "deployment/web", "--timeout=20s")
    assert [line.split()[0] for line in k("rollout", "history", "deployment/web").splitlines()[2:] if line] == ["1", "2"]
    assert re.search(r"Image:\s+nginx:1\n", k("rollout", "history", "deployment/web", "--revision=1"))
    assert k("rollout", "undo", "deployment/web").endswith("rolled back\n")
    assert k.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"
    assert k("rollout", "pause", "deployment/web").endswith("paused\n")
    assert k("rollout", "resume", "deployment/web").endswith("resumed\n")
    assert k("rollout", "restart", "deployment/web").endswith("restarted\n")
    k("rollout", "status", "deployment/web", "--timeout=20s")


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_delete_cascades(k: Kubectl, cascade: str) -> None:
    """Over custom resources too: a ConfigMap that a widget owns."""
    k("create", "-f", "-", input=[widget("w")])
    owner = k.get("widget", "w")
    owned = configmap("owned")
    reference = {"apiVersion": owner["apiVersion"], "kind": "Widget", "name": "w", "uid": owner["metadata"]["uid"]}
    owned["metadata"]["ownerReferences"] = [reference | {"blockOwnerDeletion": True}]
    k("create", "-f", "-", input=[owned])
    k("delete", "widget", "w", f"--cascade={cascade}")
    if cascade == "orphan":
        assert "ownerReferences" not in k.get("configmap", "owned")["metadata"]
    else:
        k("wait", "configmap/owned", "--for=delete", "--timeout=10s")


def test_policies(k: Kubectl) -> None:
    """ValidatingAdmissionPolicy and MutatingAdmissionPolicy, each with its binding, on custom resources."""
    group, here = "admissionregistration.k8s.io/v1", {"matchLabels": {"kubernetes.io/metadata.name": k.namespace}}
    rule = {"apiGroups": ["clients.example.com"], "apiVersions": ["*"], "resources": ["widgets"], "operations": ["CREATE"]}
    matched = {"matchConstraints": {"resourceRules": [rule], "namespaceSelector": here}}
    label = 'Object{metadata: Object.metadata{labels: {"sized": string(object.spec.size)}}}'
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": label}}
    kinds = {
        "ValidatingAdmissionPolicy": {"validations": [{"expression": "object.spec.size < 5", "message": "too large"}]},
        "MutatingAdmissionPolicy": {"reinvocationPolicy": "Never", "mutations": [mutation]},
    }
    made = []
    for kind, spec in kinds.items():
        named = {"apiVersion": group, "metadata": {"name": f"{k.namespace}-{kind.lower()}"}}
        bound = {"policyName": named["metadata"]["name"]} | ({"validationActions": ["Deny"]} if kind.startswith("V") else {})
        made += [named | {"kind": kind, "spec": matched | spec}, named | {"kind": f"{kind}Binding", "spec": bound}]
    k("apply", "-f", "-", input=made)
    try:
        k("create", "-f", "-", input=[widget("w", size=4)])
        assert k.get("widget", "w")["metadata"]["labels"] == {"sized": "4"}
        assert "denied request: too large" in k.fails("create", "-f", "-", input=[widget("x", size=5)])
        listed = k("get", "validatingadmissionpolicybindings,mutatingadmissionpolicybindings", "-o", "name")
        assert listed.count(k.namespace) == 2
    finally:
        k("delete", "-f", "-", input=made)


def test_classes(k: Kubectl) -> None:
    """What pods are given by a PriorityClass and a RuntimeClass."""
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "slow"}, "handler": "slow"}
    k("create", "-f", "-", input=[runtime | {"overhead": {"podFixed": {"cpu": "100m"}}}])
    k("create", "priorityclass", "high", "--value=1000")
    classes = json.dumps({"spec": {"runtimeClassName": "slow", "priorityClassName": "high"}})
    k("run", "p", "--image=nginx", f"--overrides={classes}")
    spec = k.get("pod", "p")["spec"]
    assert (spec["overhead"], spec["priority"]) == ({"cpu": "100m"}, 1000)
    k("delete", "runtimeclass/slow", "priorityclass/high")


# --- who asks, and how -------------------------------------------------------------------------------------------------


def test_what_one_may(k: Kubectl) -> None:
    assert re.search(r"^\*\.\* +\[\] +\[\] +\[\*\]$", k("auth", "can-i", "--list"), re.MULTILINE)
    k("create", "serviceaccount", "bot")
    k("create", "role", "viewer", "--verb=get,list", "--resource=widgets.clients.example.com")
    k("create", "rolebinding", "bot", "--role=viewer", f"--serviceaccount={k.namespace}:bot")
    bot = f"--as=system:serviceaccount:{k.namespace}:bot"
    assert k("auth", "can-i", "list", "widgets.clients.example.com", bot) == "yes\n"
    assert k.run("auth", "can-i", "delete", "widgets.clients.example.com", bot).stdout == "no\n"
    listed = k("auth", "can-i", "--list", bot)
    assert re.search(r"^widgets\.clients\.example\.com +\[\] +\[\] +\[get list\]$", listed, re.MULTILINE), listed
    assert "Username    minik8s-admin" in k("auth", "whoami")


def test_tokens(k: Kubectl) -> None:
    k("create", "serviceaccount", "bot")
    token = k("create", "token", "bot", "--duration=20m").strip()
    url = f"https://127.0.0.1:{k.server.port}"
    own = [
        "--kubeconfig=/dev/null",
        f"--server={url}",
        f"--certificate-authority={k.server.data}/tls/server-ca.crt",
        f"--token={token}",
    ]
    line = [k.command()[0], *own, f"--cache-dir={k.server.data}/bot"]
    who = subprocess.run([*line, "auth", "whoami", "-o", "json"], capture_output=True, text=True, check=True).stdout
    assert json.loads(who)["status"]["userInfo"]["username"] == f"system:serviceaccount:{k.namespace}:bot"
    denied = subprocess.run([*line, "get", "pods"], capture_output=True, text=True, check=False).stderr
    assert f'User "system:serviceaccount:{k.namespace}:bot" cannot list resource "pods"' in denied
    assert "may not specify a duration less than 10 minutes" in k.fails("create", "token", "bot", "--duration=1m")


def test_proxy(k: Kubectl) -> None:
    k("create", "-f", "-", input=[widget("w", size=4)])
    process = subprocess.Popen(k.command("proxy", "--port=0"), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        path = f"/apis/clients.example.com/v1/namespaces/{k.namespace}/widgets"
        with urllib.request.urlopen(f"http://{address}{path}/w", timeout=10) as answer:
            assert json.load(answer)["spec"]["size"] == 4
        with urllib.request.urlopen(f"http://{address}{path}?watch=1&timeoutSeconds=1", timeout=10) as answer:
            assert json.loads(answer.readline())["object"]["metadata"]["name"] == "w"
    finally:
        process.terminate()
        process.communicate()


def test_kustomize(k: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [w.yaml]\nnamePrefix: pre-\ncommonAnnotations: {by: kustomize}\n")
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(widget("w")))
    assert k("apply", "-k", str(tmp_path)) == f"{WIDGET}/pre-w created\n"
    assert k.get("widget", "pre-w")["metadata"]["annotations"]["by"] == "kustomize"
