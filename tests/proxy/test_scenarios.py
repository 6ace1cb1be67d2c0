"""Services in, rules out, as text: each file in `scenarios/` tells why, gives commands and shows the outcome.

Commands: `service NAMESPACE/NAME {...}` (its spec; `labels`, `ingress`), `endpoints NAMESPACE/NAME {...}` (`ports`, and endpoints as
`ADDRESS[@NODE][ CONDITION...]`), `pod NAME {...}` (its spec and `ip`), `delete KIND NAME`, `rules` shows what changes by them, seen
from node `here`. With REWRITE=1 in the environment the outcomes are written anew: read the diff.
"""

from pathlib import Path
from typing import Any

import pytest
from scenarios import play

from minik8s.proxy import rules
from minik8s.proxy.rules import Ruleset, Site

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
SITE = Site("here", "10.42.0.0/16", "10.43.0.0/16", local=["10.43.0.10"])


class Room:
    """A proxy without its shell."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.shown = Ruleset()

    def service(self, key: str, given: dict[str, Any]) -> None:
        labels, ingress = given.pop("labels", {}), given.pop("ingress", [])
        namespace, name = key.split("/")
        self.objects["service", key] = {
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": given,
            "status": {"loadBalancer": {"ingress": ingress}},
        }

    def endpoints(self, key: str, given: dict[str, Any]) -> None:
        namespace, name = key.split("/")
        found = []
        for text in given["endpoints"]:
            where, *words = str(text).split()
            address, _, node = where.partition("@")
            conditions = {word.removeprefix("!"): not word.startswith("!") for word in words}
            found.append({"addresses": [address], "conditions": conditions} | ({"nodeName": node} if node else {}))
        self.objects["endpoints", key] = {
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": given.get("type", "IPv4"),
            "ports": given["ports"],
            "endpoints": found,
        }

    def pod(self, name: str, given: dict[str, Any]) -> None:
        address = given.pop("ip", "")
        meta = {"namespace": "default", "name": name}
        self.objects["pod", name] = {"metadata": meta, "spec": given, "status": {"podIP": address, "phase": "Running"}}

    def delete(self, kind: str, key: str, given: dict[str, Any]) -> None:
        del self.objects[kind, key]

    def rules(self, given: dict[str, Any]) -> list[str]:
        parts = []
        for (kind, key), obj in self.objects.items():
            if kind == "service":
                slices = [self.objects["endpoints", key]] if ("endpoints", key) in self.objects else []
                parts.append(rules.of_service(obj, slices, SITE))
            elif kind == "pod":
                parts.append(rules.of_pod(obj))
        before, self.shown = self.shown, rules.merge(parts)
        return rules.changes(before, self.shown, "t").replace("ip t ", "").splitlines() or ["nothing"]


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_scenario(file: Path) -> None:
    play(file, Room())
