"""What a conversion webhook may change. Source: "Webhook conversion" (Response): metadata but labels and annotations stays."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from minik8s.apiserver.custom.conversion import InvalidConversionError, answered, restored

OLD: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "x", "namespace": "a", "uid": "u", "labels": {"a": "b"}, "generation": 3},
}
V2 = "example.com/v2"


def new(**metadata: Any) -> Any:
    return {**OLD, "apiVersion": V2, "spec": {"n": 1}, "metadata": {**OLD["metadata"], **metadata}}


def test_labels_and_annotations_are_the_webhooks_the_rest_of_the_metadata_is_not() -> None:
    found = restored(OLD, new(labels={"c": "d"}, annotations={"e": "f"}, generation=9), V2)
    assert found["metadata"] == OLD["metadata"] | {"labels": {"c": "d"}, "annotations": {"e": "f"}}
    assert found["spec"] == {"n": 1}
    assert "labels" not in restored(OLD, new(labels=None), V2)["metadata"]


@pytest.mark.parametrize(
    ("converted", "told"),
    [
        (OLD, "invalid groupVersion (expected example.com/v2, received example.com/v1)"),
        (new() | {"kind": "Other"}, "invalid kind (expected Widget, received Other)"),
        (new(name="y"), "must have the same name: x != y"),
        (new(namespace="b"), "must have the same namespace: a != b"),
        (new(uid="v"), "must have the same UID: u != v"),
        (new(labels={"c": 1}), "metadata.labels[c] must be a string, but is int in converted object"),
        ({"apiVersion": V2, "kind": "Widget"}, "missing metadata in converted object"),
    ],
)
def test_another_object_is_refused(converted: Any, told: str) -> None:
    with pytest.raises(InvalidConversionError) as caught:
        restored(OLD, converted, V2)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("review", "told"),
    [
        (
            {"kind": "Pod", "apiVersion": "v1"},
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got v1, Kind=Pod",
        ),
        ({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1"}, "no response provided"),
    ],
)
def test_an_answer_that_is_none(review: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"webhook|response") as caught:
        answered("v1", "uid", orjson.dumps(review))
    assert str(caught.value) == told
