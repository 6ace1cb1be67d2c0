"""The catalogue: what is served now."""

from dataclasses import replace

from minik8s.api.resources import BY_PATH, CONFIGMAPS, EVENTS, EVENTS_V1, RESOURCES, Resource
from minik8s.apiserver.catalogue import Catalogue

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
WIDGETS_V2 = replace(WIDGETS, version="v2", stored_as="example.com/v1")


def test_without_custom_resources_it_is_the_table() -> None:
    catalogue = Catalogue()
    assert catalogue.resources is RESOURCES
    assert catalogue.by_path == BY_PATH
    assert catalogue.of({"apiVersion": "v1", "kind": "ConfigMap"}) is CONFIGMAPS
    assert catalogue.of({"kind": "ConfigMap"}) is None


def test_custom_rows_come_and_go() -> None:
    catalogue, told = Catalogue(), []
    catalogue.on_change(lambda: told.append(catalogue.generation))
    catalogue.replace_custom([WIDGETS, WIDGETS_V2])
    assert catalogue.by_path["example.com", "v2", "widgets"] is WIDGETS_V2
    assert catalogue.by_kind["example.com", "v1", "Widget"] is WIDGETS
    assert catalogue.resources[-2:] == (WIDGETS, WIDGETS_V2)
    catalogue.replace_custom([WIDGETS, WIDGETS_V2])
    catalogue.replace_custom([])
    assert ("example.com", "v1", "widgets") not in catalogue.by_path
    assert told == [1, 2]


def test_a_custom_row_never_replaces_a_built_in_one() -> None:
    catalogue = Catalogue()
    catalogue.replace_custom([replace(CONFIGMAPS, kind="Mine")])
    assert catalogue.by_path["", "v1", "configmaps"] is CONFIGMAPS
    assert catalogue.generation == 0


def test_a_row_of_another_time_is_found_again() -> None:
    catalogue = Catalogue()
    catalogue.replace_custom([WIDGETS])
    assert catalogue.current(replace(WIDGETS, categories=("all",))) is WIDGETS
    assert catalogue.current(CONFIGMAPS) is CONFIGMAPS
    assert catalogue.current(WIDGETS_V2) is None


def test_versions_of_one_resource_are_a_family() -> None:
    catalogue = Catalogue()
    catalogue.replace_custom([WIDGETS, WIDGETS_V2, replace(WIDGETS, plural="gadgets", kind="Gadget")])
    assert catalogue.family(WIDGETS_V2) == [WIDGETS, WIDGETS_V2]
    assert catalogue.family(EVENTS_V1) == [EVENTS, EVENTS_V1]


def test_remote_group_versions_are_told_of() -> None:
    catalogue = Catalogue()
    catalogue.replace_remote({("metrics.k8s.io", "v1"): "there"})
    catalogue.replace_remote({("metrics.k8s.io", "v1"): "there"})
    assert catalogue.remote["metrics.k8s.io", "v1"] == "there"
    assert catalogue.generation == 1
