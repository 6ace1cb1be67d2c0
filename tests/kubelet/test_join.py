"""How a node joins: the request for its certificate (Kubernetes, "TLS bootstrapping": user system:node:NAME, group system:nodes)."""

from pathlib import Path
from random import Random

from minik8s.base import pki
from minik8s.base.clock import RealClock
from minik8s.kubelet.join import Membership


async def test_a_request_made_by_another_process_is_the_nodes_own(tmp_path: Path) -> None:
    membership = Membership("https://127.0.0.1:1", "", "n1", tmp_path, RealClock(), Random(1))
    key, request = await membership._new_request("system:node:n1", "system:nodes")
    asked = pki.parse_request(request)
    assert (asked.user, asked.groups) == ("system:node:n1", ("system:nodes",))
    assert asked.public_key == pki.load_key(key).public_key()
