"""A kopf operator (PyPI: kopf) as a process: it watches, makes what its resource owns, tells the status, and cleans up by a finalizer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..programs import Server, environment
from .common import widget

pytestmark = pytest.mark.e2e


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return found


@pytest.fixture
def operator(kubeconfig: str, namespace: str, tmp_path: Path) -> Iterator[Path]:
    """Its log; it ends as it is told to."""
    program = Path(__file__).with_name("widgets_operator.py")
    line = [sys.executable, "-m", "kopf", "run", str(program), "--namespace", namespace, "--standalone", "--log-format=plain"]
    log = tmp_path / "operator.log"
    with log.open("wb") as file:
        process = subprocess.Popen(line, stdout=file, stderr=file, env=environment() | {"KUBECONFIG": kubeconfig})
    try:
        yield log
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_an_operator(server: Server, operator: Path, namespace: str) -> None:
    widgets = f"/apis/clients.example.com/v1/namespaces/{namespace}/widgets"
    configmaps = f"/api/v1/namespaces/{namespace}/configmaps"

    def get(path: str) -> Any:
        answer = server.ask("GET", path)
        return answer.json if answer.status == 200 else None

    made = server.ask("POST", widgets, widget("w", size=3)).json
    try:
        found = eventually(lambda: (w := get(f"{widgets}/w")) and w.get("status", {}).get("phase") == "Ready" and w)
        assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        assert found["status"]["child"] == "w-child"
        child = get(f"{configmaps}/w-child")
        assert child["data"] == {"size": "3"}
        assert child["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        merge = {"Content-Type": "application/merge-patch+json"}
        assert server.ask("PATCH", f"{widgets}/w", {"spec": {"size": 5}}, merge).status == 200
        eventually(lambda: get(f"{configmaps}/w-child")["data"] == {"size": "5"})
        assert eventually(lambda: [e for e in get(f"/api/v1/namespaces/{namespace}/events")["items"] if e["reason"] == "Made"])
        assert server.ask("DELETE", f"{widgets}/w").status == 200
        eventually(lambda: get(f"{widgets}/w") is None)
        assert get(f"{configmaps}/w-was-here")
        eventually(lambda: get(f"{configmaps}/w-child") is None)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(get(f'{widgets}/w'))}\n{operator.read_text()}") from error
