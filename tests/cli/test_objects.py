"""get, create and delete against a real server; columns and words are kubectl's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from minik8s import cli

Run = Callable[..., tuple[int, str, str]]

FILE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: shop}}
data: {text: "two\\nlines\\n", date: 2024-01-01, yes: "on"}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "a.yaml"
    path.write_text(FILE)
    return path


def test_a_life(run: Run, file: Path) -> None:
    code, out, err = run("create", "-f", file, "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "configmap/a created (server dry run)"), err
    assert run("create", "-f", file) == (0, "configmap/a created\nconfigmap/b created\nnamespace/shop created\n", "")
    code, out, err = run("create", "-f", file)
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == 'minik8s create: configmaps "a" already exists'
    assert run("get", "cm", "a", "b", "-o", "name") == (0, "configmap/a\nconfigmap/b\n", "")
    assert run("get", "cm/a", "ns/shop", "-o", "name")[1] == "configmap/a\nnamespace/shop\n"

    code, out, _ = run("get", "configmaps", "-l", "app=shop")
    headings, row = (line.split() for line in out.splitlines())
    assert (code, headings, row[:2]) == (0, ["NAME", "DATA", "AGE"], ["a", "3"])
    code, out, _ = run("get", "cm", "-A", "--field-selector", "metadata.name=b", "--no-headers")
    assert out.split()[:3] == ["default", "b", "0"]
    code, out, _ = run("get", "configmap", "a", "-o", "yaml")
    assert "  text: |\n    two\n    lines\n" in out
    assert yaml.safe_load(out)["data"] == {"text": "two\nlines\n", "date": "2024-01-01", "true": "on"}
    assert "managedFields" not in out
    code, out, _ = run("get", "cm", "-l", "app=shop", "-o", "json")
    listed = json.loads(out)
    assert (listed["kind"], [(item["kind"], item["metadata"]["name"]) for item in listed["items"]]) == (
        "List",
        [("ConfigMap", "a")],
    )

    assert run("get", "cm,ns", "-o", "wide")[1].count("NAME") == 2
    assert run("get", "pods") == (0, "", "No resources found in default namespace.\n")
    assert run("get", "pods", "-A") == (0, "", "No resources found\n")

    code, out, err = run("delete", "-f", file)
    assert (code, err) == (0, "")
    assert out.splitlines()[::2] == ['configmap "a" deleted from default namespace', 'namespace "shop" deleted']
    assert run("get", "cm/a") == (1, "", 'minik8s get: configmaps "a" not found\n')
    assert run("delete", "cm", "a", "--ignore-not-found") == (0, "", "")
    assert run("delete", "cm", "-l", "app=none") == (0, "", "No resources found\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["get"], 2, "the following arguments are required: KIND[/NAME] (see minik8s get --help)"),
        (["get", "pods", "--nope"], 2, "unrecognized arguments: --nope (see minik8s get --help)"),
        (["get", "pods", "-o", "xml"], 2, "argument -o/--output: invalid choice: 'xml'"),
        (["get", "pods", "x", "-A"], 2, "names go with neither a selector nor --all-namespaces"),
        (["get", "pods/a", "b"], 2, "either KIND NAME ... or KIND/NAME ..."),
        (["get", "nosuch"], 1, 'the server doesn\'t have a resource type "nosuch"'),
        (["get", "pods", "--kubeconfig", "/nosuch"], 1, "cannot read /nosuch: No such file or directory"),
        (["get", "pods", "--data-dir", "/nosuch"], 1, "no cluster in /nosuch: start one with `minik8s server`"),
        (["get", "pods", "-l", "a in"], 1, "unable to parse requirement"),
        (["create", "-f", "/nosuch"], 1, "cannot read /nosuch: No such file or directory"),
        (["delete", "pods"], 2, "name them, or choose with -l or --all"),
        (["delete"], 2, "either KIND NAME ... or -f FILE"),
        (["logs", "nosuch"], 1, 'pods "nosuch" not found'),
        (["logs", "nosuch", "--since", "soon"], 2, "--since: not a duration"),
        (["exec", "nosuch"], 2, "which command? minik8s exec POD -- COMMAND"),
        (["exec", "nosuch", "--", "ls", "-l"], 1, 'pods "nosuch" not found'),
        (["image", "ls", "--data-dir", "/nosuch"], 1, "no agent answers at /nosuch/agent/agent.sock"),
        (["image", "rm"], 2, "rm what?"),
        (["token", "--data-dir", "/nosuch"], 1, "no token in /nosuch: run this on the server's machine"),
        (["agent"], 2, "--server is needed"),
        (["server", "--https-listen-port", "x"], 2, "--https-listen-port: 'x' is no whole number"),
        (["serve"], 2, "unknown command 'serve' (see minik8s --help)"),
        (["--nope"], 2, "unknown option --nope"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, arguments: list[str], code: int, told: str) -> None:
    got, out, err = run(*arguments)
    assert (got, out) == (code, ""), err
    assert told in err
    assert err.startswith("minik8s")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "document 1: yaml: "),
        ("just text", "document 1: not an object"),
        ("kind: Pod\nmetadata: {name: a}", "document 1: apiVersion is missing"),
        ("---\n---\n", "no objects in"),
        ("apiVersion: v1\nkind: Pot\nmetadata: {name: a}", 'no matches for kind "Pot" in version "v1"'),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\nmore: 1", 'unknown field "more"'),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: x}", "a names the namespace x, --namespace says y"),
    ],
)
def test_bad_files(run: Run, tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    code, out, err = run("create", "-f", file, "-n", "y" if "namespace" in text else "default")
    assert (code, out) == (1, "")
    assert told in err


def test_every_command_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        if name != "version":
            assert "examples:" in capsys.readouterr().out, name


def test_watch_prints_what_changes(run: Run, file: Path, cluster: object) -> None:
    watch = subprocess.Popen(
        [sys.executable, "-m", "minik8s", "get", "ns", "-w", "-o", "name"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert watch.stdout is not None
        first = [watch.stdout.readline() for _ in range(4)]
        assert "namespace/default\n" in first
        made = file.with_name("ns.yaml")
        made.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: seen}\n")
        assert run("create", "-f", made)[0] == 0
        assert watch.stdout.readline() == "namespace/seen\n"
    finally:
        watch.kill()
        watch.communicate()


def test_what_a_reader_leaves_is_no_error(cluster: object, run: Run) -> None:
    done = subprocess.run(
        f"{sys.executable} -m minik8s get ns -o yaml | head -1",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.stderr == ""


def test_version_is_quick() -> None:
    """What takes long is imported late: a tool that people call often starts at once."""
    code = "import sys; sys.argv[1:] = ['version']; import minik8s.cli; minik8s.cli.main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "aiohttp", "ssl", "http.client", "yaml", "cryptography", "importlib.metadata", "email"}
