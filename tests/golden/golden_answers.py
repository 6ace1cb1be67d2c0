"""Where upstream's recorded answers are, and what they say of minik8s: each file of cases against a server of its own.

The answers (golden.py, cases/, answers/) are no part of the project. They are looked for where MINIK8S_GOLDEN says, then in
`shared/golden` beside the project, then beside the repository that the project was cloned from.
docs/golden-allowed.txt names the differences that are right. What a node makes of pods is `golden_node.py`'s.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.ports import free_port

PROJECT = Path(__file__).parents[2]
ALLOWED = PROJECT / "docs" / "golden-allowed.txt"
AT_A_TIME = 5
"""Files that are replayed at the same time: most of it is waiting."""
AS_RECORDED = [
    "--service-cidr",
    "10.96.0.0/16",
    "--disable-agent",
    "--disable",
    "scheduler,coredns,kube-proxy,cloud-controller,local-storage,metrics-server",
]
_SCORE = re.compile(r"^golden: (\d+) of (\d+) answers equal upstream's, (\d+) to the letter", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What golden.py said: how many answers are equal, of how many, how many of them to the letter; the differences as text."""

    equal: int
    of: int
    to_the_letter: int
    text: str

    @property
    def broken(self) -> bool:
        return not self.of

    @property
    def good(self) -> bool:
        return not self.broken and self.equal == self.of


def directory() -> Path:
    """Where the answers are, or would be."""
    if named := os.environ.get("MINIK8S_GOLDEN"):
        return Path(named)
    beside = PROJECT.parent / "shared" / "golden"
    origin = _origin()
    if not beside.is_dir() and origin is not None:
        return origin.parent / "shared" / "golden"
    return beside


def _origin() -> Path | None:
    """The repository that this one was cloned from, where it is on this machine."""
    command = ["git", "-C", str(PROJECT), "config", "remote.origin.url"]
    try:
        url = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().removeprefix("file://")
    except FileNotFoundError:
        return None
    return Path(url) if url.startswith("/") else None


def files(where: Path) -> list[str]:
    """The files of cases, the longest first, so that they don't end alone."""
    found = sorted(where.glob("cases/*.yaml"), key=lambda path: path.stat().st_size, reverse=True)
    return [path.stem for path in found]


def replay(where: Path, name: str) -> Outcome:
    """One file of cases against a server of its own: in memory, without nodes."""
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        data = Path(temporary) / "data"
        port = free_port()
        flags = ["--data-dir", str(data), "--datastore-endpoint", "memory", "--bind-address", "127.0.0.1"]
        flags += ["--https-listen-port", str(port), *AS_RECORDED]
        with (Path(temporary) / "log").open("wb") as log:
            server = subprocess.Popen([sys.executable, "-m", "minik8s", "server", *flags], cwd=PROJECT, stdout=log, stderr=log)
        try:
            while not (data / "admin.kubeconfig").exists():
                if server.poll() is not None:
                    return Outcome(0, 0, 0, (Path(temporary) / "log").read_text())
                time.sleep(0.05)
            token = (data / "admin-token").read_text().strip()  # over the socket, everybody would be admin
            return ask(where / "golden.py", where, name, f"https://127.0.0.1:{port}", token, ALLOWED)
        finally:
            server.terminate()
            server.wait()


def ask(program: Path, where: Path, name: str, url: str, token: str, allowed: Path, inside: Sequence[str] = ()) -> Outcome:
    """One file of `where`'s cases against the server at `url`, by golden.py (`program`); `inside`: the command that runs it elsewhere."""
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        alone = Path(temporary) / "cases"
        alone.mkdir()
        (alone / f"{name}.yaml").symlink_to((where / "cases" / f"{name}.yaml").resolve())
        (alone.parent / "answers").symlink_to((where / "answers").resolve())
        line = [*inside, sys.executable, str(program), "replay", "--url", url, "--token", token]
        line += ["--cases", str(alone), "--allow", str(allowed)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        return _outcome(done.stdout + done.stderr)


def _outcome(text: str) -> Outcome:
    match = _SCORE.search(text)
    equal, of, letter = map(int, match.groups()) if match else (0, 0, 0)
    return Outcome(equal, of, letter, text)
