"""What this machine can do at best with a bare aiohttp server over TLS.

    python -m tests.bench.yardstick PORT

Serves a 3 kB body at /one and a 1.5 MB body at /list until it is ended.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile

import uvloop
from aiohttp import web

ONE = b'{"kind":"Pod","x":"' + b"a" * 3000 + b'"}'
LIST = ONE * 500


def main(port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subprocess.run([*made, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_get("/one", lambda _: _answer(ONE))
    app.router.add_get("/list", lambda _: _answer(LIST))
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, ssl_context=context, access_log=None, print=None)


async def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


if __name__ == "__main__":
    main(int(sys.argv[1]))
