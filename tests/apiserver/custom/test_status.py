"""The status of a CustomResourceDefinition. Rules: golden crds-names; KEP-1111; upstream's conditions."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.apiserver.custom import status

NOW = "2026-01-01T00:00:00Z"
NAMES = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]}


def crd(name: str = "widgets", group: str = "example.com", **more: Any) -> Any:
    return {
        "metadata": {"name": f"{name}.{group}", **more.pop("metadata", {})},
        "spec": {"group": group, "names": NAMES} | more,
    }


def held(name: str, group: str = "example.com", **names: Any) -> Any:
    return crd(name, group) | {"status": {"acceptedNames": names}}


def told(found: Any) -> list[tuple[str, str, str]]:
    return [(each["type"], each["status"], each["reason"]) for each in found["conditions"]]


def test_free_names_are_accepted_and_established() -> None:
    found = status.decide(crd(), [crd()], NOW)
    assert found["acceptedNames"] == NAMES
    assert told(found) == [("NamesAccepted", "True", "NoConflicts"), ("Established", "True", "InitialNamesAccepted")]
    assert status.decide(crd() | {"status": found}, [], "later") == found


@pytest.mark.parametrize(
    ("other", "reason", "message"),
    [
        ({"plural": "widgets"}, "PluralConflict", '"widgets" is already in use'),
        ({"shortNames": ["widget"]}, "SingularConflict", '"widget" is already in use'),
        ({"singular": "wd"}, "ShortNamesConflict", '"wd" is already in use'),
        ({"kind": "Widget"}, "KindConflict", '"Widget" is already in use'),
        ({"listKind": "WidgetList", "kind": "Widget"}, "ListKindConflict", '"WidgetList" is already in use'),
    ],
)
def test_a_name_in_use_is_not_accepted(other: Any, reason: str, message: str) -> None:
    found = status.decide(crd(), [held("others", **other)], NOW)
    names, established = found["conditions"]
    assert (names["status"], names["reason"], names["message"]) == ("False", reason, message)
    assert (established["status"], established["reason"]) == ("False", "NotAccepted")


def test_names_of_another_group_and_ones_own_are_free() -> None:
    own = held("widgets", **NAMES)
    assert status.holds(status.decide(own | {"status": {}}, [held("x", "example.org", kind="Widget"), own], NOW), "Established")


def test_what_was_established_stays_so_when_its_new_names_are_taken() -> None:
    before = status.decide(crd(), [], NOW)
    renamed = crd(names=NAMES | {"shortNames": ["cm"]}) | {"status": before}
    found = status.decide(renamed, [held("x", shortNames=["cm"])], "later")
    assert told(found)[1] == ("Established", "True", "InitialNamesAccepted")
    assert found["acceptedNames"]["shortNames"] == ["wd"]
    assert [c["lastTransitionTime"] for c in found["conditions"]] == ["later", NOW]


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        (None, ("False", "MissingAnnotation")),
        ("unapproved, for a test", ("False", "UnapprovedAnnotation")),
        ("https://github.com/kubernetes/kubernetes/pull/1", ("True", "ApprovedAnnotation")),
        ("yes", ("False", "InvalidAnnotation")),
    ],
)
def test_groups_of_the_community_want_approval(annotation: str | None, wanted: tuple[str, str]) -> None:
    metadata = {"annotations": {status.APPROVED: annotation}} if annotation else {}
    found = status.decide(crd(group="x.k8s.io", metadata=metadata), [], NOW)
    assert told(found)[-1] == (status.APPROVAL, *wanted)


def test_a_webhook_whose_authority_is_none_is_not_established() -> None:
    webhook = {"clientConfig": {"caBundle": "bm90IGEgY2VydA=="}}
    found = status.decide(crd(conversion={"webhook": webhook}), [], NOW)
    assert told(found)[1] == ("Established", "False", "InvalidCABundle")
