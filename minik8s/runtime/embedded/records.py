"""What the node process knows of sandboxes and containers, on disk: one `record.json` in a directory each, replaced whole.

A record is a plain mapping. Both have id, spec, meta, pid, starttime, boot, created_at; a sandbox ready and ips; a container
sandbox_id, state, user, started_at, finished_at, exit_code, reason and message. `meta` is the agent's own and comes back as it was
given. No fsync: what a power failure takes ended with it, and a torn record is dropped. Standard library only.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def save(directory: str, record: dict[str, Any]) -> None:
    fresh = f"{directory}/record.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(record, separators=(",", ":")).encode())
    finally:
        os.close(fd)
    os.replace(fresh, f"{directory}/record.json")


def load(parent: str) -> tuple[list[dict[str, Any]], list[str]]:
    """(all readable records below `parent`, the directories that have none)."""
    records, torn = [], []
    for name in sorted(os.listdir(parent)):
        try:
            with open(f"{parent}/{name}/record.json", "rb") as file:
                records.append(json.loads(file.read()))
        except (OSError, ValueError):
            torn.append(f"{parent}/{name}")
    return records, torn


def remove_tree(directory: str) -> None:
    """For a forked child: it may take its time. Symbolic links are removed, not followed; what is gone already is fine."""
    for path, folders, files in os.walk(directory, topdown=False):
        for name in [*files, *(folder for folder in folders if os.path.islink(f"{path}/{folder}"))]:
            os.unlink(f"{path}/{name}")
        for name in folders:
            if not os.path.islink(f"{path}/{name}") and os.path.isdir(f"{path}/{name}"):
                os.rmdir(f"{path}/{name}")
    os.rmdir(directory)
