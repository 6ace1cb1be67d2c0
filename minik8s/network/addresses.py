"""Which pod has which address of a node's podCIDR: a file named by the address, holding its sandbox's id.

Invariants: 1. an address has at most one holder; 2. the directory and `holders()` are equal; 3. the network's own, the gateway's and
the broadcast address are given to nobody. Addresses are given in turn, so that one just let go isn't soon another pod's.
A file that a crash left empty holds its address until `collect` of `pods.py` finds that no sandbox has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path


class OutOfAddresses(OSError):
    """Every address of the podCIDR is held."""


class Addresses:
    """`directory` outlives the process: who had an address keeps it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._holders = {IPv4Address(file.name): file.read_text() for file in directory.iterdir()}
        self._last = max(self._holders, default=IPv4Address(0))

    def holders(self) -> Mapping[IPv4Address, str]:
        """The sandbox's id of each address held."""
        return self._holders

    def of(self, sandbox_id: str) -> IPv4Address | None:
        return next((address for address, holder in self._holders.items() if holder == sandbox_id), None)

    def take(self, sandbox_id: str, network: IPv4Network) -> IPv4Address:
        """The sandbox's address, given now where it had none in `network`."""
        if (held := self.of(sandbox_id)) is not None:
            if held in network:
                return held
            self.release(held)
        first, last = gateway(network) + 1, network.broadcast_address - 1
        after = self._last if first <= self._last <= last else last
        count = int(last) - int(first) + 1
        for step in range(1, count + 1):
            address = first + (int(after) - int(first) + step) % count
            if address not in self._holders:
                (self._directory / str(address)).write_text(sandbox_id)
                self._holders[address] = sandbox_id
                self._last = address
                return address
        raise OutOfAddresses(f"no address left in {network}")

    def release(self, address: IPv4Address) -> None:
        with suppress(FileNotFoundError):
            (self._directory / str(address)).unlink()
        self._holders.pop(address, None)


def gateway(network: IPv4Network) -> IPv4Address:
    """The node's own address in its podCIDR: the first, as the `ptp` plugin takes it."""
    return network.network_address + 1
