"""The count of e2e runs on each runtime (issue 5, "How it is shown")."""

from __future__ import annotations

from runs_per_runtime import Runs, differences, line


def test_the_line_tells_each_runtime_and_what_only_one_can_have() -> None:
    runs = Runs()
    for runtime in ("embedded", "containerd"):
        runs.add(runtime, "", "t.py::test_a[*]")
    runs.add("embedded", "its image has a Python", "t.py::test_b[*]")
    assert line(runs) == "e2e runs: 1 on containerd, 1 on embedded; 1 on embedded alone (its image has a Python)"
    assert not differences(runs.ran)


def test_a_test_that_ran_on_one_runtime_only_is_a_difference() -> None:
    runs = Runs()
    runs.add("embedded", "", "t.py::test_a[*]")
    runs.add("embedded", "", "t.py::test_b[*]")
    runs.add("containerd", "", "t.py::test_a[*]")
    assert differences(runs.ran) == ["t.py::test_b[*] did not run on containerd"]


def test_a_runtime_that_the_machine_lacks_is_told() -> None:
    runs = Runs()
    runs.add("embedded", "", "t.py::test_a[*]")
    runs.skipped("containerd", "containerd is not installed")
    assert line(runs) == "e2e runs: 1 on embedded, 0 on containerd (containerd is not installed)"
    assert not differences(runs.ran)
