"""`minik8s create`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from minik8s.cli import CommandError, connection, manifests, output
from minik8s.cli.kinds import Kind, find_exact, kinds

EXAMPLES = """examples:
  minik8s create -f config/examples/web.yaml
  minik8s create -f manifests/ -n shop
  cat pod.yaml | minik8s create -f -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE", help="YAML or JSON, a folder of them, or - (stdin)"
    )
    parser.add_argument("-o", "--output", default="", choices=output.FORMATS[1:], help="print what was made")
    parser.add_argument("--dry-run", action="store_true", help="let the server check, and keep nothing")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    objects = manifests.read(options.filename)
    server = connection.server(options)
    known = kinds(server)
    query = {"fieldValidation": "Strict", "fieldManager": "minik8s"} | ({"dryRun": "All"} if options.dry_run else {})
    code = 0
    for obj in objects:
        try:
            kind = find_exact(known, obj["apiVersion"], obj["kind"])
            made = server.request("POST", kind.path(namespace_of(obj, options.namespace, server)), query, obj)
        except CommandError as error:  # the others may still be made
            print(f"minik8s create: {error}", file=sys.stderr)
            code = 1
            continue
        print(told(kind, made, options, "created"))
    return code


def namespace_of(obj: dict[str, Any], given: str | None, server: connection.Server) -> str:
    """Where an object goes; CommandError where the file and `--namespace` differ."""
    written = obj["metadata"].get("namespace") or ""
    if given and written and written != given:
        name = obj["metadata"].get("name", "")
        raise CommandError(f"{name} names the namespace {written}, --namespace says {given}: leave one of them out")
    return written or server.namespace


def told(kind: Kind, made: dict[str, Any], options: argparse.Namespace, done: str) -> str:
    """What is printed of an object that the server made: itself with `--output`, else what was `done`."""
    if options.output:
        return output.text(options.output, kind, made)
    return f"{kind.singular}/{made['metadata']['name']} {done}" + (" (server dry run)" if options.dry_run else "")
