"""The cache's invariants, as its docstring numbers them: against a model, and event by event."""

import asyncio
import random
import sys
import tracemalloc

import orjson
import pytest

from minik8s.api.resources import CONFIGMAPS, PODS
from minik8s.apiserver.cache import ALL, PENDING_LIMIT, PREFIX, Cache, Event, prefix_of
from minik8s.apiserver.history import PACK
from minik8s.apiserver.registry import encode
from minik8s.base.clock import Clock, RealClock
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock

HEAD = {"kind": "ConfigMap", "apiVersion": "v1"}


def value(name: str, labels: dict[str, str] | None = None, namespace: str = "a", **data: str) -> bytes:
    metadata = {"name": name, "namespace": namespace} | ({"labels": labels} if labels else {})
    return orjson.dumps(HEAD | {"metadata": metadata, "data": data})


def key(name: str, namespace: str = "a") -> str:
    return f"{prefix_of(CONFIGMAPS)}{namespace}/{name}"


@pytest.fixture
async def owner():
    owner = Owner("test")
    yield owner
    await owner.stop()


async def started(store: MemoryStore, owner: Owner, clock: Clock | None = None) -> Cache:
    cache = Cache(store, clock or RealClock())
    cache.add(CONFIGMAPS)
    cache.add(PODS, {"spec.nodeName": lambda pod: pod.get("spec", {}).get("nodeName", "")})
    await cache.start(owner)
    return cache


async def test_a_write_is_read_after_its_revision(owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner)
    revision = await store.write(key("x"), value("x", k="v"), 0)
    await cache.wait(revision)
    entry = cache.of(CONFIGMAPS).get("a", "x")
    assert entry is not None
    assert orjson.loads(entry.full) == HEAD | {
        "metadata": {"resourceVersion": str(revision), "name": "x", "namespace": "a"},
        "data": {"k": "v"},
    }
    assert b'"kind"' not in entry.item


async def test_what_the_store_held_before_is_there_and_its_window_too(owner: Owner) -> None:
    store = MemoryStore()
    first = await store.write(key("x"), value("x", k="1"), 0)
    second = await store.write(key("x"), value("x", k="2"), first)
    cache = await started(store, owner)
    await cache.wait(await store.write(key("y"), value("y"), 0))
    collection = cache.of(CONFIGMAPS)
    assert [event.type for event in collection.since(first)] == ["MODIFIED", "ADDED"]
    older = collection.undone(first)
    assert older["a/x"] is not None
    assert older["a/x"].obj["data"] == {"k": "1"}
    assert older["a/y"] is None
    assert collection.get("a", "x").revision == second  # type: ignore[union-attr]


async def test_watchers_get_what_they_are_interested_in_once(owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner)
    collection = cache.of(CONFIGMAPS)
    everything, named = collection.watch(ALL), collection.watch(("key", "a/x"))
    here, elsewhere = collection.watch(("namespace", "a")), collection.watch(("namespace", "b"))
    revision = await store.write(key("x"), value("x"), 0)
    await cache.wait(await store.write(key("x"), None, revision))
    for watcher in (everything, named, here):
        assert [event.type for event in watcher.take()] == ["ADDED", "DELETED"]
        assert watcher.take() == []
    assert elsewhere.take() == []


async def test_a_deletion_shows_the_last_state_at_its_own_revision(owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner)
    watcher = cache.of(CONFIGMAPS).watch(ALL)
    first = await store.write(key("x"), value("x", k="v"), 0)
    gone = await store.write(key("x"), None, first)
    await cache.wait(gone)
    _, deleted = watcher.take()
    assert deleted.entry.obj["metadata"]["resourceVersion"] == str(gone)
    assert deleted.entry.obj["data"] == {"k": "v"}


async def test_a_watcher_that_lags_is_cut_off_and_holds_nothing(owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner)
    collection = cache.of(CONFIGMAPS)
    watcher = collection.watch(ALL)
    await cache.wait(await store.write(key("x"), value("x"), 0))
    event = watcher.take()[0]
    for _ in range(PENDING_LIMIT + 1):
        watcher.push(event)
    assert watcher.cut_off
    assert watcher.pending == []


async def test_pods_of_a_node_are_found_and_watched_by_index(owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner)
    pods = cache.of(PODS)
    watcher, other = pods.watch(("spec.nodeName", "n1")), pods.watch(("spec.nodeName", "n2"))

    def pod(node: str) -> bytes:
        return orjson.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"nodeName": node}})

    assert pods.with_field("spec.nodeName", "n1") == []
    first = await store.write(f"{prefix_of(PODS)}a/p", pod("n1"), 0)
    await cache.wait(await store.write(f"{prefix_of(PODS)}a/p", pod("n2"), first))
    assert pods.with_field("spec.nodeName", "n1") == []
    assert pods.with_field("spec.nodeName", "n2") == ["a/p"]
    assert [event.type for event in watcher.take()] == ["ADDED", "MODIFIED"]  # it sees the pod leave
    assert [event.type for event in other.take()] == ["MODIFIED"]
    assert pods.with_field("status.phase", "x") is None


@pytest.mark.parametrize("seed", range(5))
async def test_order_indexes_and_history_against_a_model(seed: int, owner: Owner) -> None:
    rng, store = random.Random(seed), MemoryStore()
    cache = await started(store, owner)
    collection = cache.of(CONFIGMAPS)
    collection.with_label("l", "1")
    states: dict[int, dict[str, bytes]] = {}
    model: dict[str, tuple[bytes, int]] = {}
    for step in range(4 * PACK):
        name = f"{rng.choice('ab')}/{rng.choice('vwxyz-')}"
        namespace, _, short = name.partition("/")
        deleting = name in model and rng.random() < 0.4
        content = None if deleting else value(short, {"l": str(rng.randrange(3))}, namespace, step=str(step))
        revision = await store.write(PREFIX + "core/configmaps/" + name, content, model.get(name, (b"", 0))[1])
        if content is None:
            del model[name]
        else:
            model[name] = content, revision
        states[revision] = {known: held[0] for known, held in model.items()}
    await cache.wait(max(states))
    assert collection.order == sorted(model) == sorted(collection.entries)
    for label in "012":
        expected = sorted(known for known, (held, _) in model.items() if orjson.loads(held)["metadata"]["labels"]["l"] == label)
        assert collection.with_label("l", label) == expected
    for revision, state in states.items():
        undone = collection.undone(revision)
        shown = {known: entry for known, entry in (collection.entries | undone).items() if entry is not None}
        assert {known: entry.obj["data"] for known, entry in shown.items()} == {
            known: orjson.loads(held)["data"] for known, held in state.items()
        }


async def test_a_store_that_fails_fails_those_who_wait(owner: Owner) -> None:
    class Broken(MemoryStore):
        async def watch(self, prefix, after):  # type: ignore[no-untyped-def,override]
            await asyncio.sleep(0)
            raise OSError("gone")
            yield

    cache = await started(Broken(), owner)
    with pytest.raises(OSError, match="gone"):
        await cache.wait(7)
    with pytest.raises(OSError, match="gone"):
        await cache.wait(8)


async def test_changes_are_forgotten_when_the_window_is_over(clock: VirtualClock, owner: Owner) -> None:
    store = MemoryStore()
    cache = await started(store, owner, clock)
    history = cache.of(CONFIGMAPS).history
    revision, held = 0, []
    for _ in range(3 * PACK):
        revision = await store.write(key("x"), value("x"), revision)
    first = revision
    await cache.wait(first)
    await clock.advance("2m")
    last = await store.write(key("x"), value("x"), first)
    await cache.wait(last)
    for _ in range(5):
        await clock.advance("1m")
        held.append([event.entry.revision for event in history.back_to(0)])
    assert len(held[1]) == 3 * PACK + 1
    assert held[3] == [last]
    assert cache.oldest == first == await store.history()
    await clock.advance("2m")
    assert (cache.oldest, [*history.back_to(0)]) == (last, [])


def test_event_types() -> None:
    assert Event(None, None, False).type == "ADDED"  # type: ignore[arg-type]


def test_what_is_stored_takes_no_more_than_its_size() -> None:
    """orjson's own bytes keep 4 kB each, however short."""
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}
    tracemalloc.start()
    kept = [encode(obj) for _ in range(100)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * sum(map(sys.getsizeof, kept))


@pytest.mark.parametrize(
    ("held", "size", "kept"), [(False, 1, (True, False)), (True, 1, (True, True)), (False, 20_000, (False, False))]
)
async def test_what_writers_decoded_stays_while_it_is_new(owner: Owner, held: bool, size: int, kept: tuple[bool, bool]) -> None:
    """Memory for 10,000 objects of a kind is that of their bytes, but where an informer in the process holds them all."""
    store = MemoryStore()
    cache = await started(store, owner)
    collection = cache.of(CONFIGMAPS)
    collection.keep_decoded = held
    content = value("x", k="v" * size)
    cache.offer(key("x"), content, orjson.loads(content))
    await cache.wait(await store.write(key("x"), content, 0))
    entry = collection.entries["a/x"]
    found = [entry._obj is not None]
    for i in range(2 * PACK):
        await cache.wait(await store.write(key(f"later{i}"), value(f"later{i}"), 0))
    found.append(entry._obj is not None)
    assert tuple(found) == kept
    assert entry.obj["data"] == {"k": "v" * size}
