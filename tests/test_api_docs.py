"""docs/api.md says what is so: it is as it would be made now, knows every kind, and names modules and tests that know the kind too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minik8s.api import resources
from minik8s.api.resources import RESOURCES, Resource
from tests.api_docs import FILE, ROOT, clients, made
from tests.api_facts import FACTS

KINDS = {(row.group, row.kind): row for row in RESOURCES}
CONSTANTS = {row: name for name, row in vars(resources).items() if isinstance(row, Resource)}


def knows(path: Path, group: str, kind: str) -> bool:
    rows = [row for row in RESOURCES if (row.group, row.kind) == (group, kind)]
    names = {kind, rows[0].plural, *(CONSTANTS[row] for row in rows)}
    files = [path, *path.parent.glob("scenarios/*")] if path.name == "test_scenarios.py" else [path]
    return any(re.search(rf"\b{name}\b", file.read_text()) for file in files for name in names)


def test_it_is_as_it_would_be_made_now() -> None:
    assert FILE.read_text() == made(), "the resource table or a fact has changed: make docs"


def test_every_kind_has_its_fact() -> None:
    assert FACTS.keys() == KINDS.keys(), "tests/api_facts.py: what acts on it, or is it stored only?"


@pytest.mark.parametrize(("group", "kind"), FACTS)
def test_what_acts_is_there(group: str, kind: str) -> None:
    fact = FACTS[group, kind]
    assert bool(fact.by) == bool(fact.shown)
    for path in (*(ROOT / "minik8s" / name for name in fact.by), *(ROOT / "tests" / name for name in fact.shown)):
        assert path.exists(), path
        assert knows(path, group, kind), f"{path} does not name {kind}"


def test_every_client_is_told() -> None:
    assert all(text for _, text in clients())
