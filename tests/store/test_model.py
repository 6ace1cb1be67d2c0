"""Any sequence of calls against a model (hypothesis): the contract of `minik8s/store/base.py`, with restarts and crashes.

The model is the list of changes that the store acknowledged, and nothing else: what is current, what a watch gives and what a
compaction leaves follow from it. The SQLite store runs with tiny bounds, so that short runs reach every path.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from minik8s.store import open_store
from minik8s.store.base import Change, Compacted, Conflict, Entry, Store
from minik8s.testing.clock import VirtualLoop

BOUNDS = {
    "sqlite.TAIL": 2,
    "sqlite.RESERVE": 2,
    "sqlite.LAZY_LIMIT": 4,
    "sqlite.FORGET": 3,
    "sqlite.READ": 3,
    "database.READ": 3,
    "sqlite.BATCH": 3,
    "database.BATCH": 2,
    "log.BATCH": 4,
}
keys = st.sampled_from(["/a/1", "/a/2", "/ab/1", "/b/1"])
prefixes = st.sampled_from(["", "/", "/a/", "/a", "/b/", "/c/"])
values = st.one_of(st.none(), st.binary(max_size=3))
guesses = st.integers(0, 3)


class Model(RuleBasedStateMachine):
    """One store, and what it said."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.run = self.runner.run
        self.clock = self.runner.get_loop().clock
        self.directory = Path(tempfile.mkdtemp())
        self.log: list[Change] = []  # what may be watched
        self.current: dict[str, Entry] = {}
        self.durable: set[int] = set()  # revisions that a crash may not lose
        self.highest = 0  # the highest revision that anybody was told
        self.compacted = 0

    @initialize()
    def open(self) -> None:
        self.store: Store = self.run(open_store(self.kind, self.directory / "state.db", self.clock))
        self.highest = self.compacted = self.run(self.store.revision())

    @rule(key=keys, value=values, guess=guesses, lazy=st.booleans())
    def write(self, key: str, value: bytes | None, guess: int, lazy: bool) -> None:
        self.write_at_once([(key, value, guess, lazy)])

    @rule(batch=st.lists(st.tuples(keys, values, guesses, st.booleans()), min_size=2, max_size=8))
    def write_at_once(self, batch: list[tuple[str, bytes | None, int, bool]]) -> None:
        """Writes that wait together; a guess of 0 expects too little, else what is current."""
        asked = []
        for key, value, guess, lazy in batch:
            revision = self.current[key].revision if key in self.current else 0
            expected = revision if guess else max(revision - 1, 0)
            if value is None and expected == 0:
                continue
            asked.append((key, value, expected, lazy))

        async def write() -> list[Any]:
            calls = (self.store.write(key, value, expected, lazy=lazy) for key, value, expected, lazy in asked)
            return await asyncio.gather(*calls, return_exceptions=True)

        answers = list(zip(asked, self.run(write()), strict=True))
        written = sorted((answer, call) for call, answer in answers if isinstance(answer, int))
        for revision, (key, value, expected, lazy) in written:
            previous = self.current.get(key)
            assert expected == (previous.revision if previous else 0)
            assert revision > self.highest
            self.took(Change(revision, key, value, previous), lazy)
        for (key, _, expected, _), answer in answers:
            if isinstance(answer, Conflict):
                assert answer.current != expected
                assert answer.key == key
                if not any(call[0] == key for _, call in written):
                    assert answer.current == (self.current[key].revision if key in self.current else 0)
            else:
                assert isinstance(answer, int)

    def took(self, change: Change, lazy: bool) -> None:
        self.highest = change.revision
        self.log.append(change)
        if not lazy:
            self.durable.add(change.revision)
        if change.value is None:
            del self.current[change.key]
        else:
            self.current[change.key] = Entry(change.key, change.value, change.revision)

    @rule(prefix=prefixes, back=st.integers(0, 12))
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.highest - back, 0)
        expected = [change for change in self.log if change.revision > after and change.key.startswith(prefix)]
        if after < self.compacted:
            with pytest.raises(Compacted) as raised:
                self.run(self.read(prefix, after, 1))
            assert raised.value.revision == self.compacted
        else:
            assert self.run(self.read(prefix, after, len(expected))) == expected

    async def read(self, prefix: str, after: int, count: int) -> list[Change]:
        changes: list[Change] = []
        batches = self.store.watch(prefix, after)
        while len(changes) < count:
            changes += await asyncio.wait_for(anext(batches), 5)
        await batches.aclose()  # type: ignore[attr-defined]
        return changes

    @rule(back=st.integers(0, 6))
    def compact(self, back: int) -> None:
        revision = self.highest - back
        self.run(self.store.compact(revision))
        if revision > self.compacted:
            self.compacted = revision
            self.log = [change for change in self.log if change.revision > revision]
        assert self.run(self.store.history()) == self.compacted

    @rule(seconds=st.sampled_from([1, 61]))
    def wait(self, seconds: int) -> None:
        self.run(self.clock.advance(seconds))

    @precondition(lambda self: self.kind == "sqlite")
    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.run(self.reopen())
        assert self.run(self.store.revision()) == self.highest

    @precondition(lambda self: self.kind == "sqlite")
    @rule()
    def crash(self) -> None:
        """What the files hold is what was said, less some lazy writes."""
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.directory, copy, dirs_exist_ok=True)
        self.run(self.store.close())
        shutil.rmtree(self.directory)
        self.directory = copy
        self.run(self.reopen())
        assert self.run(self.store.revision()) >= self.highest
        said = {change.revision: change for change in self.log}
        self.log = self.run(self.everything())
        kept = {change.revision: change for change in self.log[:-2]}
        assert kept.keys() >= self.durable & said.keys()
        for revision, change in kept.items():
            assert (change.key, change.value) == (said[revision].key, said[revision].value)
        self.highest = self.log[-1].revision
        self.durable |= {change.revision for change in self.log}
        self.current = {entry.key: entry for entry in self.run(self.store.snapshot("")).entries}
        for key, change in {change.key: change for change in self.log}.items():
            assert self.current.get(key) == (None if change.value is None else Entry(key, change.value, change.revision))

    async def everything(self) -> list[Change]:
        """The whole history, up to two writes that are made to end it."""
        mark = await self.store.write("/mark", b"", 0)
        removed = await self.store.write("/mark", None, mark)
        changes: list[Change] = []
        batches = self.store.watch("", await self.store.history())
        while not changes or changes[-1].revision != removed:
            changes += await asyncio.wait_for(anext(batches), 5)
        await batches.aclose()  # type: ignore[attr-defined]
        return changes

    async def reopen(self) -> None:
        self.store = await open_store(self.kind, self.directory / "state.db", self.clock)

    @invariant()
    def nothing_else(self) -> None:
        if not hasattr(self, "store"):
            return
        snapshot = self.run(self.store.snapshot(""))
        assert list(snapshot.entries) == [self.current[key] for key in sorted(self.current)]
        assert snapshot.revision == self.run(self.store.revision()) == self.highest

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.directory)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_any_sequence_of_calls(kind: str) -> None:
    machine = type("Machine", (Model,), {"kind": kind})
    quick = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    with ExitStack() as stack:
        for name, value in BOUNDS.items():
            stack.enter_context(mock.patch(f"minik8s.store.{name}", value))
        run_state_machine_as_test(machine, settings=quick)
