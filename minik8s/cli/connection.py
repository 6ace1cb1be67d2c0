"""How client commands reach an API server: where it is, who asks, and requests over `http.client`.

In this order: `--kubeconfig`, `$KUBECONFIG`, the unix socket in the data directory (root, or the server's own user, is admin there),
`admin.kubeconfig` beside it. Whatever fails becomes a `CommandError` in one line.

Limits: the standard library only, so that a command starts in some 50 ms; one request at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from minik8s.cli import CommandError, UsageError
from minik8s.config import default_data_dir

if TYPE_CHECKING:
    from minik8s.client.kubeconfig import Access

CONNECT_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser, *, namespaced: bool = True) -> None:
    """The options that every command that asks a server has."""
    access = parser.add_argument_group("access")
    access.add_argument(
        "--kubeconfig", metavar="FILE", help="kubeconfig to use (default: $KUBECONFIG, else the data directory's)"
    )
    access.add_argument("--data-dir", metavar="DIR", help=f"data directory of a server here (default: {default_data_dir()})")
    if namespaced:
        parser.add_argument("-n", "--namespace", metavar="NS", help="namespace (default: the kubeconfig's, else default)")


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket; the host is only a name."""

    def __init__(self, path: str) -> None:
        super().__init__("minik8s")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Refused(CommandError):
    """The server answered with an error; `status` is the metav1.Status."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        super().__init__(str(status.get("message") or status.get("reason") or f"HTTP status {status.get('code')}"))
        self.status = status
        self.code = int(status.get("code") or 500)


class Server:
    """An API server. `namespace` is the one that counts where none is written."""

    def __init__(self, access: Access, namespace: str = "") -> None:
        self.access = access
        self.namespace = namespace or access.namespace or "default"
        self.where = access.unix_socket or access.server
        self._connection: HTTPConnection | None = None

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Any:
        """The answer's JSON value; Refused for a Status of failure."""
        with self._failures():
            answer = self._send(method, path, query, body, accept, content_type)
            content = answer.read()
        self._raise_refused(answer, content)
        return json.loads(content)

    def chunks(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """What a GET answers, as it comes."""
        answer = self._stream(path, query, "*/*")
        with self._failures():
            while chunk := answer.read1(65536):
                yield chunk

    def lines(self, path: str, query: Mapping[str, str], accept: str) -> Iterator[Any]:
        """The JSON values of a watch, one a line."""
        answer = self._stream(path, query, accept)
        with self._failures():
            for line in answer:
                yield json.loads(line)

    def connect(self) -> HTTPConnection:
        """A new connection, open."""
        access = self.access
        connection: HTTPConnection
        parts = urlsplit(access.server)
        if access.unix_socket:
            connection = UnixConnection(access.unix_socket)
        elif parts.scheme == "http":
            connection = HTTPConnection(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
        else:
            from minik8s.client.kubeconfig import ssl_context

            context = ssl_context(access)
            connection = _Tls(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS, context=context)
            connection.tls_name = access.tls_server_name
        with self._failures():
            connection.connect()
        connection.sock.settimeout(60)
        return connection

    def headers(self) -> dict[str, str]:
        authorization = {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}
        return {"User-Agent": "minik8s", **authorization}

    def target(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The request target: the server's own path, if any, before it."""
        base = "" if self.access.unix_socket else urlsplit(self.access.server).path.rstrip("/")
        return base + quote(path, safe="/:") + (f"?{urlencode(query)}" if query else "")

    def _stream(self, path: str, query: Mapping[str, str], accept: str) -> HTTPResponse:
        """An answer that may go on for ever, on a connection of its own."""
        connection, self._connection = self._connection, self.connect()
        if connection is not None:
            connection.close()
        with self._failures():
            answer = self._send("GET", path, query, None, accept)
            if answer.status >= 400:
                self._raise_refused(answer, answer.read())
        self._connection.sock.settimeout(None)
        self._connection = None
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        accept: str,
        content_type: str = "application/json",
    ) -> HTTPResponse:
        if self._connection is None:
            self._connection = self.connect()
        headers = self.headers() | {"Accept": accept}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        self._connection.request(method, self.target(path, query), data, headers)
        answer = self._connection.getresponse()
        for warning in answer.headers.get_all("Warning", ()):
            print(f"Warning: {_warning_text(warning)}", file=sys.stderr)
        return answer

    def _raise_refused(self, answer: HTTPResponse, content: bytes) -> None:
        if answer.status < 400:
            return
        try:
            status = json.loads(content)
        except ValueError:
            status = {"message": content.decode(errors="replace").strip(), "code": answer.status}
        raise Refused(status if isinstance(status, dict) else {"code": answer.status})

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise CommandError(f"the server at {self.where} hung up") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise CommandError(f"no server answers at {self.where}: is it running? (start one with: minik8s server)") from None
        except PermissionError:
            raise CommandError(
                f"{self.where} belongs to another user: run as that user (or root), or give --kubeconfig"
            ) from None
        except TimeoutError:
            raise CommandError(f"the server at {self.where} does not answer in time") from None
        except (OSError, HTTPException) as error:
            raise CommandError(f"cannot talk to the server at {self.where}: {_reason(error)}") from None


def server(options: argparse.Namespace) -> Server:
    """The server that a command's options name."""
    return Server(_access(options), getattr(options, "namespace", None) or "")


def data_dir(options: argparse.Namespace) -> Path:
    return Path(options.data_dir or os.environ.get("MINIK8S_DATA_DIR") or default_data_dir())


class _Tls(HTTPSConnection):
    """HTTPS whose certificate may be for another name than that of the URL."""

    tls_name = ""

    def connect(self) -> None:
        HTTPConnection.connect(self)
        context: Any = self._context  # type: ignore[attr-defined]  # typeshed leaves it out
        self.sock = context.wrap_socket(self.sock, server_hostname=self.tls_name or self.host)


def _access(options: argparse.Namespace) -> Access:
    named = options.kubeconfig or ("" if options.data_dir else os.environ.get("KUBECONFIG", ""))
    if named:
        files = [Path(part) for part in named.split(os.pathsep) if part]
        return _kubeconfig(next((file for file in files if file.exists()), files[0]))
    data = data_dir(options)
    path = data / "api.sock"
    if os.access(path, os.W_OK):
        from minik8s.client.kubeconfig import Access

        return Access("http://minik8s", unix_socket=str(path))
    if (file := data / "admin.kubeconfig").exists():
        return _kubeconfig(file)
    raise CommandError(f"no cluster in {data}: start one with `minik8s server`, or name one with --kubeconfig or $KUBECONFIG")


def _kubeconfig(path: Path) -> Access:
    from minik8s.client.kubeconfig import BadKubeconfig, load

    try:
        return load(path)
    except BadKubeconfig as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _warning_text(header: str) -> str:
    """The text of `299 - "text"` (RFC 9111)."""
    return header.split('"', 1)[-1].rsplit('"', 1)[0].replace('\\"', '"').replace("\\\\", "\\")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "verify_message", None) or str(error) or type(error).__name__
