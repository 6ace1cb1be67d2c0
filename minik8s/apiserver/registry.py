"""The generic registry: what create, update, patch and delete mean for every kind. Kinds differ by their `api.kind.Kind` hooks.

A write: the object as it shall be -> admission -> validation -> store (which decides conflicts) -> answer, once durable.
Answers are cache entries (bytes that are already encoded), or plain objects where nothing was stored (dry run).

Neighbours: `bodies.py` makes objects of request bodies, `deletion.py` decides what a DELETE does, `subresources.py` builds on the
functions here, `admitting.py` asks the plugins of admission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

import orjson

from minik8s.api import convert, names
from minik8s.api.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    FieldError,
    InternalError,
    NotFound,
    RequestTooLarge,
    invalid,
    invalid_object,
    object_conflict,
    object_exists,
    object_forbidden,
    object_not_found,
)
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.kinds.table import rules_of
from minik8s.api.managed.entries import settle_times
from minik8s.api.resources import LAZY, Resource
from minik8s.apiserver import bodies, deletion, managing
from minik8s.apiserver.admitting import Admitter
from minik8s.apiserver.allocation import Allocators
from minik8s.apiserver.aside import BIG, Aside
from minik8s.apiserver.cache import Cache, Entry, key_of, prefix_of
from minik8s.apiserver.contract import Operation, Plugin
from minik8s.apiserver.metrics import AdmissionMetrics, StoreMetrics
from minik8s.apiserver.quotas import Quotas
from minik8s.apiserver.request import Request
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.metrics import Metrics
from minik8s.base.uids import new_uid
from minik8s.store.base import Conflict, Store, StoreFailed
from minik8s.store.base import Entry as Stored

T = TypeVar("T")
Answer = Entry | Mapping[str, Any]
Change = Callable[[Frozen], Awaitable[Object]]
"""Makes the new object of the current one; may be asked again when another write came between."""
ATTEMPTS = 32
NAME_ATTEMPTS = 8
LARGEST = 4 * 1024 * 1024
"""Bytes of a stored object: somewhat more than a request may bring. Defaults and admission could unfold it without end."""
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_EXTENSIONS = {"apiextensions.k8s.io", "apiregistration.k8s.io", "admissionregistration.k8s.io"}
"""Groups whose kinds, as custom resources, may have any finalizer."""
_FILLED_METADATA = ("deletionTimestamp", "deletionGracePeriodSeconds", "uid")
_SERVER_METADATA = (*_FILLED_METADATA, "creationTimestamp", "selfLink", "resourceVersion", "managedFields")


class Registry:
    """Creates, changes and deletes objects of all kinds."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        rng: Random,
        admission: Sequence[Plugin],
        allocators: Allocators,
        quotas: Quotas,
        metrics: Metrics | None = None,
    ) -> None:
        self.cache = cache
        self.clock = clock
        self._store = store
        self._rng = rng
        self.admission = Admitter(admission, clock, AdmissionMetrics(metrics or Metrics()))
        self._allocators = allocators
        self._quotas = quotas
        self._aside = Aside()
        self._stored = StoreMetrics(metrics or Metrics())

    # --- verbs -------------------------------------------------------------------------------------------------------

    def get(self, request: Request) -> Entry:
        """The current entry of the named object, as it is stored."""
        entry = self.cache.of(request.resource).get(request.namespace, request.name)
        if entry is None:
            raise object_not_found(request.resource, request.name)
        return entry

    async def read(self, request: Request) -> Entry:
        """The current entry of the named object, as the version that is asked for shows it."""
        return await self._shown(self.get(request), request.resource)

    async def _shown(self, entry: Entry, resource: Resource) -> Entry:
        if resource.custom is None:
            return entry
        return (await self.cache.of_custom(resource).present([entry], resource))[0]

    async def create(self, request: Request) -> Answer:
        obj = await self._object_of(request)
        metadata = obj.setdefault("metadata", {})
        bodies.check_namespace(request, obj)
        if metadata.get("resourceVersion", "0") != "0":
            raise BadRequest("resourceVersion should not be set on objects to be created")
        return await self.create_object(request, obj)

    async def _object_of(self, request: Request) -> Object:
        request.size = _body_size(request)
        return await self._aside(request.size, bodies.object_of, request, bodies.TypeOf.of(request.resource))

    async def create_object(self, request: Request, obj: Object) -> Answer:
        """Creates `obj`, a private object that passed the schema. That of an apply brings its managedFields along."""
        if request.resource.terminating:
            name = obj["metadata"].get("name", "")
            reason = "create not allowed while custom resource definition is terminating"
            raise object_forbidden(request.resource, name, reason)
        rules, metadata = rules_of(request.resource), obj["metadata"]
        managed = metadata.get("managedFields", [])
        self._stamp(obj, request, rules)
        generated = bool(metadata.get("generateName")) and not metadata.get("name")
        if generated:
            metadata["name"] = self._generated_name(metadata["generateName"])
        await self._aside(request.size, _complete, request, rules, obj)
        metadata = obj["metadata"]  # a default may have made a new one
        if bodies.is_apply(request):
            managing.set_entries(obj, managed)
        else:
            await self.track(request, obj, None)
        await self.admission.mutate(request, Operation.CREATE, obj, None)
        rules.prepare_create(obj)
        with self._allocators.reserve(request.resource, obj, None):
            await self._aside(_judged_size(request, rules), _judge_new, request, rules, obj)
            await self.admission.validate(request, Operation.CREATE, obj, None)
            with self._quotas.reserve(request, obj, None):
                for attempt in range(NAME_ATTEMPTS):
                    try:
                        return await self._create(request, obj)
                    except Conflict:
                        if not generated or attempt + 1 == NAME_ATTEMPTS:
                            raise self._exists(request, metadata["name"]) from None
                        metadata["name"] = self._generated_name(metadata["generateName"])
        raise InternalError("no free name was found")

    async def _create(self, request: Request, obj: Object) -> Answer:
        if not dry_run(request):
            return await self._store_object(request.resource, obj, 0)
        if self.cache.of(request.resource).get(request.namespace, obj["metadata"]["name"]) is not None:
            raise self._exists(request, obj["metadata"]["name"])
        return obj

    def _exists(self, request: Request, name: str) -> ApiError:
        current = self.cache.of(request.resource).get(request.namespace, name)
        deleting = current is not None and "deletionTimestamp" in current.obj["metadata"]
        return object_exists(request.resource, name, deleting=deleting)

    async def update(self, request: Request) -> tuple[Answer, bool]:
        """A PUT: (the answer, whether it created the object)."""
        obj = await self._object_of(request)
        bodies.check_name(request, obj)
        bodies.check_namespace(request, obj)
        if not self.exists(request) and request.resource.creates_on_update and not request.subresource:
            if uid := obj["metadata"].get("uid"):
                detail = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                raise object_conflict(request.resource, request.name, detail)
            obj["metadata"].pop("resourceVersion", None)
            return await self.create_object(request, obj), True

        async def change(_: Frozen) -> Object:
            return await self._aside(request.size, bodies.private, obj)

        return await self.rewrite(request, change), False

    async def patch(self, request: Request) -> tuple[Answer, bool]:
        """A PATCH: (the answer, whether it created the object, as an apply may)."""
        if bodies.is_apply(request):
            return await self._apply(request)
        request.size = _body_size(request)
        patch = await self._aside(request.size, bodies.patch_of, request)

        async def change(old: Frozen) -> Object:
            return await self._aside(request.size, bodies.patched, request, patch, old)

        return await self.rewrite(request, change), False

    async def _apply(self, request: Request) -> tuple[Answer, bool]:
        request.size = _body_size(request)
        config = await self._aside(request.size, bodies.config_of, request, bodies.TypeOf.of(request.resource))

        async def change(old: Frozen) -> Object:
            return bodies.check_applied(request, await self.applied(request, config, old), old)

        if not request.subresource and not self.exists(request):
            obj = bodies.check_applied(request, await self.applied(request, config, None), None)
            try:
                return await self.create_object(request, obj), True
            except AlreadyExists:
                if not self.exists(request):
                    raise
        return await self.rewrite(request, change, tracked=True), False

    def exists(self, request: Request) -> bool:
        """Whether the named object is there."""
        return self.cache.of(request.resource).get(request.namespace, request.name) is not None

    async def delete(self, request: Request) -> tuple[Answer, bool]:
        """(the object, or what was left of it, whether it is gone)."""
        options = bodies.delete_options_of(request)
        request.warnings += deletion.warnings(request.resource, options)
        return await self.delete_object(request, options)

    async def delete_object(self, request: Request, options: bodies.DeleteOptions) -> tuple[Answer, bool]:
        admitted = False
        for _ in range(ATTEMPTS):
            entry = await self.read(request)
            deletion.check_preconditions(request.resource, entry, options)
            if not admitted:
                request.dry_run = request.dry_run or (("All",) if options.dry_run else ())
                await self.admission.admit(request, Operation.DELETE, None, entry.obj, options.to_object())
                admitted = True
            verdict = deletion.decide(request.resource, entry.obj, options, self.clock.now())
            if verdict.obj is None and verdict.remove is False:
                return entry, False
            if options.dry_run:
                return verdict.obj if verdict.obj is not None else entry, verdict.remove
            try:
                if verdict.remove:
                    if verdict.obj is not None and verdict.obj != entry.obj:  # watchers see that it ends before it is gone
                        entry = await self._store_object(request.resource, verdict.obj, entry.revision)
                    revision = await self._write(request.resource, entry.namespace, entry.name, None, entry.revision)
                    if verdict.obj is not None:
                        verdict.obj["metadata"]["resourceVersion"] = str(revision)
                    return (verdict.obj if verdict.obj is not None else entry.at_revision(revision)), True
                if verdict.obj is None:
                    raise InternalError("a deletion decided nothing")
                return await self._store_object(request.resource, verdict.obj, entry.revision), False
            except Conflict as conflict:
                await self.cache.wait(conflict.current)
        raise object_conflict(request.resource, request.name)

    async def delete_if_there(self, request: Request, options: bodies.DeleteOptions) -> None:
        """As `delete_object`, content where somebody else was faster."""
        try:
            await self.delete_object(request, options)
        except NotFound:
            return

    # --- managedFields -----------------------------------------------------------------------------------------------

    async def track(self, request: Request, new: Object, old: Frozen | None) -> None:
        """Writes the managedFields of `new`, which a plain write is about to make of `old`."""
        await self._managed(request, managing.track, new, old)

    async def applied(self, request: Request, config: Frozen, old: Frozen | None) -> Object:
        """The private object that an apply patch makes of `old`, or creates."""
        return await self._managed(request, managing.applied, config, old)

    async def _managed(self, request: Request, function: Callable[..., T], first: Frozen, old: Frozen | None) -> T:
        """What `function` of `managing` makes of both; those of a custom resource come in all of its versions."""
        now = rfc3339(self.clock.now())
        if request.resource.custom is None:
            return await self._aside(request.size, function, request, first, old, now)
        custom = self.cache.of_custom(request.resource)
        return await custom.with_versions(
            lambda convert: self._aside(request.size, function, request, first, old, now, convert)
        )

    # --- rewriting an object -----------------------------------------------------------------------------------------

    async def rewrite(self, request: Request, change: Change, *, raw: bool = False, tracked: bool = False) -> Answer:
        """Reads, changes, validates and writes an object; again from the start when another write came between, unless the new
        object holds a resourceVersion, that is, asks for a conflict. `raw`: `change` has seen to the rules itself; `tracked`: and to
        the managedFields.
        """
        for _ in range(ATTEMPTS):
            entry = await self.read(request)
            request.size = max(request.size, len(entry.item))
            old = convert.to_served(entry.obj, request.resource)
            new = await change(old)
            wanted = new["metadata"].get("resourceVersion", "")
            unconditional = wanted in ("", "0")
            if unconditional and request.verb == "update" and request.resource.needs_version:
                problem = invalid("metadata.resourceVersion", 0, "must be specified for an update")
                raise invalid_object(request.resource.plural, request.resource.group, request.name, [problem])
            if not unconditional and wanted != str(entry.revision):
                if not wanted.isdigit():
                    raise BadRequest(f'strconv.ParseUint: parsing "{wanted}": invalid syntax')
                raise object_conflict(request.resource, request.name)
            if not raw:
                await self._prepare_update(request, new, old, tracked)
            with self._allocators.reserve(request.resource, new, old):
                if not raw:
                    await self._validate_update(request, new, old)
                await self._aside(request.size, settle_times, new, old)
                if new == old and not self._outdated(request):
                    return entry
                try:
                    with self._quotas.reserve(request, new, old):
                        return new if dry_run(request) else await self._write_update(request, new, entry)
                except Conflict as conflict:
                    if not unconditional and request.verb == "update":
                        raise object_conflict(request.resource, request.name) from None
                    await self.cache.wait(conflict.current)
        raise object_conflict(request.resource, request.name)

    def _outdated(self, request: Request) -> bool:
        """Whether the stored object would be stored otherwise today, though it shows the same."""
        if request.resource.custom is None:
            return False
        return self.cache.of_custom(request.resource).outdated(self.get(request))

    async def _write_update(self, request: Request, new: Object, entry: Entry) -> Answer:
        if not deletion.is_finished(new):
            return await self._store_object(request.resource, new, entry.revision)
        revision = await self._write(request.resource, entry.namespace, entry.name, None, entry.revision)
        new["metadata"]["resourceVersion"] = str(revision)
        return new

    async def _prepare_update(self, request: Request, new: Object, old: Frozen, tracked: bool) -> None:
        rules, metadata = rules_of(request.resource), new["metadata"]
        if (uid := metadata.get("uid")) and uid != old["metadata"]["uid"] and request.verb == "update":
            detail = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            raise object_conflict(request.resource, request.name, detail)
        await self._aside(request.size, _complete, request, rules, new)
        metadata = new["metadata"]  # a default may have made a new one
        for name in _FILLED_METADATA:
            if name in old["metadata"]:
                metadata.setdefault(name, old["metadata"][name])
        _drop_repeated_owners(metadata, request.warnings)
        metadata["creationTimestamp"] = old["metadata"]["creationTimestamp"]
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if "generation" in old["metadata"]:
            metadata["generation"] = old["metadata"]["generation"]
        if request.resource.namespaced:
            metadata["namespace"] = request.namespace
        if not tracked:
            await self.track(request, new, old)
        _update_rules(rules, request.subresource)[0](new, old)
        rules.stamp(new, old, rfc3339(self.clock.now()))
        if await self.admission.mutate(request, Operation.UPDATE, new, old):
            _update_rules(rules, request.subresource)[0](new, old)
        if rules.generation and request.subresource != "status" and rules.generation_of(new) != rules.generation_of(old):
            metadata["generation"] = old["metadata"].get("generation", 0) + 1

    async def _validate_update(self, request: Request, new: Object, old: Frozen) -> None:
        rules = rules_of(request.resource)
        await self._aside(_judged_size(request, rules), _judge_update, request, rules, new, old)
        await self.admission.validate(request, Operation.UPDATE, new, old)

    # --- creating ----------------------------------------------------------------------------------------------------

    def _stamp(self, obj: Object, request: Request, rules: Kind) -> None:
        metadata = obj["metadata"]
        _drop_repeated_owners(metadata, request.warnings)
        for name in _SERVER_METADATA:
            metadata.pop(name, None)
        metadata["uid"] = new_uid(self._rng)
        metadata["creationTimestamp"] = rfc3339(self.clock.now())
        if request.resource.namespaced:
            metadata["namespace"] = request.namespace
        else:
            metadata.pop("namespace", None)
        if rules.generation:
            metadata["generation"] = 1

    def _generated_name(self, prefix: str) -> str:
        return prefix[:58] + "".join(self._rng.choices(_NAME_LETTERS, k=5))

    # --- the store ---------------------------------------------------------------------------------------------------

    async def _store_object(self, resource: Resource, obj: Frozen, expected: int) -> Entry:
        if resource.custom is not None:
            obj = await self.cache.of_custom(resource).to_stored(obj)
        else:
            obj = convert.to_stored(obj, resource)
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        value = encode(obj)
        _check_size(resource, obj, len(value))
        key = prefix_of(resource) + key_of(namespace, name)
        self.cache.offer(key, value, obj)
        try:
            revision = await self._write(resource, namespace, name, value, expected)
        except BaseException:
            self.cache.withdraw(key, value)
            raise
        entry = self.cache.of(resource).get(namespace, name)
        if entry is None or entry.revision != revision:  # written again meanwhile
            entry = self.cache.of(resource).entry(Stored(key, value, revision))
        if resource.custom is not None:
            self.cache.of_custom(resource).written(entry, resource)
        return await self._shown(entry, resource)

    async def _write(self, resource: Resource, namespace: str, name: str, value: bytes | None, expected: int) -> int:
        lazy = resource.durability == LAZY or namespace in resource.lazy_in
        began, failed = self.clock.monotonic(), True
        try:
            revision = await self._store.write(prefix_of(resource) + key_of(namespace, name), value, expected, lazy=lazy)
            failed = False
        except StoreFailed as error:
            raise InternalError(f"the store failed: {error}") from error
        except Conflict:
            failed = False
            raise
        finally:
            operation = "delete" if value is None else "update" if expected else "create"
            self._stored.observe(operation, resource, self.clock.monotonic() - began, failed=failed)
        await self.cache.wait(revision)
        return revision


def encode(obj: Frozen) -> bytes:
    """What the store holds: JSON that begins with kind, apiVersion and metadata, without a resourceVersion."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    rest = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion", "metadata")}
    made = orjson.dumps({"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata, **rest})
    return bytes(memoryview(made))  # it is kept: a copy has its own size, what orjson makes has 4 kB at least


def _body_size(request: Request) -> int:
    return len(request.body) if isinstance(request.body, bytes) else 0


def _judged_size(request: Request, rules: Kind) -> int:
    """The size by which it is decided where an object is judged."""
    return BIG if rules.heavy() else request.size


def _complete(request: Request, rules: Kind, obj: Object) -> None:
    """Fills in the defaults. RequestTooLarge where a big object becomes one that can't be stored: nobody need look at it then."""
    rules.default(obj)
    if request.size >= BIG:
        _check_size(request.resource, obj, len(orjson.dumps(obj)))


def _check_size(resource: Resource, obj: Frozen, size: int) -> None:
    if size > LARGEST:
        name = obj["metadata"].get("name", "")
        raise RequestTooLarge(f"{resource.kind} {name!r} would take {size} bytes: limit is {LARGEST}")


def _judge_new(request: Request, rules: Kind, obj: Object) -> None:
    """Raises what speaks against a new object, and adds what there is to warn of."""
    builtin = request.resource.group not in _EXTENSIONS and request.resource.custom is None
    errors = names.validate_metadata(obj, rules.name_rule, request.resource.namespaced, builtin=builtin)
    raise_invalid(request.resource, obj, errors + rules.validate(obj) + rules.validate_create(obj))
    request.warnings += rules.warnings(obj, None)


def _judge_update(request: Request, rules: Kind, new: Object, old: Frozen) -> None:
    """As `_judge_new`, of an update of the object or of one of its subresources."""
    custom = request.resource.custom is not None
    builtin = not custom and request.resource.group not in _EXTENSIONS
    changed = names.validate_metadata_update(new, old, builtin=builtin)
    errors = names.validate_metadata(new, "path", request.resource.namespaced, builtin=False) + changed + changed
    if builtin and not request.subresource:
        # upstream's kinds check their metadata again, and clients see each cause as often
        errors += names.validate_metadata(new, rules.name_rule, request.resource.namespaced)
    errors += _update_rules(rules, request.subresource)[1](new, old)
    if custom and errors:  # what was borne before is told also of what is refused
        request.warnings += rules.warnings(new, old)
    raise_invalid(request.resource, new, errors)
    request.warnings += rules.warnings(new, old)


def dry_run(request: Request) -> bool:
    return bool(request.dry_run)


def raise_invalid(resource: Resource, obj: Frozen, errors: Sequence[FieldError]) -> None:
    """Raises the 422 that the errors make, if there are any."""
    if errors:
        group = resource.stored_as.rpartition("/")[0] if resource.stored_as else resource.group
        kind = obj["kind"] if resource.custom is not None else resource.kind
        raise invalid_object(kind, group, obj["metadata"].get("name", ""), errors)


def _drop_repeated_owners(metadata: Object, warnings: list[str]) -> None:
    """Of owners with the same uid, the first stays; those without one are validation's to refuse."""
    owners, kept, seen, repeated = metadata.get("ownerReferences") or [], [], set(), set()
    for owner in owners:
        if (uid := owner.get("uid", "")) and uid in seen:
            repeated.add(uid)
            continue
        seen.add(uid)
        kept.append(owner)
    if not repeated:
        return
    warnings.append(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such "
        f"requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {', '.join(sorted(repeated))}"
    )
    metadata["ownerReferences"] = kept


def _update_rules(
    rules: Kind, subresource: str
) -> tuple[Callable[[Object, Frozen], None], Callable[[Frozen, Frozen], list[FieldError]]]:
    """(prepare, validate) of an update of the object, or of one of its subresources."""
    if subresource in rules.subresources:
        return rules.subresources[subresource]
    if subresource == "status":
        return rules.prepare_status or _keep_all_but_status, rules.validate_status
    return rules.prepare_update, lambda new, old: rules.validate(new) + rules.validate_update(new, old)


def _keep_all_but_status(new: Object, old: Frozen) -> None:
    status = new.get("status")
    for name in list(new):
        if name != "metadata":
            del new[name]
    new.update({name: value for name, value in old.items() if name not in ("metadata", "status")})
    if status is not None:
        new["status"] = status
