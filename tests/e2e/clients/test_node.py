"""The official Node client (npm: @kubernetes/client-node, which `make test` puts into .venv/node where there is an npm)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..programs import environment

LIBRARY = Path(sys.executable).parents[1] / "node" / "node_modules" / "@kubernetes" / "client-node" / "dist" / "index.js"
MISSING = "no node here" if shutil.which("node") is None else f"{LIBRARY} is not installed (`make test` does it by npm)"
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(shutil.which("node") is None or not LIBRARY.exists(), reason=MISSING)]


def test_the_node_client(kubeconfig: str, namespace: str) -> None:
    script = Path(__file__).with_name("client.mjs")
    line = ["node", str(script), str(LIBRARY), namespace]
    done = subprocess.run(
        line, env=environment() | {"KUBECONFIG": kubeconfig}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "seen": [["add", "a", "1"], ["update", "a", "2"], ["delete", "a", "2"]],
        "color": "red",
        "replicas": 2,
        "manager": "node",
    }
