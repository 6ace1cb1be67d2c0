"""Volumes and claims once they are bound, which the offline judge can't see."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.kinds import claim, storage, volume


def bound(size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    whole = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "c",
        "volumeMode": "Filesystem",
        "volumeName": "v",
        "resources": {"requests": {"storage": size}},
    }
    return {"metadata": {"name": "a"}, "spec": whole | spec, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}


@pytest.mark.parametrize(
    ("new", "old", "fields"),
    [
        (bound("2Gi"), bound(), []),
        (bound("1536Mi"), bound("2Gi"), []),
        (bound("512Mi"), bound("2Gi"), ["spec.resources.requests.storage"]),
        (bound(volumeAttributesClassName="gold"), bound(), []),
        (bound(volumeName="w"), bound(), ["spec"]),
        (bound(storageClassName="d"), bound(), ["spec"]),
        (bound(), bound(storageClassName=None), []),
    ],
)
def test_what_a_bound_claim_may_change(new: dict[str, Any], old: dict[str, Any], fields: list[str]) -> None:
    assert [error.field for error in claim.validate_update(new, old)] == fields


def test_a_refused_change_is_shown() -> None:
    """Golden storage/sto-pvc, whose differences are in Go's names."""
    [error] = claim.validate_update(bound(storageClassName="d"), bound())
    assert '-  "storageClassName": "c",\n+  "storageClassName": "d",\n' in str(error)


def test_a_class_moves_from_the_annotation_to_its_field() -> None:
    old = bound(storageClassName=None)
    old["metadata"]["annotations"] = {volume.OLD_CLASS: "c"}
    assert claim.validate_update(bound(), old) == []
    assert [error.field for error in claim.validate_update(bound(storageClassName=None), old)] == [
        f"metadata.annotations[{volume.OLD_CLASS}]"
    ]


def test_applied_attributes_stay() -> None:
    old = bound(volumeAttributesClassName="gold")
    old["status"]["currentVolumeAttributesClassName"] = "gold"
    assert [error.field for error in claim.validate_update(bound(), old)] == ["spec.volumeAttributesClassName"]


def test_a_claim_as_printed() -> None:
    obj = bound()
    obj["status"]["accessModes"] = ["ReadOnlyMany", "ReadWriteOnce"]
    assert claim.row(obj, 0)[1:7] == ["Bound", "v", "1Gi", "RWO,ROX", "c", "<unset>"]


@pytest.mark.parametrize(
    ("phase", "told", "expected"),
    [("Bound", None, "now"), ("Bound", "then", "now"), ("Bound", "told", "told"), ("Pending", None, "then")],
)
def test_a_new_phase_has_its_time(phase: str, told: str | None, expected: str) -> None:
    new: dict[str, Any] = {"status": {"phase": phase} | ({"lastPhaseTransitionTime": told} if told else {})}
    volume.stamp(new, {"status": {"phase": "Pending", "lastPhaseTransitionTime": "then"}}, "now")
    assert new["status"]["lastPhaseTransitionTime"] == expected


def test_the_secret_for_expansion_may_come_later() -> None:
    def with_csi(**more: Any) -> dict[str, Any]:
        return {"metadata": {"name": "v"}, "spec": {"csi": {"driver": "d", "volumeHandle": "h"} | more}}

    ref = {"name": "s", "namespace": "n"}
    assert volume.validate_update(with_csi(controllerExpandSecretRef=ref), with_csi()) == []
    changed = volume.validate_update(
        with_csi(controllerExpandSecretRef=ref | {"name": "t"}), with_csi(controllerExpandSecretRef=ref)
    )
    assert [error.field for error in changed] == ["spec.persistentvolumesource"]


def test_a_driver_counts_its_generations_from_nothing() -> None:
    old: dict[str, Any] = {"metadata": {}, "spec": {"a": 1}}
    new: dict[str, Any] = {"metadata": {}, "spec": {"a": 2}}
    storage.prepare_driver(new, old)
    assert new["metadata"] == {"generation": 1}
