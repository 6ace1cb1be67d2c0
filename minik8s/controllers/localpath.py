"""Makes volumes of directories on nodes: the built-in local path provisioner, under k3s' name and rules.

A claim of its class gets a volume on the node that the scheduler selected, in the directory that the node's agent offers (an annotation
of the Node). The agent makes the directory at the first mount and removes it when the volume is let go (`kubelet/localpath.py`).
Limits: one node alone can use such a volume; its size is not enforced, and it can't grow.
Source: rancher's local-path-provisioner; the external provisioners' library for the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import storage
from minik8s.api.errors import AlreadyExists, Conflict, NotFound
from minik8s.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.controllers.manager import Context, enqueue
from minik8s.controllers.volume_rules import waits

Object = Mapping[str, Any]
HOSTNAME = "kubernetes.io/hostname"
MODES = frozenset({"ReadWriteOnce", storage.ONE_POD})


class Refused(Exception):
    """There will be no volume; the text says why. `elsewhere`: another node may do."""

    def __init__(self, why: str, *, elsewhere: bool = False) -> None:
        super().__init__(why)
        self.elsewhere = elsewhere


def is_wanted(claim: Object) -> bool:
    """Whether a volume is to be made for the claim."""
    asked = storage.notes_of(claim).get(storage.PROVISIONER) == storage.LOCAL_PATH
    return asked and not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]


def volume_for(claim: Object, chosen: Object, node: Object | None) -> dict[str, Any]:
    """The volume for a claim of that StorageClass on the node that was selected. Raises Refused."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = storage.notes_of(claim).get(storage.SELECTED_NODE)
    if not name:
        raise Refused("configuration error, no node was specified")
    if not set(spec.get("accessModes") or ()) <= MODES:
        raise Refused("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes")
    if spec.get("selector"):
        raise Refused("claim.Spec.Selector is not supported")
    if spec.get("volumeMode") == "Block":
        raise Refused("block volumes are not supported")
    if node is None:
        raise Refused(f'node "{name}" not found', elsewhere=True)
    directory = storage.notes_of(node).get(storage.LOCAL_DIRECTORY)
    if not directory:
        raise Refused(f'node "{name}" offers no local storage', elsewhere=True)
    hostname = (node["metadata"].get("labels") or {}).get(HOSTNAME, name)
    own = f"pvc-{metadata['uid']}"
    identity = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    terms = [{"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": own,
            "labels": {storage.LOCAL_NODE: name},
            "annotations": {storage.PROVISIONED_BY: storage.LOCAL_PATH, "local.path.provisioner/selected-node": name},
            "finalizers": [storage.KEPT_UNTIL_GONE],
        },
        "spec": {
            "accessModes": list(spec.get("accessModes") or ()),
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **identity},
            "local": {"path": f"{directory}/{own}_{metadata['namespace']}_{metadata['name']}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "persistentVolumeReclaimPolicy": chosen.get("reclaimPolicy") or "Delete",
            "storageClassName": chosen["metadata"]["name"],
            "volumeMode": "Filesystem",
        },
    }


def start(context: Context) -> list[Reconciler[Key]]:
    claims, volumes = context.informer(PERSISTENTVOLUMECLAIMS), context.informer(PERSISTENTVOLUMES)
    classes, nodes = context.informer(STORAGECLASSES), context.informer(NODES)

    async def reconcile(key: Key) -> float | None:
        claim = claims.get(*key)
        chosen = claim and classes.get("", storage.class_of(claim))
        if claim is None or chosen is None or not is_wanted(claim) or waits(claim, chosen):
            return None
        if volumes.get("", f"pvc-{claim['metadata']['uid']}") is None:
            await provide(claim, chosen)
        return None

    async def provide(claim: Object, chosen: Object) -> None:
        metadata, tell = claim["metadata"], context.events.event
        where = "/".join((metadata["namespace"], metadata["name"]))
        tell(claim, NORMAL, "Provisioning", f'External provisioner is provisioning volume for claim "{where}"')
        try:
            volume = volume_for(claim, chosen, nodes.get("", storage.notes_of(claim).get(storage.SELECTED_NODE, "")))
            await context.client.create(PERSISTENTVOLUMES, volume)
        except Refused as error:
            text = f'failed to provision volume with StorageClass "{chosen["metadata"]["name"]}": {error}'
            tell(claim, WARNING, "ProvisioningFailed", text)
            if error.elsewhere:
                await give_back(claim)
        except AlreadyExists:
            return
        else:
            tell(claim, NORMAL, "ProvisioningSucceeded", f"Successfully provisioned volume {volume['metadata']['name']}")

    async def give_back(claim: Object) -> None:
        """The scheduler decides anew."""
        notes = {key: value for key, value in storage.notes_of(claim).items() if key != storage.SELECTED_NODE}
        try:
            await context.client.update(
                PERSISTENTVOLUMECLAIMS, {**claim, "metadata": {**claim["metadata"], "annotations": notes}}
            )
        except (Conflict, NotFound):
            raise Retry from None

    reconciler: Reconciler[Key] = Reconciler("local-path-provisioner", reconcile, context.clock, workers=2)
    claims.on_change(enqueue(reconciler))
    return [reconciler]
