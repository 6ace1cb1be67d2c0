"""The Python examples of README.md and docs/ are run as they stand there, by a pytest of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    (page.name, number, code)
    for page in (ROOT / "README.md", ROOT / "docs" / "testing.md")
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), 1)
]


@pytest.mark.e2e
@pytest.mark.parametrize(("page", "number", "code"), EXAMPLES, ids=lambda value: str(value)[:20] if value is not None else "")
def test_an_example_of_the_documentation(page: str, number: int, code: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(code)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_example.py"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{page}, example {number}:\n{done.stdout}"
