"""What a service tells systemd (sd_notify(3)): that it is ready, that it is stopping. Where nobody asked, nothing is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping

READY, STOPPING = "READY=1", "STOPPING=1"


def notifier(environment: MutableMapping[str, str] = os.environ) -> Callable[[str], None]:
    """What to call with a state. The socket's name is taken out of the environment: children are no services, and containerd would tell
    its own state.
    """
    address = environment.pop("NOTIFY_SOCKET", "")

    def tell(state: str) -> None:
        if not address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)

    return tell
