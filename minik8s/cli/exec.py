"""`minik8s exec`: the `v5.channel.k8s.io` protocol over a WebSocket (KEP-4006).

Each message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the Status at the end, 4 the terminal's size, 255 closes the
one that follows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from minik8s.cli import CommandError, UsageError, connection, pods
from minik8s.cli.connection import Refused, Server
from minik8s.cli.websocket import HandshakeRefused, WebSocket

EXAMPLES = """examples:
  minik8s exec web-0 -- ls /
  minik8s exec -it deploy/web -- sh
  minik8s exec web-0 -c sidecar -i -- tar xf - -C /data < data.tar
"""
PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHUNK = 32768


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.usage = "minik8s exec [OPTIONS] POD -- COMMAND [ARGUMENT ...]"
    parser.add_argument("pod", metavar="POD", help="a pod, or deploy/NAME: one of its pods")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass the standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("-c", "--container", default="", metavar="NAME", help="in this container (default: the first)")
    connection.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    if not options.after_dashes:
        raise UsageError("which command? minik8s exec POD -- COMMAND")
    server = connection.server(options)
    pod = pods.pod(server, options.pod)
    container = pods.container(pod, options.container)
    terminal = options.tty and sys.stdin.isatty()
    if options.tty and not terminal:
        print("The standard input is no terminal: -t is left out.", file=sys.stderr)
    query = [("container", container), ("stdout", "true"), *(("command", word) for word in options.after_dashes)]
    query += [("stdin", "true")] if options.stdin else []
    query += [("tty", "true")] if terminal else [("stderr", "true")]
    path = f"/api/v1/namespaces/{server.namespace}/pods/{pod['metadata']['name']}/exec"
    link = _open(server, path, query)
    with _raw_terminal() if terminal else contextlib.nullcontext():
        status = _converse(link, stdin=options.stdin, terminal=terminal)
    link.close()
    return _exit_code(status)


def _open(server: Server, path: str, query: list[tuple[str, str]]) -> WebSocket:
    link = server.connect()
    try:
        return WebSocket.open(link, f"{server.target(path)}?{urlencode(query)}", PROTOCOL, server.headers())
    except HandshakeRefused as error:
        try:
            status = json.loads(error.body)
        except ValueError:
            status = {"message": error.body.decode(errors="replace").strip(), "code": error.status}
        raise Refused(status) from None
    except OSError as error:
        raise CommandError(f"cannot talk to the server at {server.where}: {error}") from None


def _converse(link: WebSocket, *, stdin: bool, terminal: bool) -> Mapping[str, Any]:
    """Passes on what comes from either side until the command has ended; its Status."""
    ended: Mapping[str, Any] = {}  # poll, unlike epoll, takes files too
    outputs = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
    with selectors.PollSelector() as selector, _resizes(link, wanted=terminal) as resized:
        selector.register(link, selectors.EVENT_READ)
        if resized is not None:
            selector.register(resized, selectors.EVENT_READ)
        reading = stdin
        while not link.closed:
            link.flush()
            selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0))
            _listen_to_stdin(selector, wanted=reading and not link.unsent)
            for key, _ in selector.select():
                if key.fileobj is link:
                    for message in link.receive():
                        channel, data = message[0] if message else -1, message[1:]
                        if channel in outputs:
                            outputs[channel].write(data)
                            outputs[channel].flush()
                        elif channel == ERROR:
                            ended = json.loads(data)
                elif key.fileobj == resized:
                    os.read(key.fd, 4096)
                    link.send(_size())
                else:
                    data = os.read(0, CHUNK)
                    reading = bool(data)
                    link.send(bytes((STDIN,)) + data if data else bytes((CLOSE, STDIN)))
            if ended:
                break
    return ended


def _listen_to_stdin(selector: selectors.BaseSelector, *, wanted: bool) -> None:
    """Only while there is nothing unsent: what is typed or piped then waits where it comes from."""
    if wanted != (0 in selector.get_map()):
        if wanted:
            selector.register(0, selectors.EVENT_READ)
        else:
            selector.unregister(0)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys go to the command as they are; afterwards the terminal is as it was."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes(link: WebSocket, *, wanted: bool) -> Iterator[int | None]:
    """Tells the terminal's size, and gives a descriptor that can be read when it has changed."""
    if not wanted:
        yield None
        return
    link.send(_size())
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write), signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(before[0])
        signal.signal(signal.SIGWINCH, before[1])
        os.close(read)
        os.close(write)


def _size() -> bytes:
    size = os.get_terminal_size(0)
    return bytes((RESIZE,)) + json.dumps({"Width": size.columns, "Height": size.lines}).encode()


def _exit_code(status: Mapping[str, Any]) -> int:
    """The command's own exit code; CommandError where it didn't come to one."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CommandError(str(status.get("message") or "the connection was lost before the command ended"))
