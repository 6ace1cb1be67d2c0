"""For all tests: hypothesis judges answers, never the machine's speed; e2e runs are counted for each container runtime; garbage is
collected after each file, as `minik8s/base/memory.py` does it between others' work.

A collection within `ast.parse`, by which pytest rewrites what is imported, may find something unclosed; telling of it parses, too, and
CPython 3.11 takes no parsing within another one ("AST constructor recursion depth mismatch").
"""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("minik8s", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("minik8s")

pytest_plugins = ["runs_per_runtime"]
gc.disable()


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()
    gc.freeze()  # the next one looks at what is new
