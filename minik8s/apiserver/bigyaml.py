"""YAML bodies that are slow to read (1 MB takes seconds, and holds the interpreter), read in a process of their own with a deadline.

`outside` gives the body with what was found in it: whoever decodes it later finds it read. Neighbours: `api/yaml.py` reads,
`api/decode.py` knows such bodies.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson

from minik8s.api import decode
from minik8s.api.errors import BadRequest, InternalError
from minik8s.base import children
from minik8s.base.clock import Clock

INLINE = 64 * 1024
"""Bytes of YAML that are read where they are: some 100 ms at the worst, and no process to start."""
DEADLINE = 20.0
"""Seconds that a body may take."""
AT_ONCE = 1
"""Bodies that are read at a time; the others wait, so that they leave the machine to the server."""

_START = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from {__name__} import main; main()"


class Reader:
    """The readers of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def outside(self, body: bytes) -> decode.ReadYaml:
        """The body, read. BadRequest where that takes too long."""
        async with self._gate:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _START, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            try:
                async with self._clock.timeout(DEADLINE):
                    out, _ = await children.communicate(process, body)
            except TimeoutError:
                raise BadRequest(f"the YAML takes more than {DEADLINE:.0f} s to read: send JSON") from None
        if process.returncode:
            raise InternalError("the reader of YAML failed")
        value, repeated, error = orjson.loads(out)
        return decode.ReadYaml(body, value, repeated, error)


def main() -> None:
    """Reads a body from stdin and writes [value, repeated, error] to stdout."""
    from minik8s.api import yaml  # not in the server, which only starts this

    try:
        value, repeated = yaml.parse(sys.stdin.buffer.read())
        outcome = orjson.dumps([value, repeated, ""])
    except (ValueError, TypeError) as error:  # TypeError: orjson's for text that is no Unicode
        outcome = orjson.dumps([None, [], str(error).encode(errors="replace").decode()])
    sys.stdout.buffer.write(outcome)
