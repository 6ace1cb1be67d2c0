"""`minik8s image`: the images of this machine's node, over its agent's local socket."""

from __future__ import annotations

import argparse
import json
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from minik8s.cli import CommandError, UsageError, connection, output
from minik8s.config import default_data_dir

EXAMPLES = """examples:
  minik8s image ls
  minik8s image import app.tar                  an archive of `docker save`, or an OCI layout
  minik8s image pull registry.example/app:1.2
  minik8s image rm registry.example/app:1.2
"""
ACTIONS = ("import", "ls", "pull", "rm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("names", nargs="*", metavar="FILE|NAME", help="archives to import, images to pull or remove")
    parser.add_argument("--data-dir", metavar="DIR", help=f"the agent's data directory (default: {default_data_dir()})")


def run(options: argparse.Namespace) -> int:
    if (options.action == "ls") == bool(options.names):
        raise UsageError("ls takes no names" if options.names else f"{options.action} what?")
    socket = connection.data_dir(options) / "agent" / "agent.sock"
    if options.action == "ls":
        _list(_ask(socket, "GET", "/images", {}))
    for name in options.names:
        if options.action == "import":
            path = Path(name).absolute()
            for reference in _ask(socket, "POST", "/images/import", {"path": str(path)})["references"]:
                print(f"imported {reference}")
        elif options.action == "pull":
            print(f"pulled {name} ({_ask(socket, 'POST', '/images/pull', {'name': name})['id']})")
        else:
            _ask(socket, "DELETE", "/images", {"name": name})
            print(f"removed {name}")
    return 0


def _list(answer: Any) -> None:
    definitions = [{"name": name} for name in ("Image", "Size", "Id")]
    rows = [
        {"cells": [name, _size(image["size"]), image["id"].removeprefix("sha256:")[:12]]}
        for image in answer["images"]
        for name in image["tags"] or image["digests"] or ("<none>",)
    ]
    columns = output.Columns(wide=False, namespaces=False)
    print("\n".join(columns.lines({"columnDefinitions": definitions, "rows": sorted(rows, key=lambda row: str(row["cells"]))})))


def _size(size: int) -> str:
    return f"{size / 1e6:.1f}MB" if size >= 100_000 else f"{size / 1e3:.1f}kB"


def _ask(socket: Path, method: str, path: str, query: dict[str, str]) -> Any:
    """The agent's answer. A pull may take long: no time limit but the agent's."""
    link = connection.UnixConnection(str(socket))
    try:
        link.request(method, f"{path}?{urlencode(query)}")
        answer = link.getresponse()
        body = json.loads(answer.read() or b"{}")
    except (FileNotFoundError, ConnectionRefusedError):
        raise CommandError(f"no agent answers at {socket}: is one running here? (minik8s server, or minik8s agent)") from None
    except PermissionError:
        raise CommandError(f"{socket} belongs to another user: run as the agent's user") from None
    except (OSError, HTTPException, ValueError) as error:
        raise CommandError(f"cannot talk to the agent at {socket}: {error}") from None
    finally:
        link.close()
    if answer.status >= 400:
        raise CommandError(str(body.get("message") or f"HTTP status {answer.status}"))
    return body
