"""Whom a node evicts, and what it says. Source: kubernetes.io "Node-pressure Eviction"; messages as upstream's kubelet words them."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.kubelet.eviction import (
    Candidate,
    ContainerLoad,
    Files,
    Load,
    Observation,
    State,
    has_limits,
    judge,
    over_limit,
    ranked,
    starved,
)
from minik8s.kubelet.thresholds import Amount, Threshold, parse

from .pods import container, pod

MIB = 1 << 20
HARD, SOFT = Threshold("memory.available", Amount(100)), Threshold("memory.available", Amount(300), 60.0)
DISK = Threshold("nodefs.available", Amount(part=0.1))


def memory(left: int) -> dict[str, Observation]:
    return {"memory.available": Observation(left, 1000), "nodefs.available": Observation(500, 1000)}


# --- thresholds over time ---------------------------------------------------------------------------------------------


def test_a_hard_threshold_is_due_at_once_and_a_soft_one_after_its_time() -> None:
    state = judge(State(), [HARD, SOFT], memory(250), 0, 300)
    assert (state.due, state.conditions) == ([], ("MemoryPressure",))
    state = judge(state, [HARD, SOFT], memory(250), 59, 300)
    assert state.due == []
    state = judge(state, [HARD, SOFT], memory(250), 60, 300)
    assert state.due == [SOFT]
    assert judge(State(), [HARD, SOFT], memory(99), 0, 300).due == [HARD]


def test_what_was_short_for_a_moment_begins_anew() -> None:
    state = judge(State(), [SOFT], memory(250), 0, 300)
    state = judge(state, [SOFT], memory(300), 50, 300)
    assert judge(state, [SOFT], memory(250), 70, 300).due == []


def test_the_condition_stays_for_the_transition_period() -> None:
    state = judge(State(), [HARD], memory(50), 0, 300)
    state = judge(state, [HARD], memory(500), 299, 300)
    assert (state.due, state.conditions) == ([], ("MemoryPressure",))
    assert judge(state, [HARD], memory(500), 300, 300).conditions == ()


def test_it_goes_on_until_as_much_is_free_as_is_to_be_got_back() -> None:
    greedy = Threshold("memory.available", Amount(100), 0.0, Amount(200))
    assert judge(State(), [greedy], memory(250), 0, 300).due == []
    state = judge(State(), [greedy], memory(50), 0, 300)
    state = judge(state, [greedy], memory(299), 10, 300)
    assert state.due == [greedy]
    assert judge(state, [greedy], memory(300), 20, 300).due == []


def test_memory_comes_first_and_what_is_not_seen_is_not_met() -> None:
    seen = {"memory.available": Observation(0, 10), "nodefs.available": Observation(0, 10)}
    state = judge(State(), [DISK, HARD, *parse("pid.available<10%")], seen, 0, 300)
    assert state.due == [HARD, DISK]
    assert state.conditions == ("MemoryPressure", "DiskPressure")


# --- who goes first ---------------------------------------------------------------------------------------------------


def one(name: str, load: Load | None, priority: int = 0, **requests: str) -> Candidate:
    asked = {key.replace("_", "-"): value for key, value in requests.items()}
    return Candidate(pod(container(resources={"requests": asked}), name=name, priority=priority), load)


def order(signal: str, *candidates: Candidate, separate: bool = False) -> list[str]:
    return [c.pod["metadata"]["name"] for c in ranked(signal, candidates, separate_images=separate)]


def test_memory() -> None:
    found = order(
        "memory.available",
        one("below-its-request", Load(900 * MIB), memory="1Gi"),
        one("important", Load(2000 * MIB), 10, memory="1Mi"),
        one("over-by-much", Load(800 * MIB), memory="100Mi"),
        one("over-by-more", Load(750 * MIB)),
        one("unknown", None, 100),
        one("less-important-below", Load(1), -1, memory="1Gi"),
    )
    assert found == ["unknown", "over-by-more", "over-by-much", "important", "less-important-below", "below-its-request"]


def files(root: int = 0, logs: int = 0, volumes: int = 0) -> Load:
    return Load(containers=[ContainerLoad("c", 0, Files(root, 1), Files(logs, 1))], volumes={"v": Files(volumes, 100 - root)})


def test_disk() -> None:
    pods = (
        one("log", files(logs=30)),
        one("root", files(root=50, volumes=1)),
        one("all", files(10, 30, 20), ephemeral_storage="20"),
    )
    assert order("nodefs.available", *pods) == ["root", "all", "log"]
    assert order("imagefs.available", *pods, separate=True) == ["root", "log", "all"]
    assert order("nodefs.available", *pods, separate=True) == ["log", "all", "root"]
    assert order("nodefs.inodesFree", *pods) == ["log", "all", "root"]


def test_processes() -> None:
    found = order(
        "pid.available",
        one("important", Load(processes=1000), 1),
        one("few", Load(processes=1)),
        one("many", Load(processes=10)),
        one("unknown", None),
    )
    assert found == ["unknown", "many", "few", "important"]


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_message_names_the_offenders() -> None:
    load = Load(
        memory=300 * MIB, containers=[ContainerLoad("c", 200 * MIB), ContainerLoad("d", 5 * MIB), ContainerLoad("debugger", 9)]
    )
    asked = {"requests": {"memory": "10Mi"}}
    candidate = Candidate(pod(container(), container("d", resources=asked)), load)
    threshold = Threshold("memory.available", Amount(100 * MIB))
    message, annotations = starved([threshold], candidate, {"memory.available": Observation(50 * MIB + 1024, 1 << 30)})
    assert message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51201Ki. "
        "Container c was using 200Mi, request is 0, has larger consumption of memory. "
    )
    assert annotations == {
        "offending_containers": "c",
        "offending_containers_usage": "200Mi",
        "starved_resource": "memory",
    }


def test_the_message_of_a_full_disk() -> None:
    threshold = parse("nodefs.available<10%")[0]
    seen = {"nodefs.available": Observation(1 << 20, 10 << 20)}
    message, _ = starved([threshold], one("a", files(3 << 10, 1 << 10)), seen)
    assert message == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1048576, available: 1Mi. "
        "Container c was using 4Ki, request is 0, has larger consumption of ephemeral-storage. "
    ).replace("1048576", "1Mi")
    assert starved([threshold], one("a", None), seen)[1] == {}


# --- a pod's own limits ------------------------------------------------------------------------------------------------


def limited(limit: str = "", size: str = "", **volume: Any) -> dict[str, Any]:
    resources = {"limits": {"ephemeral-storage": limit}} if limit else {}
    volumes = [{"name": "v", "emptyDir": {**({"sizeLimit": size} if size else {}), **volume}}]
    return pod(container(resources=resources), volumes=volumes)


@pytest.mark.parametrize(
    ("one", "load", "told"),
    [
        (limited(), files(9, 9, 9), ""),
        (limited(size="1Ki"), files(0, 0, 1024), ""),
        (limited(size="1Ki"), files(0, 0, 1025), 'Usage of EmptyDir volume "v" exceeds the limit "1Ki". '),
        (
            limited(size="1Ki", medium="Memory"),
            Load(in_memory={"v": Files(1025, 1)}),
            'Usage of EmptyDir volume "v" exceeds the limit "1Ki". ',
        ),
        (limited("1Ki"), files(300, 300, 424), ""),
        (limited("1Ki"), files(300, 301, 424), "Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. "),
        (limited("1Ki"), None, ""),
    ],
)
def test_limits(one: dict[str, Any], load: Load | None, told: str) -> None:
    assert over_limit(Candidate(one, load), separate_images=False) == told
    assert has_limits(one) is (one != limited())


def test_a_container_of_several() -> None:
    small, big = ({"limits": {"ephemeral-storage": size}} for size in ("1Ki", "1Mi"))
    one = pod(container(resources=small), container("d", resources=big))
    load = Load(containers=[ContainerLoad("c", 0, Files(1000), Files(25)), ContainerLoad("d")])
    told = 'Container c exceeded its local ephemeral storage limit "1Ki". '
    assert over_limit(Candidate(one, load), separate_images=False) == told
    assert over_limit(Candidate(one, load), separate_images=True) == ""
