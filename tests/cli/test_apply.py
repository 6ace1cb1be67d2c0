"""`minik8s apply` against a real server. Source: kubernetes.io "Server-Side Apply"; words are kubectl's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from minik8s.cli import CommandError
from minik8s.cli.apply import _established

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    numbers = iter(range(100))

    def file(*objects: Any) -> Path:
        path = tmp_path / f"{next(numbers)}.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        return path

    return file


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def definition(plural: str, kind: str, group: str = "apply.example.com") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": spec,
    }


def get(run: Run, *what: str) -> Any:
    code, out, err = run("get", *what, "-o", "json")
    assert code == 0, err
    return json.loads(out)


def test_what_a_file_says_no_longer_is_gone(run: Run, write: Callable[..., Path]) -> None:
    assert run("apply", "-f", write(configmap("a", x="1", y="2"))) == (0, "configmap/a serverside-applied\n", "")
    uid = get(run, "cm/a")["metadata"]["uid"]
    assert run("apply", "-f", write(configmap("a", x="3")))[0] == 0
    found = get(run, "cm/a")
    assert (found["data"], found["metadata"]["uid"]) == ({"x": "3"}, uid)


def test_conflicts(run: Run, write: Callable[..., Path]) -> None:
    assert run("apply", "-f", write(configmap("c", x="1")))[0] == 0
    theirs = write(configmap("c", x="2"))
    told = 'minik8s apply: Apply failed with 1 conflict: conflict with "minik8s": .data.x (--force-conflicts takes them over)\n'
    assert run("apply", "-f", theirs, "--field-manager", "ci") == (1, "", told)
    assert get(run, "cm/c")["data"] == {"x": "1"}
    assert run("apply", "-f", theirs, "--field-manager", "ci", "--force-conflicts")[0] == 0
    assert get(run, "cm/c")["data"] == {"x": "2"}


def test_dry_run_and_forms(run: Run, write: Callable[..., Path]) -> None:
    file = write(configmap("d", x="1"))
    assert run("apply", "-f", file, "--dry-run") == (0, "configmap/d serverside-applied (server dry run)\n", "")
    assert run("get", "cm/d")[0] == 1
    code, out, _ = run("apply", "-f", file, "--dry-run", "-o", "yaml")
    assert (code, yaml.safe_load(out)["data"]) == (0, {"x": "1"})
    assert run("apply", "-f", file, "-o", "name") == (0, "configmap/d\n", "")


def test_definitions_and_namespaces_go_first(run: Run, write: Callable[..., Path]) -> None:
    widget = {"apiVersion": "apply.example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "toys"}}
    file = write(widget | {"spec": {"size": 1}}, namespace("toys"), definition("widgets", "Widget"), configmap("e"))
    code, out, err = run("apply", "-f", file)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "namespace/toys serverside-applied",
        "customresourcedefinition.apiextensions.k8s.io/widgets.apply.example.com serverside-applied",
        "widget.apply.example.com/w serverside-applied",
        "configmap/e serverside-applied",
    ]
    assert run("apply", "-f", file)[0] == 0
    assert get(run, "widgets/w", "-n", "toys")["spec"] == {"size": 1}


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def test_a_definition_that_never_serves(run: Run, write: Callable[..., Path]) -> None:
    assert run("apply", "-f", write(definition("gadgets", "Gadget", "names.example.com")))[0] == 0
    code, out, err = run("apply", "-f", write(definition("gizmos", "Gadget", "names.example.com")))
    assert (code, out.count("\n")) == (1, 1)
    assert err == 'minik8s apply: gizmos.names.example.com is not served: "GadgetList" is already in use\n'


def test_what_is_not_yet_known() -> None:
    assert not _established({"metadata": {"name": "x"}})
    conditions = [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "False"}]
    assert not _established({"metadata": {"name": "x"}, "status": {"conditions": conditions}})
    with pytest.raises(CommandError, match="x is not served: taken"):
        _established(
            {"metadata": {"name": "x"}, "status": {"conditions": [conditions[0] | {"status": "False", "message": "taken"}]}}
        )


@pytest.mark.parametrize(
    ("obj", "flags", "told"),
    [
        (
            configmap("m") | {"more": 1},
            (),
            "failed to create typed patch object (default/m; /v1, Kind=ConfigMap): .more: field not declared",
        ),
        ({"apiVersion": "v1", "kind": "Pot", "metadata": {"name": "m"}}, (), 'no matches for kind "Pot" in version "v1"'),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "m"}},
            (),
            "a Pod without metadata.name: apply needs one",
        ),
        (configmap("M"), (), 'ConfigMap "M" is invalid: metadata.name: Invalid value: "M"'),
        (
            {**configmap("m"), "metadata": {"name": "m", "namespace": "x"}},
            ("-n", "y"),
            "m names the namespace x, --namespace says y",
        ),
    ],
)
def test_mistakes(run: Run, write: Callable[..., Path], obj: Any, flags: tuple[str, ...], told: str) -> None:
    """One line for what is wrong; what is right in the same file is applied."""
    code, out, err = run("apply", "-f", write(obj, namespace("right")), *flags)
    assert (code, out) == (1, "namespace/right serverside-applied\n")
    assert err.startswith(f"minik8s apply: {told}")
    assert err.count("\n") == 1
