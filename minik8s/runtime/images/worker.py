"""Slow image work in a process of its own, so that the agent's event loop goes on: unpacking layers, reading archives.

`run` starts a Python for one job (never importing from the working directory) and ends it with the caller. A job is JSON on
stdin, its outcome JSON on stdout: `{"result": ...}` or `{"error": text}`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from minik8s.base import children
from minik8s.runtime.images.archive import extract
from minik8s.runtime.images.manifests import BadImage
from minik8s.runtime.images.unpack import unpack

_START = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r}); from {__name__} import main; main()"


async def run(job: str, **arguments: Any) -> Any:
    """The job's result; BadImage with its error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _START,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    out, _ = await children.communicate(process, orjson.dumps({"job": job, **arguments}))
    if process.returncode:
        raise BadImage(f"the image worker ended with exit code {process.returncode}")
    outcome = orjson.loads(out)
    if "error" in outcome:
        raise BadImage(outcome["error"])
    return outcome["result"]


def _extract(job: Mapping[str, Any]) -> Any:
    found = extract(Path(job["archive"]), Path(job["blobs"]))
    return [
        {"name": image.name, "media_type": image.target.media_type, "digest": image.target.digest, "size": image.target.size}
        for image in found
    ]


def _unpack(job: Mapping[str, Any]) -> Any:
    """Layers from the lowest up: `[{"blob", "layer", "diff_id"}]`; one that is there already is kept. Each appears whole or not at all.

    The result is the new layers' bytes on disk, by name.
    """
    below: list[Path] = []
    used = {}
    for entry in job["layers"]:
        layer = Path(entry["layer"])
        if not layer.is_dir():
            fresh = Path(job["scratch"]) / layer.name
            fresh.mkdir(0o755, parents=True)
            unpack(Path(entry["blob"]), fresh, entry["diff_id"], below)
            used[layer.name] = sum(path.lstat().st_blocks * 512 for path in fresh.rglob("*"))
            fresh.rename(layer)
        below.insert(0, layer)
    return used


_JOBS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "extract": _extract,
    "unpack": _unpack,
}


def main() -> None:
    job = orjson.loads(sys.stdin.buffer.read())
    try:
        outcome = {"result": _JOBS[job["job"]](job)}
    except (BadImage, OSError) as error:
        outcome = {"error": str(error)}
    sys.stdout.buffer.write(orjson.dumps(outcome))
