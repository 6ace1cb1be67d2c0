"""`minik8s logs`."""

from __future__ import annotations

import argparse
import sys

from minik8s.cli import UsageError, connection, pods

EXAMPLES = """examples:
  minik8s logs web-0
  minik8s logs deploy/web -f --tail 10
  minik8s logs web-0 -c sidecar --previous
  minik8s logs web-0 --since 5m --timestamps
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("pod", metavar="POD", help="a pod, or deploy/NAME: one of its pods")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    parser.add_argument("-c", "--container", default="", metavar="NAME", help="of this container (default: the first)")
    parser.add_argument("--tail", type=int, metavar="N", help="the last N lines only")
    parser.add_argument("-p", "--previous", action="store_true", help="of the container before its last restart")
    parser.add_argument("--since", default="", metavar="TIME", help="of the last 5s, 2m, 3h")
    parser.add_argument("--timestamps", action="store_true", help="each line with its time")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    query = {}
    if options.since:
        from minik8s.base.clock import parse_duration  # late: it brings asyncio along

        try:
            query["sinceSeconds"] = str(max(1, round(parse_duration(options.since))))
        except ValueError as error:
            raise UsageError(f"--since: {error}") from None
    if options.tail is not None:
        query["tailLines"] = str(options.tail)
    query |= {name: "true" for name in ("follow", "previous", "timestamps") if getattr(options, name)}
    server = connection.server(options)
    pod = pods.pod(server, options.pod)
    query["container"] = pods.container(pod, options.container)
    path = f"/api/v1/namespaces/{server.namespace}/pods/{pod['metadata']['name']}/log"
    for chunk in server.chunks(path, query):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return 0
