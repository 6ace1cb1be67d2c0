"""The systemd units in config/: what they start can be started so, and pods outlive their restart (systemd.kill(5))."""

from __future__ import annotations

import argparse
import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minik8s import config

CONFIG = Path(__file__).parent.parent / "config"
UNITS = {"minik8s.service": config.SERVER, "minik8s-agent.service": config.AGENT}


def read(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string((CONFIG / name).read_text())
    return found


@pytest.mark.parametrize(("name", "command"), UNITS.items())
def test_a_unit(name: str, command: str) -> None:
    service = read(name)["Service"]
    wanted = {"Type": "notify", "KillMode": "process", "Delegate": "yes", "Restart": "always", "LimitNOFILE": "1048576"}
    assert wanted.items() <= dict(service).items()
    program, given, *flags = service["ExecStart"].split()
    assert (Path(program).name, given) == ("minik8s", command)
    parser = argparse.ArgumentParser()
    config.add_arguments(parser, command)
    assert parser.parse_args(flags).config == f"/etc/minik8s/{command}.yaml"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_it(name: str, tmp_path: Path) -> None:
    program = read(name)["Service"]["ExecStart"].split()[0]
    (tmp_path / name).write_text((CONFIG / name).read_text().replace(program, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if name in line]) == (0, [])
