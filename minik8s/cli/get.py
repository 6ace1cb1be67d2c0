"""`minik8s get`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.cli import CommandError, UsageError, connection, output
from minik8s.cli.connection import Refused, Server
from minik8s.cli.kinds import Wanted, kinds, wanted

EXAMPLES = """examples:
  minik8s get nodes -o wide
  minik8s get pods -A
  minik8s get deploy,svc -l app=web
  minik8s get pod/web-0 -o yaml
  minik8s get events -n shop -w
"""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("what", nargs="+", metavar="KIND[/NAME]", help="pods, deploy/web, svc,ep, all; names may follow a kind")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    parser.add_argument("-l", "--selector", default="", metavar="SELECTOR", help="labels: app=web,tier!=db,key in (a,b)")
    parser.add_argument(
        "--field-selector", default="", metavar="SELECTOR", help="fields: spec.nodeName=n1,status.phase=Running"
    )
    parser.add_argument("-o", "--output", default="", choices=output.FORMATS, help="how to print")
    parser.add_argument("-w", "--watch", action="store_true", help="go on with what changes")
    parser.add_argument("--no-headers", action="store_true", help="print no headings")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    server = connection.server(options)
    found = wanted(kinds(server), options.what)
    if any(one.names for one in found) and (options.selector or options.all_namespaces):
        raise UsageError("names go with neither a selector nor --all-namespaces")
    if options.watch and (len(found) > 1 or len(found[0].names) > 1):
        raise UsageError("--watch takes one kind, or one name")
    if options.output in ("", "wide"):
        return _tables(server, found, options)
    return _objects(server, found, options)


def _tables(server: Server, found: Sequence[Wanted], options: argparse.Namespace) -> int:
    printed = code = 0
    for one in found:
        prefix = one.kind.singular if len(found) > 1 else ""
        columns = output.Columns(
            wide=options.output == "wide",
            namespaces=options.all_namespaces and one.kind.namespaced,
            headings=not options.no_headers,
            prefix=prefix,
        )
        answers, failed = _ask(server, one, options, TABLE)
        code |= failed
        lines = [line for answer in answers if answer["rows"] for line in columns.lines(answer)]
        if lines:
            if printed:
                print()
            print("\n".join(lines))
        printed += bool(lines)
        if options.watch and answers:
            sys.stdout.flush()
            _watch(server, one, answers[0]["metadata"]["resourceVersion"], options, columns)
    if not printed and not code:
        inside = "" if options.all_namespaces or not found[0].kind.namespaced else f" in {server.namespace} namespace."
        print(f"No resources found{inside}", file=sys.stderr)
    return code


def _objects(server: Server, found: Sequence[Wanted], options: argparse.Namespace) -> int:
    code = 0
    items: list[tuple[Wanted, Mapping[str, Any]]] = []
    version = ""
    for one in found:
        answers, failed = _ask(server, one, options, "application/json")
        code |= failed
        for answer in answers:
            version = answer["metadata"].get("resourceVersion", "")
            typed = {"apiVersion": one.kind.api_version, "kind": one.kind.kind}
            items += (
                [(one, typed | item) for item in answer["items"]] if "items" in answer and not one.names else [(one, answer)]
            )
    if options.output == "name" or options.watch:
        for one, item in items:
            _show(options.output, one, item)
    elif len(found) == 1 and len(found[0].names) == 1:
        for one, item in items:
            print(output.text(options.output, one.kind, item))
    else:
        shown = [output.without_managers(item) for _, item in items]
        whole = {"apiVersion": "v1", "items": shown, "kind": "List", "metadata": {"resourceVersion": ""}}
        print(output.dump(options.output, whole))
    if options.watch and not code:
        _watch(server, found[0], version, options, None)
    return code


def _ask(server: Server, one: Wanted, options: argparse.Namespace, accept: str) -> tuple[list[Any], int]:
    """The answers, one a name or the list; what the server refuses is told, and makes the exit code 1."""
    namespace = "" if options.all_namespaces else server.namespace
    if not one.names:
        return [server.request("GET", one.kind.path(namespace), _selectors(options), accept=accept)], 0
    answers, code = [], 0
    for name in one.names:
        try:
            answers.append(server.request("GET", one.kind.path(namespace, name), accept=accept))
        except Refused as error:
            print(f"minik8s get: {error}", file=sys.stderr)
            code = 1
    return answers, code


def _selectors(options: argparse.Namespace) -> dict[str, str]:
    given = {"labelSelector": options.selector, "fieldSelector": options.field_selector}
    return {key: value for key, value in given.items() if value}


def _watch(server: Server, one: Wanted, version: str, options: argparse.Namespace, columns: output.Columns | None) -> None:
    """Prints what changes, until the user has seen enough: the server ends a watch now and then, the next one goes on there."""
    query = _selectors(options)
    if one.names:
        query["fieldSelector"] = f"metadata.name={one.names[0]}"
    path = one.kind.path("" if options.all_namespaces else server.namespace)
    while True:
        asked = query | {"watch": "true", "resourceVersion": version, "timeoutSeconds": "600"}
        for event in server.lines(path, asked, TABLE if columns else "application/json"):
            obj = event["object"]
            if event["type"] == "ERROR":
                raise CommandError(f"the watch ended: {obj.get('message')}")
            if columns is not None:
                for line in columns.lines(obj):
                    print(line)
                version = obj["rows"][-1]["object"]["metadata"]["resourceVersion"]
            else:
                _show(options.output, one, obj)
                version = obj["metadata"]["resourceVersion"]
            sys.stdout.flush()


def _show(form: str, one: Wanted, obj: Mapping[str, Any]) -> None:
    if form == "yaml":
        print("---")
    print(output.text(form, one.kind, obj))
