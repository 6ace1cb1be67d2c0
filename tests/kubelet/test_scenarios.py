"""Whole pod lives as text: a pod, what is done to it and when, and the trace of all that came of it.

`REWRITE_SCENARIOS=1 pytest tests/kubelet/test_scenarios.py` writes the traces anew: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from minik8s.api.resources import CONFIGMAPS, PODS, RUNTIMECLASSES

from .conftest import Stage
from .pods import container, pod

HERE = Path(__file__).parent / "scenarios"
SCENARIOS = sorted(HERE.glob("*.yaml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
async def test_scenario(stage: Stage, path: Path) -> None:
    scenario = yaml.safe_load(path.read_text())
    await stage.start()
    for text, results in (scenario.get("exec") or {}).items():
        stage.runtime.execs[text] = list(results)
    stage.runtime.failing_sandboxes = scenario.get("failingSandboxes", 0)
    stage.runtime.unstoppable = scenario.get("unstoppable", 0)
    spec = dict(scenario["pod"])
    for role in ("containers", "initContainers"):
        if role in spec:
            spec[role] = [container(**c) for c in spec[role]]
    stage.add(pod(*spec.pop("containers"), metadata=spec.pop("metadata", None), **spec))
    for step in scenario.get("do") or ():
        at = step.pop("at")
        await stage.clock.sleep(max(at - stage.clock.monotonic(), 0))
        (action,) = step.items()
        stage.trace(f"do: {action[0]}")
        await _do(stage, *action)
    await stage.clock.advance(max(scenario["for"] - stage.clock.monotonic(), 0))
    trace = "\n".join(stage.trace.lines) + "\n"
    if os.environ.get("REWRITE_SCENARIOS"):
        head = path.read_text().partition("\ntrace:")[0]
        indented = "".join(f"  {line}\n" for line in trace.splitlines())
        path.write_text(f"{head.rstrip()}\ntrace: |\n{indented}")
        return
    assert trace == scenario["trace"]


async def _do(stage: Stage, action: str, value: Any) -> None:
    match action:
        case "delete":
            stage.api.delete_pod("ns", "a", value)
        case "restart-agent":
            await stage.stop()
            await stage.start()
        case "break-sandbox":
            stage.runtime.break_sandbox(value)
        case "configmap":
            stage.api.put(CONFIGMAPS, {"metadata": {"namespace": "ns", "name": "conf", "uid": "u"}, "data": value})
        case "runtime-class":
            stage.api.put(RUNTIMECLASSES, {"metadata": {"name": "fast", "uid": "u"}, "handler": value})
        case "image":
            obj = stage.api.objects[PODS, "ns", "a"]
            spec = {**obj["spec"], "containers": [{**c, "image": value} for c in obj["spec"]["containers"]]}
            stage.api.put(PODS, {**obj, "spec": spec, "metadata": {**obj["metadata"], "generation": 2}})
        case "resize":
            obj = stage.api.objects[PODS, "ns", "a"]
            spec = {**obj["spec"], "containers": [{**c, "resources": value} for c in obj["spec"]["containers"]]}
            stage.api.put(PODS, {**obj, "spec": spec, "metadata": {**obj["metadata"], "generation": 2}})
        case "pullable":
            stage.runtime.pullable.add(value)
        case "finalizers":
            obj = stage.api.change(PODS, "ns", "a", finalizers=value)
            if not value and obj["metadata"].get("deletionGracePeriodSeconds") == 0:
                stage.api.drop(PODS, "ns", "a")
        case "exec":
            for text, results in value.items():
                stage.runtime.execs[text] = list(results)
        case _:
            raise AssertionError(action)
