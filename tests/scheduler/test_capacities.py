"""Room that drivers tell of. Source: KEP-1472; storage/v1 CSIStorageCapacity."""

from typing import Any

from minik8s.api import quantity
from minik8s.scheduler.capacities import Capacities


def capacity(name: str, topology: dict[str, Any] | None, **sizes: str) -> dict[str, Any]:
    where = {} if topology is None else {"nodeTopology": topology}
    return {"metadata": {"namespace": "k", "name": name}, "storageClassName": "c", **where, **sizes}


def test_what_fits_where() -> None:
    capacities = Capacities()

    def fits(size: str, class_name: str = "c", **labels: str) -> bool:
        return capacities.fit(class_name, quantity.parse(size), labels)

    one = capacity("one", {"matchLabels": {"node": "a", "zone": "z"}}, capacity="2Gi")
    some = capacity("some", {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x", "y"]}]}, capacity="1Gi")
    nowhere, everywhere = capacity("nowhere", None, capacity="9Gi"), capacity("everywhere", {}, capacity="8Gi")
    for each in (one, some, nowhere):
        capacities.change(None, each)
    assert fits("2Gi", node="a", zone="z")
    assert not fits("2Gi", node="a", zone="x")
    assert not fits("3Gi", node="a", zone="z")
    assert not fits("1Gi", "other", node="a", zone="z")
    assert fits("1Gi", zone="y")
    assert not fits("2Gi", zone="y")
    small = {**one, "maximumVolumeSize": "1Gi"}
    capacities.change(one, small)
    assert fits("1Gi", node="a", zone="z")
    assert not fits("2Gi", node="a", zone="z")
    capacities.change(None, everywhere)
    assert fits("8Gi")
    for each in (small, everywhere):
        capacities.change(each, None)
    assert not fits("1Gi", node="a", zone="z")
    assert not fits("1Gi")
