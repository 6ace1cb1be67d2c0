"""Follows the CustomResourceDefinitions: makes room for what they define, serves it, writes their status, and sees their deletion through.

Room is made in the moment in which a definition shows in the cache, before any object of it can; it is served as soon as its names are
accepted, and `Established` is told right after. Level-triggered: each round compares every definition with what is served and
written. Each server of a cluster does the same; `status.py` decides, so that all come to one conclusion.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import orjson

from minik8s.api.errors import ApiError, NotFound
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from minik8s.api.user import User
from minik8s.apiserver.bodies import DeleteOptions, private
from minik8s.apiserver.cache import Cache, Entry
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.custom import status
from minik8s.apiserver.custom.collection import CustomCollection
from minik8s.apiserver.custom.conversion import ByName, ByWebhook, Converter, Post
from minik8s.apiserver.registry import Registry
from minik8s.apiserver.request import Request
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.tasks import Owner
from minik8s.base.uids import new_uid

log = logging.getLogger(__name__)

SERVER = User("system:apiserver", groups=("system:masters", "system:authenticated"))
MANAGER = "kube-apiserver"
LINGER = 60.0
"""Seconds after which a deletion tells that objects are still there."""
BACKOFF = Backoff(initial=0.1, maximum=60.0)
TURN = 50
"""Objects that are deleted before others have their turn."""


@dataclass(slots=True)
class _Defined:
    """What is known of one definition."""

    collection: CustomCollection
    group: str = ""
    revision: int = 0
    digest: bytes = b""  # of what its rows were made of
    rows: tuple[Resource, ...] = ()  # of all its versions
    served: tuple[Resource, ...] = ()
    outline: Mapping[str, Any] = field(default_factory=dict)  # what the others need to know for their names


class Definitions:
    """The custom resources of one server."""

    def __init__(
        self,
        cache: Cache,
        catalogue: Catalogue,
        registry: Registry,
        clock: Clock,
        rng: Random,
        owner: Owner,
        caller: Callable[[], Post],
    ) -> None:
        self._cache = cache
        self._catalogue = catalogue
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self._caller = caller
        self._defined: dict[str, _Defined] = {}
        self._ending: set[str] = set()
        self._wake = asyncio.Event()
        self._stored = cache.of(CUSTOMRESOURCEDEFINITIONS)

    def begin(self, *, serve: bool) -> None:
        """Makes room for what is defined already; `serve`: and serves it at once, before this returns."""
        self._changed()
        if serve:
            for name, entry in self._stored.entries.items():
                self._serve(self._defined[name], entry.obj, entry.obj.get("status") or {})
            self._publish()
        self._stored.changed.append(self._changed)
        self._owner.start(self._run(), "custom resources")

    # --- following ---------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """A definition came, changed or went."""
        for name, entry in self._stored.entries.items():
            if name not in self._defined:
                self._defined[name] = self._adopt(entry.obj)
        if gone := [name for name in self._defined if name not in self._stored.entries]:
            for name in gone:
                self._drop(self._defined.pop(name))
            self._publish()
        self._wake.set()

    def _adopt(self, definition: Frozen) -> _Defined:
        spec = definition["spec"]
        stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
        names = spec["names"]
        row = Resource(spec["group"], stored, names["plural"], names["kind"], namespaced=spec["scope"] == "Namespaced")
        try:
            collection = self._cache.of_custom(row)  # what another definition left behind
            collection.define(row, [row], ByName())
        except NotFound:
            collection = CustomCollection(row, [row], ByName(), self._clock)
            self._cache.adopt(collection)
        return _Defined(collection, spec["group"], outline=_outline(definition))

    def _drop(self, defined: _Defined) -> None:
        defined.collection.end_watches()
        if not defined.collection.entries:
            self._cache.drop(defined.collection.resource)

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._clock.hold():
                await asyncio.get_running_loop().run_in_executor(None, importlib.import_module, "minik8s.api.structural")
            try:
                await self._round()
                failures = 0
            except ApiError as error:
                failures += 1
                log.warning("cannot write the status of a CustomResourceDefinition: %s", error)
                await self._clock.sleep(BACKOFF.delay(failures, self._rng))
                self._wake.set()

    async def _round(self) -> None:
        for name in sorted(self._defined):
            entry, defined = self._stored.entries.get(name), self._defined.get(name)
            if entry is None or defined is None:
                continue
            if entry.revision == defined.revision and status.holds(defined.outline["status"], status.NAMES_ACCEPTED):
                continue
            await self._settle(name, defined, entry)
        self._publish()

    async def _settle(self, name: str, defined: _Defined, entry: Entry) -> None:
        definition = entry.obj
        defined.revision, defined.outline = entry.revision, _outline(definition)
        decided = self._decided(definition)
        self._serve(defined, definition, decided)
        self._publish()
        if decided != (definition.get("status") or {}):
            await self._write_status(name, self._decided)
        metadata = definition["metadata"]
        ending = "deletionTimestamp" in metadata and status.FINALIZER in (metadata.get("finalizers") or ())
        if ending and name not in self._ending:
            self._ending.add(name)
            self._owner.start(self._end(name, metadata["uid"]), f"end of {name}")

    def _decided(self, definition: Frozen) -> Object:
        others = [defined.outline for defined in self._defined.values()]
        return status.decide(definition, others, rfc3339(self._clock.now()))

    # --- serving -----------------------------------------------------------------------------------------------------

    def _serve(self, defined: _Defined, definition: Frozen, decided: Frozen) -> None:
        """Brings the rows of a definition up to date."""
        if not status.holds(decided, status.ESTABLISHED):
            defined.served = ()
            return
        spec, names = definition["spec"], decided["acceptedNames"]
        digest = hashlib.sha256(orjson.dumps([definition["metadata"]["uid"], spec, names])).digest()
        terminating = status.holds(decided, status.TERMINATING)
        if digest != defined.digest:
            try:
                defined.rows = rows_of(definition, names)
            except (LookupError, ValueError, TypeError):
                log.exception("cannot serve the CustomResourceDefinition %s", definition["metadata"]["name"])
                defined.served, defined.digest = (), digest
                return
            self._define(defined, spec)
            defined.collection.end_watches()
            defined.digest = digest
        if any(row.terminating != terminating for row in defined.rows):
            defined.rows = tuple(replace(row, terminating=terminating) for row in defined.rows)
            self._define(defined, spec)
        served = {version["name"] for version in spec["versions"] if version.get("served")}
        defined.served = tuple(row for row in defined.rows if row.version in served)

    def _define(self, defined: _Defined, spec: Frozen) -> None:
        stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
        row = next(row for row in defined.rows if row.version == stored)
        defined.collection.define(row, defined.rows, self._converter(spec))

    def _converter(self, spec: Frozen) -> Converter:
        conversion = spec.get("conversion") or {}
        if conversion.get("strategy") != "Webhook":
            return ByName()
        return ByWebhook(conversion, self._caller(), lambda: new_uid(self._rng))

    def _publish(self) -> None:
        self._catalogue.replace_custom(row for name in sorted(self._defined) for row in self._defined[name].served)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write_status(self, name: str, decide: Callable[[Frozen], Object], *, finalized: bool = False) -> None:
        """Writes the status that `decide` finds; `finalized`: and takes the finalizer away."""

        async def change(old: Frozen) -> Object:
            new = private(old)
            new["status"] = decide(old)
            metadata = new["metadata"]
            metadata.pop("resourceVersion")
            if finalized:
                left = [each for each in metadata.get("finalizers") or () if each != status.FINALIZER]
                metadata["finalizers"] = left
                if not left:
                    del metadata["finalizers"]
            return new

        request = Request("patch", CUSTOMRESOURCEDEFINITIONS, "", name, "status", user=SERVER, agent=MANAGER)
        try:
            await self._registry.rewrite(request, change, raw=finalized)
        except NotFound:
            return

    # --- deletion ----------------------------------------------------------------------------------------------------

    async def _end(self, name: str, uid: str) -> None:
        """Deletes the objects of a definition, waits until they are gone, and lets it go."""
        failures, problem = 0, ""
        try:
            while (defined := self._defined.get(name)) is not None and self._is(name, uid):
                if problem:
                    await self._clock.sleep(BACKOFF.delay(failures, self._rng))
                try:
                    if problem:
                        await self._terminate(name, True, "InstanceDeletionFailed", problem)
                    reason, message = await self._empty(name, defined)
                    await self._terminate(name, False, reason, message, finalized=True)
                    return
                except ApiError as error:
                    failures += 1
                    problem = f"could not issue all deletes: {error.message}"
                    log.warning("the end of %s: %s", name, problem)
        finally:
            self._ending.discard(name)

    def _is(self, name: str, uid: str) -> bool:
        entry = self._stored.entries.get(name)
        return entry is not None and entry.obj["metadata"]["uid"] == uid

    async def _empty(self, name: str, defined: _Defined) -> tuple[str, str]:
        if not defined.rows:
            return "NeverEstablished", "resource was never established"
        await self._terminate(name, True, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        collection = defined.collection
        for i, key in enumerate(list(collection.order)):
            namespace, _, plain = key.rpartition("/")
            request = Request("delete", collection.resource, namespace, plain, user=SERVER, admitted=True)
            await self._registry.delete_if_there(request, DeleteOptions())
            if i % TURN == TURN - 1:
                await self._clock.sleep(0)
        changed = asyncio.Event()
        collection.changed.append(changed.set)
        try:
            while collection.entries:
                changed.clear()
                try:
                    async with self._clock.timeout(LINGER):
                        await changed.wait()
                except TimeoutError:
                    text = "could not confirm zero CustomResources remaining: timed out waiting for the condition"
                    await self._terminate(name, True, "InstanceDeletionCheck", text)
        finally:
            collection.changed.remove(changed.set)
        return "InstanceDeletionCompleted", "removed all instances"

    async def _terminate(self, name: str, is_so: bool, reason: str, message: str, *, finalized: bool = False) -> None:
        def decide(definition: Frozen) -> Object:
            now = rfc3339(self._clock.now())
            return status.with_condition(definition.get("status") or {}, status.TERMINATING, is_so, reason, message, now)

        await self._write_status(name, decide, finalized=finalized)


def rows_of(definition: Frozen, names: Frozen) -> tuple[Resource, ...]:
    """The rows of all versions of a definition, served or not, under its accepted names."""
    from minik8s.api.structural import resources_of  # sizeable: not before something is defined

    spec = definition["spec"]
    versions = [{**version, "served": True} for version in spec["versions"]]
    every: dict[str, Any] = {**definition, "spec": {**spec, "versions": versions}, "status": {"acceptedNames": names}}
    rows: Sequence[Resource] = resources_of(every)
    return tuple(rows)


def _outline(definition: Frozen) -> Mapping[str, Any]:
    """What a definition's neighbours need to know of it."""
    spec, metadata = definition["spec"], definition["metadata"]
    return {
        "metadata": {"name": metadata["name"]},
        "spec": {"group": spec["group"]},
        "status": definition.get("status") or {},
    }
