"""The sandbox ("pause") image, made here: one static program of a few instructions, so that no registry is needed.

The program is pid 1 of a sandbox: it waits for signals, reaps orphans (shared process namespaces) and exits on SIGTERM or SIGINT.
Written for amd64 and arm64 in machine code, since a compiler is not at hand where this runs; the listing stands beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable, Sequence

from minik8s.base.host import architecture

NAME = "minik8s.local/pause:1"

_BASE = 0x400000  # where the file is loaded
_HEADERS = 64 + 56
_SIGINT, _SIGTERM, _SIGCHLD = 2, 15, 17
_SIGNALS = sum(1 << (signal - 1) for signal in (_SIGINT, _SIGTERM, _SIGCHLD))  # a sigset_t, which stands before the code
_CODE = _HEADERS + 8


def archive(name: str = NAME, machine: str = "") -> bytes:
    """An OCI image archive (tar) that holds the image under `name`. ValueError for an architecture that has no program here."""
    machine = machine or architecture()
    layer = _tar([("pause", program(machine), 0o755)])
    config = _json(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _described("application/vnd.oci.image.config.v1+json", config),
            "layers": [_described("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    target = _described("application/vnd.oci.image.manifest.v1+json", manifest)
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = _json({"schemaVersion": 2, "manifests": [{**target, "annotations": annotations}]})
    blobs = [(f"blobs/sha256/{_digest(blob)[7:]}", blob, 0o644) for blob in (layer, config, manifest)]
    return _tar([("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644), *blobs])


def program(machine: str) -> bytes:
    """The static ELF file."""
    try:
        elf_machine, code = _MACHINES[machine]
    except KeyError:
        raise ValueError(f"no pause program for {machine}: configure the runtime's sandbox image") from None
    text = struct.pack("<Q", _SIGNALS) + code()
    size = _HEADERS + len(text)
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bit, little end first
    header += struct.pack("<HHIQQQIHHHHHH", 2, elf_machine, 1, _BASE + _CODE, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, readable and executable
    return header + segment + text


def _amd64() -> bytes:
    signals = struct.pack("<I", _BASE + _HEADERS)
    start = b"".join(
        [
            b"\xb8\x0e\0\0\0",  # mov eax, 14        rt_sigprocmask(SIG_BLOCK, signals, NULL, 8)
            b"\x31\xff",  # xor edi, edi
            b"\xbe" + signals,  # mov esi, signals
            b"\x31\xd2",  # xor edx, edx
            b"\x41\xba\x08\0\0\0",  # mov r10d, 8
            b"\x0f\x05",  # syscall
        ]
    )
    wait = b"".join(
        [
            b"\xb8\x80\0\0\0",  # mov eax, 128       rt_sigtimedwait(signals, NULL, NULL, 8)
            b"\xbf" + signals,  # mov edi, signals
            b"\x31\xf6",  # xor esi, esi
            b"\x31\xd2",  # xor edx, edx
            b"\x41\xba\x08\0\0\0",  # mov r10d, 8
            b"\x0f\x05",  # syscall
            b"\x85\xc0",  # test eax, eax
        ]
    )
    leave = b"".join(
        [
            b"\xb8\xe7\0\0\0",  # mov eax, 231       exit_group(0)
            b"\x31\xff",  # xor edi, edi
            b"\x0f\x05",  # syscall
        ]
    )
    reap = b"".join(
        [
            b"\xb8\x3d\0\0\0",  # mov eax, 61        wait4(-1, NULL, WNOHANG, NULL)
            b"\xbf\xff\xff\xff\xff",  # mov edi, -1
            b"\x31\xf6",  # xor esi, esi
            b"\xba\x01\0\0\0",  # mov edx, 1
            b"\x45\x31\xd2",  # xor r10d, r10d
            b"\x0f\x05",  # syscall
            b"\x85\xc0",  # test eax, eax
        ]
    )
    to_reap = b"\x83\xf8" + bytes([_SIGCHLD]) + b"\x74" + bytes([len(leave)])  # cmp eax, SIGCHLD; je reap
    wait += b"\x78" + _back(len(wait) + 2) + to_reap  # js wait
    reap += b"\x7f" + _back(len(reap) + 2)  # jg reap
    reap += b"\xeb" + _back(len(wait) + len(leave) + len(reap) + 2)  # jmp wait
    return start + wait + leave + reap


def _back(distance: int) -> bytes:
    return struct.pack("b", -distance)


def _arm64() -> bytes:
    def mov(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    def signals(register: int, place: int) -> int:  # adr: relative to the instruction, which is `place` after the signals
        offset = -(8 + 4 * place) & 0x1FFFFF
        return 0x10000000 | (offset & 3) << 29 | (offset >> 2) << 5 | register

    call, minus_one = 0xD4000001, 0x92800000
    wait, reap, end = 6, 18, 26  # the numbers of the instructions that begin these parts
    words = [
        mov(8, 135), mov(0, 0), signals(1, 2), mov(2, 0), mov(3, 8), call,  # rt_sigprocmask(SIG_BLOCK, signals, NULL, 8)
        mov(8, 137), signals(0, 7), mov(1, 0), mov(2, 0), mov(3, 8), call,  # wait: rt_sigtimedwait(signals, NULL, NULL, 8)
        0x37000000 | 31 << 19 | ((wait - 12) & 0x3FFF) << 5,  # tbnz w0, #31, wait
        0x7100001F | _SIGCHLD << 10,  # cmp w0, SIGCHLD
        0x54000000 | (reap - 14) << 5,  # b.eq reap
        mov(8, 94), mov(0, 0), call,  # exit_group(0)
        mov(8, 260), minus_one, mov(1, 0), mov(2, 1), mov(3, 0), call,  # reap: wait4(-1, NULL, WNOHANG, NULL)
        0xF100001F,  # cmp x0, 0
        0x5400000C | ((reap - 25) & 0x7FFFF) << 5,  # b.gt reap
        0x14000000 | ((wait - end) & 0x3FFFFFF),  # b wait
    ]  # fmt: skip
    return struct.pack(f"<{len(words)}I", *words)


_MACHINES: dict[str, tuple[int, Callable[[], bytes]]] = {"amd64": (62, _amd64), "arm64": (183, _arm64)}


def _tar(files: Sequence[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}
