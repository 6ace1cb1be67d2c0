"""Why a connection could not be made, in the words that users of Kubernetes know (Go's)."""

from __future__ import annotations

import errno
import os


def dial_error(host: str, port: int, error: BaseException) -> str:
    """`dial tcp 10.0.0.9:81: connect: connection refused`."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {address}: i/o timeout"
    number = getattr(error, "errno", None)
    text = os.strerror(number).lower() if number and number in errno.errorcode else str(error)
    return f"dial tcp {address}: connect: {text}"
