"""`minik8s apply`: server-side apply (KEP-555). What a file says is set and owned; what it says no longer is given up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.cli import CommandError, connection, manifests, output
from minik8s.cli.connection import Refused, Server
from minik8s.cli.create import namespace_of, told
from minik8s.cli.kinds import Kind, find_exact, kinds

EXAMPLES = """examples:
  minik8s apply -f config/examples/web.yaml
  minik8s apply -f operator/ -f widgets.yaml -n shop     definitions of custom resources go first, and are waited for
  minik8s apply -f web.yaml --dry-run -o yaml            what would be there
  minik8s apply -f web.yaml --force-conflicts            take over fields that others have set
  cat web.yaml | minik8s apply -f - --field-manager ci
"""
APPLY_PATCH = "application/apply-patch+yaml"
DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
FIRST = (("", "Namespace"), DEFINITION)
"""What others need, whatever its place in the files."""
ESTABLISHED_SECONDS = 30

Object = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE", help="YAML or JSON, a folder of them, or - (stdin)"
    )
    parser.add_argument("--field-manager", default="minik8s", metavar="NAME", help="who owns the fields (default: minik8s)")
    parser.add_argument("--force-conflicts", action="store_true", help="take over fields that other managers own")
    parser.add_argument("--dry-run", action="store_true", help="let the server check, and keep nothing")
    parser.add_argument("-o", "--output", default="", choices=output.FORMATS[1:], help="print what came of it")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    objects = manifests.read(options.filename)
    server = connection.server(options)
    first = [obj for obj in objects if _group_kind(obj) in FIRST]
    applied, code = _apply_all(server, first, options)
    if not options.dry_run:
        for kind, obj in applied:
            if (kind.group, kind.kind) == DEFINITION:
                _until_established(server, kind, obj)
    _, failed = _apply_all(server, [obj for obj in objects if _group_kind(obj) not in FIRST], options)
    return code | failed


def _apply_all(server: Server, objects: Sequence[Object], options: argparse.Namespace) -> tuple[list[tuple[Kind, Object]], int]:
    """What the server made of them; exit code 1 where it refused one. The others are applied all the same."""
    applied: list[tuple[Kind, Object]] = []
    code = 0
    known = kinds(server) if objects else []
    for obj in objects:
        try:
            kind = find_exact(known, obj["apiVersion"], obj["kind"])
            found = _apply(server, kind, obj, options)
        except CommandError as error:
            print(f"minik8s apply: {_explained(error)}", file=sys.stderr)
            code = 1
            continue
        applied.append((kind, found))
        print(told(kind, found, options, "serverside-applied"), flush=True)
    return applied, code


def _apply(server: Server, kind: Kind, obj: Object, options: argparse.Namespace) -> Object:
    name = obj["metadata"].get("name")
    if not isinstance(name, str) or not name:
        raise CommandError(f"a {obj['kind']} without metadata.name: apply needs one (create takes generateName)")
    query = {"fieldManager": options.field_manager, "fieldValidation": "Strict"}
    query |= {"force": "true"} if options.force_conflicts else {}
    query |= {"dryRun": "All"} if options.dry_run else {}
    namespace = namespace_of(obj, options.namespace, server) if kind.namespaced else ""
    if namespace:
        obj = obj | {"metadata": obj["metadata"] | {"namespace": namespace}}
    found: Object = server.request("PATCH", kind.path(namespace, name), query, obj, content_type=APPLY_PATCH)
    return found


def _explained(error: CommandError) -> str:
    """In one line; with a way out of conflicts."""
    text = " ".join(str(error).split())
    if isinstance(error, Refused) and text.startswith("Apply failed with"):
        return f"{text} (--force-conflicts takes them over)"
    return text


def _until_established(server: Server, kind: Kind, definition: Object) -> None:
    """Returns when the kind that a CustomResourceDefinition makes is served. CommandError where it will not be, or not in time."""
    name = definition["metadata"]["name"]
    if _established(definition):
        return
    query = {
        "watch": "true",
        "fieldSelector": f"metadata.name={name}",
        "resourceVersion": definition["metadata"]["resourceVersion"],
        "timeoutSeconds": str(ESTABLISHED_SECONDS),
    }
    for event in server.lines(kind.path(), query, "application/json"):
        if event["type"] in ("ERROR", "DELETED"):
            break
        if _established(event["object"]):
            return
    raise CommandError(f"{name} is not established after {ESTABLISHED_SECONDS} s: its objects can't be applied yet")


def _established(definition: Mapping[str, Any]) -> bool:
    """CommandError where its names belong to another one."""
    conditions: dict[str, dict[str, str]] = {one["type"]: one for one in definition.get("status", {}).get("conditions") or ()}
    accepted = conditions.get("NamesAccepted", {})
    if accepted.get("status") == "False":
        raise CommandError(f"{definition['metadata']['name']} is not served: {accepted.get('message')}")
    return "Established" in conditions and conditions["Established"]["status"] == "True"


def _group_kind(obj: Object) -> tuple[str, str]:
    return str(obj["apiVersion"]).rpartition("/")[0], str(obj["kind"])
