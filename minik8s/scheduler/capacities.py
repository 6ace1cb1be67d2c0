"""How much room the drivers of volumes say that they have, by place: what concerns a node is found by its labels, as a driver of local
disks has an object for each node.

Source: KEP-1472; storage/v1 CSIStorageCapacity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.api.selectors import LabelSelector, of_object

Object = Mapping[str, Any]
Key = tuple[str, str]
Label = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Room:
    """The biggest volume that can be made on nodes with such labels."""

    size: Quantity
    nodes: LabelSelector


class Capacities:
    """Fed from an informer of CSIStorageCapacities."""

    def __init__(self) -> None:
        self._rooms: defaultdict[tuple[str, Label | None], dict[Key, Room]] = defaultdict(dict)
        """By StorageClass and a label that the nodes must have (None: no certain one), then by the object's key."""

    def change(self, old: Object | None, new: Object | None) -> None:
        """As informers tell of it: which class and nodes an object is about never changes."""
        if old is not None:
            place = _place(old)
            self._rooms[place].pop(_key(old), None)
            if not self._rooms[place]:
                del self._rooms[place]
        if new is not None:
            size = quantity.parse(new.get("maximumVolumeSize") or new.get("capacity") or "0")
            self._rooms[_place(new)][_key(new)] = Room(size, of_object(new.get("nodeTopology")))

    def fit(self, class_name: str, size: Quantity, labels: Mapping[str, str]) -> bool:
        """Whether a volume of that class and size can be made for a node with these labels."""
        return any(
            size <= room.size and room.nodes.matches(labels)
            for label in (None, *labels.items())
            for room in self._rooms.get((class_name, label), _NONE).values()
        )


_NONE: Mapping[Key, Room] = {}


def _key(capacity: Object) -> Key:
    return capacity["metadata"]["namespace"], capacity["metadata"]["name"]


def _place(capacity: Object) -> tuple[str, Label | None]:
    nodes = of_object(capacity.get("nodeTopology"))
    exact = ((each.key, nodes.exact(each.key)) for each in nodes.requirements)
    return capacity["storageClassName"], next(((key, value) for key, value in exact if value is not None), None)
