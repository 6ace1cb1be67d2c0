"""`make golden`: how many of upstream's recorded answers minik8s gives, file by file.

    python -m tests.golden DIRECTORY [FILE ...] [--out DIRECTORY]

DIRECTORY holds golden.py, cases/ and answers/. Each file of cases is replayed against a server of its own (memory store, no agent), a few
at a time: most of it is waiting. The score goes to the terminal, the differences to `--out` (one text a file).
docs/golden-allowed.txt names the differences that are right.
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ALLOWED = Path(__file__).parent.parent / "docs" / "golden-allowed.txt"
AT_A_TIME = 5
AS_RECORDED = [
    "--service-cidr",
    "10.96.0.0/16",
    "--disable-agent",
    "--disable",
    "scheduler,coredns,kube-proxy,cloud-controller",
]
SCORE = re.compile(r"^golden: (\d+) of (\d+) answers equal upstream's, (\d+) to the letter", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="Replays upstream's recorded answers.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("files", nargs="*", help="names of case files (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build/golden"), help="where the differences go")
    options = parser.parse_args()
    if not (options.directory / "golden.py").exists():
        print(f"no golden answers in {options.directory}; say where they are: make golden GOLDEN=DIRECTORY", file=sys.stderr)
        return 1
    known = sorted(path.stem for path in (options.directory / "cases").glob("*.yaml"))
    if unknown := set(options.files) - set(known):
        parser.error(f"no cases {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.out.mkdir(parents=True, exist_ok=True)
    total = [0, 0, 0]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        replays = {pool.submit(replay, options.directory, name): name for name in options.files or known}
        for done in as_completed(replays):
            name, text = replays[done], done.result()
            (options.out / f"{name}.txt").write_text(text)
            match = SCORE.search(text)
            if match is None:
                print(f"{name:<24}broken: {(text.strip() or 'no output').splitlines()[-1]}", flush=True)
                return 1
            score = [int(number) for number in match.groups()]
            total = [sum(pair) for pair in zip(total, score, strict=True)]
            print(f"{name:<24}{told(score)}", flush=True)
    print(f"{'all':<24}{told(total)}\ndifferences: {options.out}/")
    return 0


def told(score: list[int]) -> str:
    good, of, letter = score
    return f"{good:>5} of {of:>5} equal ({good / max(of, 1):6.1%}), {letter:>5} to the letter"


def replay(directory: Path, name: str) -> str:
    """What golden.py says of one file of cases, against a server of its own."""
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        data = Path(temporary) / "data"
        port = free_port()
        flags = ["--data-dir", str(data), "--datastore-endpoint", "memory", "--bind-address", "127.0.0.1"]
        flags += ["--https-listen-port", str(port), *AS_RECORDED]
        with (Path(temporary) / "log").open("wb") as log:
            server = subprocess.Popen([sys.executable, "-m", "minik8s", "server", *flags], stdout=log, stderr=log)
        try:
            while not (data / "admin.kubeconfig").exists():
                if server.poll() is not None:
                    return (Path(temporary) / "log").read_text()
                time.sleep(0.05)
            alone = Path(temporary) / "golden" / "cases"
            alone.mkdir(parents=True)
            (alone / f"{name}.yaml").symlink_to((directory / "cases" / f"{name}.yaml").resolve())
            (alone.parent / "answers").symlink_to((directory / "answers").resolve())
            token = (data / "admin-token").read_text().strip()  # over the socket, everybody would be admin
            line = [
                sys.executable,
                str(directory / "golden.py"),
                "replay",
                "--url",
                f"https://127.0.0.1:{port}",
                "--token",
                token,
            ]
            line += ["--cases", str(alone), "--allow", str(ALLOWED)]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            return done.stdout + done.stderr
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
