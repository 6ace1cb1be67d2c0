"""nftables as text: each call is one `nft -f -`, one transaction that holds whole or not at all.

The parts that own a table keep what they wrote and send differences; nothing is read back. `replace` begins a table anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess

from minik8s.base import children


class NftFailed(OSError):
    """The kernel or `nft` refused the transaction; the text is nft's own."""


def missing() -> str:
    """Why nftables can't be used on this machine by this user; empty where it can."""
    if os.geteuid() != 0:
        return "not root"
    return "" if shutil.which("nft") else "nft is not installed"


def table_name(part: str, node: str) -> str:
    """A part's table on a node: agents that share one network namespace don't clash."""
    return f"minik8s-{part}-{hashlib.sha256(node.encode()).hexdigest()[:8]}"


def remove(table: str) -> str:
    """Text that leaves no such table, whether there was one or not."""
    return f"table ip {table}\ndelete table ip {table}\n"


def replace(table: str, body: str) -> str:
    """Text that makes the table hold `body` alone, without a moment between."""
    return f"{remove(table)}table ip {table} {{\n{body}}}\n"


def tables(node: str) -> list[str]:
    """The names of all parts' tables of a node, as the kernel has them."""
    listed = _run("list", "tables", "ip")
    ending = table_name("", node).removeprefix("minik8s-")
    names = [line.split()[-1] for line in listed.splitlines()]
    return [name for name in names if name.startswith("minik8s-") and name.endswith(ending)]


def remove_now(table: str) -> None:
    """As `apply` of `remove`, where there is no event loop."""
    _run("-f", "-", given=remove(table))


def _run(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["nft", *arguments], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NftFailed(f"nft: {done.stderr.strip()}")
    return done.stdout


async def apply(text: str) -> None:
    """Raises NftFailed; FileNotFoundError where nft isn't installed."""
    process = await asyncio.create_subprocess_exec(
        "nft", "-f", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, told = await children.communicate(process, text.encode())
    if process.returncode:
        raise NftFailed(f"nft: {told.decode(errors='replace').strip()}")
