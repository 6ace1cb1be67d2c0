"""Scenarios as text: `COMMAND ARGUMENT... {YAML}` on a line; after `----` what came of the last one, until an empty line.

With REWRITE=1 in the environment the outcomes are written anew: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml


def play(file: Path, room: Any) -> None:
    """Carries out the commands (methods of `room`: arguments, then the YAML; they return the lines of their outcome, if any) and
    compares.
    """
    told = file.read_text()
    happened = _performed(told, room)
    if os.environ.get("REWRITE"):
        file.write_text(happened)
    else:
        assert happened == told


def _performed(text: str, room: Any) -> str:
    """The text with the outcomes as they are now."""
    shown, skipping = [], False
    outcome: list[str] = []
    for line in text.splitlines():
        if line == "----":
            shown += [line, *outcome]
            outcome, skipping = [], True
        elif not line.strip():
            skipping = False
            shown.append(line)
        elif not skipping:
            shown.append(line)
            if not line.startswith("#"):
                head, _, tail = line.partition("{")
                command, *args = head.split()
                given = yaml.safe_load("{" + tail) if tail else {}
                outcome = getattr(room, command.replace("-", "_"))(*args, given) or []
    return "\n".join(shown) + "\n"
