"""`minik8s delete`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from minik8s.cli import CommandError, UsageError, connection, manifests
from minik8s.cli.connection import Refused, Server
from minik8s.cli.create import namespace_of
from minik8s.cli.kinds import Kind, find_exact, kinds, wanted

EXAMPLES = """examples:
  minik8s delete pod web-0
  minik8s delete deploy/web svc/web
  minik8s delete -f config/examples/web.yaml
  minik8s delete pods -l app=web --wait=false
  minik8s delete deploy web --cascade=orphan
"""
CASCADES = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
GONE = (404, 410)

Target = tuple[Kind, str, str]
"""What to delete: its kind, namespace and name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("what", nargs="*", metavar="KIND/NAME", help="deploy/web, or a kind and names of it")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE", help="what a file, folder or - names")
    parser.add_argument("-l", "--selector", default="", metavar="SELECTOR", help="those with these labels")
    parser.add_argument("--all", action="store_true", help="all of the kind in the namespace")
    parser.add_argument("--cascade", default="background", choices=tuple(CASCADES), help="what becomes of what they own")
    parser.add_argument("--grace-period", type=int, metavar="SECONDS", help="time to end in (0: at once)")
    parser.add_argument(
        "--wait", default="true", choices=("true", "false"), help="return only when they are gone (default: true)"
    )
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there counts as deleted")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    if bool(options.what) == bool(options.filename):
        raise UsageError("either KIND NAME ... or -f FILE")
    server = connection.server(options)
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": CASCADES[options.cascade]}
    if options.grace_period is not None:
        body["gracePeriodSeconds"] = options.grace_period
    code = 0
    waiting: list[Target] = []
    for kind, namespace, name in list(_targets(server, options)):
        try:
            server.request("DELETE", kind.path(namespace, name), body=body)
        except Refused as error:
            if error.code == 404 and options.ignore_not_found:
                continue
            print(f"minik8s delete: {error}", file=sys.stderr)
            code = 1
            continue
        inside = f" from {namespace} namespace" if namespace else ""
        print(f'{kind.singular} "{name}" deleted{inside}', flush=True)
        waiting.append((kind, namespace, name))
    if options.wait == "true":
        for target in waiting:
            _until_gone(server, *target)
    if not code and not waiting and not options.ignore_not_found:
        print("No resources found", file=sys.stderr)
    return code


def _targets(server: Server, options: argparse.Namespace) -> Iterator[Target]:
    known = kinds(server)
    if options.filename:
        for obj in manifests.read(options.filename):
            kind = find_exact(known, obj["apiVersion"], obj["kind"])
            namespace = namespace_of(obj, options.namespace, server) if kind.namespaced else ""
            yield kind, namespace, obj["metadata"].get("name", "")
        return
    for one in wanted(known, options.what):
        namespace = server.namespace if one.kind.namespaced else ""
        if not one.names and not (options.selector or options.all):
            raise UsageError("name them, or choose with -l or --all")
        names = one.names
        if not names:
            query = {"labelSelector": options.selector} if options.selector else None
            names = [obj["metadata"]["name"] for obj in server.request("GET", one.kind.path(namespace), query)["items"]]
        yield from ((one.kind, namespace, name) for name in names)


def _until_gone(server: Server, kind: Kind, namespace: str, name: str) -> None:
    """Returns when the object, or that which had its name, is gone."""
    uid = ""
    while True:
        try:
            obj = server.request("GET", kind.path(namespace, name))
        except Refused as error:
            if error.code in GONE:
                return
            raise
        uid = uid or obj["metadata"]["uid"]
        if obj["metadata"]["uid"] != uid or "deletionTimestamp" not in obj["metadata"]:
            return  # made anew meanwhile
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": obj["metadata"]["resourceVersion"],
            "timeoutSeconds": "60",
        }
        for event in server.lines(kind.path(namespace), query, "application/json"):
            if event["type"] == "DELETED":
                return
            if event["type"] == "ERROR":
                if event["object"].get("code") in GONE:
                    break
                raise CommandError(f"the watch ended: {event['object'].get('message')}")
