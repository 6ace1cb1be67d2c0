"""From client-side apply to server-side apply: what kubectl said in its annotation may be taken over without a conflict.

Only for the manager named `kubectl`, which also keeps that annotation true, so that the way back stays open.
"""

from __future__ import annotations

import orjson

from minik8s.api.kind import Frozen, Object
from minik8s.api.managed import fields, walks
from minik8s.api.managed.fields import Fields
from minik8s.api.managed.shapes import Shape
from minik8s.api.names import MAX_ANNOTATIONS

KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def last_applied(live: Frozen, shape: Shape, api_version: str) -> Fields:
    """The fields of the annotation's object that still have its values; none where there is no such object of this version."""
    text = live.get("metadata", {}).get("annotations", {}).get(LAST_APPLIED, "")
    try:
        config = orjson.loads(text)
        walks.check(shape, config)
    except ValueError:
        return fields.LEAF
    if not isinstance(config, dict) or config.get("apiVersion") != api_version:
        return fields.LEAF
    changes = walks.compare(shape, config, live)
    return fields.difference(walks.mentioned(shape, config), fields.union(changes.taken, changes.removed))


def refresh(obj: Object, config: Frozen) -> None:
    """Writes what is applied into the annotation, where the object has one."""
    annotations = obj["metadata"].get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return
    metadata = dict(config.get("metadata") or {})
    if metadata.get("annotations"):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != LAST_APPLIED}
    text = orjson.dumps({**config, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    annotations = annotations | {LAST_APPLIED: text}
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        del annotations[LAST_APPLIED]
    obj["metadata"]["annotations"] = annotations
