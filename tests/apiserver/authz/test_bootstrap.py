"""What exists from the start, and how a later start treats what people changed ("Auto-reconciliation" of the RBAC chapter)."""

import copy
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.apiserver import bootstrap

OBJECTS = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in bootstrap.objects()}


def test_all_are_served_kinds_and_named_once() -> None:
    assert len(OBJECTS) == len(bootstrap.objects())
    assert all(resources.of(obj) for obj in OBJECTS.values())


def test_every_bound_role_exists() -> None:
    for (kind, namespace, name), obj in OBJECTS.items():
        if ref := obj.get("roleRef"):
            home = namespace if ref["kind"] == "Role" else ""
            assert (ref["kind"], home, ref["name"]) in OBJECTS, (kind, name)


def test_some_facts_of_upstream() -> None:
    cluster_admin = OBJECTS["ClusterRole", "", "cluster-admin"]
    assert cluster_admin["rules"] == [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    scheduler = OBJECTS["ClusterRole", "", "system:kube-scheduler"]["rules"]
    assert {
        "apiGroups": ["coordination.k8s.io"],
        "resourceNames": ["kube-scheduler"],
        "resources": ["leases"],
        "verbs": ["get", "list", "update", "watch"],
    } in scheduler
    assert {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]} in scheduler
    admin, edit, view = (OBJECTS["ClusterRole", "", name]["rules"] for name in ("admin", "edit", "view"))
    assert (len(admin), len(edit), len(view)) == (29, 27, 12)
    assert all(rule in admin for rule in edit)
    assert all(rule in edit for rule in view)


def test_what_is_as_wanted_is_not_written() -> None:
    assert [key for key, obj in OBJECTS.items() if bootstrap.reconcile(copy.deepcopy(obj), obj)] == []


@pytest.mark.parametrize("key", [("ClusterRole", "", "system:basic-user"), ("ClusterRoleBinding", "", "system:basic-user")])
def test_what_was_taken_away_comes_back_and_what_was_added_stays(key: tuple[str, str, str]) -> None:
    wanted = OBJECTS[key]
    field = "rules" if "rules" in wanted else "subjects"
    extra: dict[str, Any] = (
        {"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]} if field == "rules" else {"kind": "User", "name": "u"}
    )
    changed = copy.deepcopy(wanted)
    changed["metadata"]["labels"] = {"mine": "yes"}
    changed[field] = [extra, *wanted[field][1:]]
    written = bootstrap.reconcile(changed, wanted)
    assert written is not None
    assert written["metadata"]["labels"] == {"mine": "yes", "kubernetes.io/bootstrapping": "rbac-defaults"}
    assert extra in written[field]
    assert bootstrap.reconcile(written, wanted) is None


def test_a_protected_role_is_left_alone() -> None:
    wanted = OBJECTS["ClusterRole", "", "system:basic-user"]
    changed = copy.deepcopy(wanted) | {"rules": []}
    changed["metadata"]["annotations"][bootstrap.AUTOUPDATE] = "false"
    assert bootstrap.reconcile(changed, wanted) is None


def test_a_namespace_is_only_made() -> None:
    wanted = OBJECTS["Namespace", "", "default"]
    assert bootstrap.reconcile(None, wanted) == wanted
    assert bootstrap.reconcile({**wanted, "metadata": {"name": "default", "labels": {"a": "b"}}}, wanted) is None
