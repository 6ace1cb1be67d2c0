"""`docs/runtimes.md` speaks of every field of a pod that is about a node, and refuses in the code's own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minik8s.api import schema

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "runtimes.md").read_text()
ANSWERS = (
    "works",
    "refused",
    "ignored",
    "as in the pod",
    "as there",
    "above",
    "below",
    "Unconfined works",
    "Strict works",
    "`false` works",
)


def rows(type_name: str) -> dict[str, list[str]]:
    """The table below a heading, by field."""
    section = TEXT.partition(f"\n## {type_name}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {field.strip("` "): answers for field, *answers in cells}


@pytest.mark.parametrize(
    "type_name", ["PodSpec", "PodSecurityContext", "SecurityContext", "Container", "Lifecycle", "VolumeMount"]
)
def test_every_field_is_told(type_name: str) -> None:
    """Of 1.36's schema; a container's table is the ephemeral ones', too."""
    of = "EphemeralContainer" if type_name == "Container" else type_name
    found = rows(type_name)
    assert found.keys() == schema.type_of(f"api.core.v1.{of}").fields.keys()
    assert list(found) == sorted(found)
    for field, answers in found.items():
        assert len(answers) == 2, field
        assert all(answer.startswith(ANSWERS) for answer in answers), field


def test_what_is_refused_is_refused_in_these_words() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "minik8s").rglob("*.py"))
    quoted = set(re.findall("“([^”]+)”", TEXT)) - {" "}
    assert len(quoted) > 20
    assert not [words for words in quoted if words not in sources]
