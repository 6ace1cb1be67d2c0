"""Every recorded answer of upstream, against real servers: what `make golden` shows. Files wait at the same time.

Where a machine is busy, what takes its time may come later than a case waits for it: a file that differs is replayed once more,
when the others are done, and only what differs again counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import golden_answers as golden
import pytest

WHERE = golden.directory()
FILES = golden.files(WHERE)
Replays = Mapping[str, Future[golden.Outcome]]
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not FILES, reason="no golden answers on this machine: MINIK8S_GOLDEN says where they are"),
]


@pytest.fixture(scope="module")
def replays(request: pytest.FixtureRequest) -> Iterator[Replays]:
    """The files that were selected, on their way."""
    chosen = [item.callspec.params["name"] for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(golden.AT_A_TIME) as pool:
        yield {name: pool.submit(golden.replay, WHERE, name) for name in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", FILES or [""])
def test_answers_equal_upstreams(replays: Replays, name: str) -> None:
    outcome = replays[name].result()
    if outcome.equal < outcome.of:
        for other in replays.values():
            other.exception()
        outcome = golden.replay(WHERE, name)
    assert not outcome.broken, outcome.text
    assert outcome.equal == outcome.of, outcome.text
