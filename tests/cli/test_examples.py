"""config/examples are right, to the last field."""

from collections.abc import Callable
from pathlib import Path


def test_every_example_is_accepted(run: Callable[..., tuple[int, str, str]]) -> None:
    folder = Path(__file__).parents[2] / "config" / "examples"
    code, out, err = run("create", "-f", folder, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{one} created (server dry run)" for one in ("pod/shell", "deployment.apps/web", "service/web")
    ]
