"""An offline judge: what the golden cases send, through conform, default, prepare and validate, without a server.

It keeps objects in a dict, knows POST, PUT, merge patches, GET and tables of single objects, and passes over every other
request (and over what came of it). Differences are as `golden.py` counts them: wording doesn't.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import golden_answers
import yaml

from minik8s.api import convert, names, schema
from minik8s.api.errors import ApiError, Invalid, invalid_object
from minik8s.api.kinds import service_allocation
from minik8s.api.kinds.table import rules_of
from minik8s.api.resources import BY_PATH, CREATE_ONLY, SERVICES, Resource

GOLDEN = golden_answers.directory()
TIME = "2026-01-02T03:04:05Z"
UID = "01234567-89ab-cdef-0123-456789abcdef"
NOW = 1795000000.0
PROTECTED = ("PersistentVolume", "PersistentVolumeClaim", "VolumeAttributesClass")  # admission gives them finalizers
ADMITTED = {"node.kubernetes.io/not-ready"}  # taints that admission adds to Nodes
IGNORED = ("body.metadata.resourceVersion", "body.metadata.uid", "body.metadata.annotations.node.alpha.kubernetes.io/ttl")
PATH = re.compile(r"/api(?:s/(?P<group>[^/]+))?/(?P<version>v[^/]+)(?:/namespaces/(?P<ns>[^/]+)(?=/))?/(?P<rest>[^?]+)$")


@functools.cache
def load_cases(stem: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (GOLDEN / "cases" / f"{stem}.yaml").read_text()
    return {case["case"]: case for case in yaml.load(text, loader)}


@functools.cache
def load_answers(stem: str) -> dict[str, Any]:
    return dict(json.loads((GOLDEN / "answers" / f"{stem}.json").read_text()))


@functools.cache
def load_golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", GOLDEN / "golden.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pool:
    """The addresses and ports of upstream's cluster."""

    families = ("IPv4",)

    def __init__(self) -> None:
        self.addresses = {"10.96.0.1"}
        self.ports: set[int] = set()

    def take_address(self, family: str, wanted: str) -> str:
        if wanted and (not wanted.startswith("10.96.") or wanted in ("10.96.0.0", "10.96.255.255")):
            raise service_allocation.Unavailable("the provided network does not match the current range")
        if wanted in self.addresses:
            raise service_allocation.Unavailable("provided IP is already allocated")
        address = wanted or next(a for i in range(1, 255) if (a := f"10.96.1.{i}") not in self.addresses)
        self.addresses.add(address)
        return address

    def take_port(self, wanted: int) -> int:
        if wanted and not 30000 <= wanted <= 32767:
            limits = "The range of valid ports is 30000-32767"
            raise service_allocation.Unavailable(f"provided port is not in the valid range. {limits}")
        if wanted in self.ports:
            raise service_allocation.Unavailable("provided port is already allocated")
        port = wanted or next(p for p in range(31000, 32000) if p not in self.ports)
        self.ports.add(port)
        return port

    def give_back(self, held: service_allocation.Held) -> None:
        self.addresses -= held.addresses
        self.ports -= held.ports


class Desk:
    """The shortest front desk that calls the hooks in their order."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.pool = Pool()

    def key(self, resource: Resource, namespace: str, name: str) -> tuple[str, str, str, str]:
        return group_of(resource), resource.plural, namespace, name

    def create(self, resource: Resource, namespace: str, body: Any) -> tuple[int, dict[str, Any], list[str]]:
        rules = rules_of(resource)
        obj, _ = schema.conform(body, resource.group, resource.version, resource.kind)
        if resource.verbs == CREATE_ONLY:
            return self.review(resource, namespace, obj)
        metadata = obj.setdefault("metadata", {})
        metadata.update({"creationTimestamp": TIME, "uid": UID} | ({"namespace": namespace} if namespace else {}))
        if rules.generation:
            metadata["generation"] = 1
        rules.default(obj)
        rules.prepare_create(obj)
        errors = self.allocate(resource, obj, None)
        errors = errors or names.validate_metadata(obj, rules.name_rule, resource.namespaced)
        if not errors or resource is not SERVICES:
            errors = errors + rules.validate(obj) + rules.validate_create(obj)
        self.raise_if(resource, obj, errors)
        self.store(resource, namespace, obj)
        return 201, dict(convert.to_served(obj, resource)), rules.warnings(obj, None)

    def review(self, resource: Resource, namespace: str, obj: dict[str, Any]) -> tuple[int, dict[str, Any], list[str]]:
        """Their errors name no kind (golden/notes.md)."""
        if namespace:
            obj["metadata"]["namespace"] = namespace
        errors = rules_of(resource).validate(obj)
        if errors:
            raise invalid_object("", resource.group, "", errors)
        raise NotImplementedError

    def update(self, resource: Resource, namespace: str, name: str, sub: str, body: Any) -> tuple[int, Any, list[str]]:
        rules, old = rules_of(resource), self.get(resource, namespace, name)
        new, _ = schema.conform(body, resource.group, resource.version, resource.kind)
        kept = {k: v for k, v in old["metadata"].items() if k in ("creationTimestamp", "uid", "namespace", "generation")}
        new["metadata"].update(kept | {"resourceVersion": "1"})
        rules.default(new)
        if sub in rules.subresources:
            prepare, validate = rules.subresources[sub]
        elif sub == "status":
            prepare, validate = rules.prepare_status or keep_all_but_status, rules.validate_status
        else:
            prepare, validate = rules.prepare_update, lambda new, old: rules.validate(new) + rules.validate_update(new, old)
        prepare(new, old)
        rules.stamp(new, old, TIME)
        if rules.generation and not sub and rules.generation_of(new) != rules.generation_of(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        errors = [] if sub else self.allocate(resource, new, old)
        errors = errors or names.validate_metadata_update(new, old) + validate(new, old)
        self.raise_if(resource, new, errors)
        del new["metadata"]["resourceVersion"]
        self.store(resource, namespace, new)
        return 200, dict(convert.to_served(new, resource)), rules.warnings(new, old)

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        obj = self.objects[self.key(resource, namespace, name)]
        return dict(convert.to_served(obj, resource))

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        gone = self.objects.pop(self.key(resource, namespace, name), None)
        if gone and resource is SERVICES:
            self.pool.give_back(service_allocation.held(gone))

    def store(self, resource: Resource, namespace: str, obj: dict[str, Any]) -> None:
        stored = convert.to_stored(obj, resource)
        self.objects[self.key(resource, namespace, obj["metadata"]["name"])] = copy.deepcopy(stored)

    def allocate(self, resource: Resource, new: dict[str, Any], old: dict[str, Any] | None) -> list[Any]:
        if resource is not SERVICES:
            return []
        before = copy.deepcopy(self.pool)
        errors = service_allocation.allocate(new, old, self.pool)
        if errors or rules_of(resource).validate(new):
            self.pool = before
        return errors

    @staticmethod
    def raise_if(resource: Resource, obj: dict[str, Any], errors: list[Any]) -> None:
        if errors:
            raise invalid_object(resource.kind, group_of(resource), obj["metadata"].get("name", ""), errors)


def keep_all_but_status(new: dict[str, Any], old: dict[str, Any]) -> None:
    status, metadata = new.get("status"), new["metadata"]
    new.clear()
    new.update(copy.deepcopy(old) | {"metadata": metadata} | ({} if status is None else {"status": status}))


def group_of(resource: Resource) -> str:
    return resource.stored_as.partition("/")[0] if resource.stored_as else resource.group


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def answer_to(desk: Desk, step: dict[str, Any], namespace: str) -> dict[str, Any] | None:
    """The answer to one request, None where it is beyond this judge."""
    method = next(m for m in ("get", "post", "put", "patch", "delete") if m in step)
    text = re.sub(r"\{ns\}", namespace, json.dumps(step))
    step = json.loads(text)
    match = PATH.match(step[method])
    elsewhere = ("as", "headers", "until", "raw")  # identities, what controllers do, decoding
    if not match or any(key in step for key in elsewhere) or step.get("accept", "table") != "table":
        return None
    parts = match["rest"].split("/")
    resource = BY_PATH.get((match["group"] or "", match["version"], parts[0]))
    name, sub = [*parts, "", ""][1:3]
    if (
        resource is None
        or not isinstance(step.get("body", {}), dict)
        or (sub and sub not in ("status", "approval", "finalize"))
    ):
        return None
    if method == "delete" and name:
        desk.delete(resource, match["ns"] or "", name)
        return None
    where, known = match["ns"] or "", None
    body = step.get("body")
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **body} if body and method in ("post", "put") else body
    if method in ("get", "put", "patch"):
        known = desk.objects.get(desk.key(resource, where, name))
        if known is None:
            return None
    if method == "post" and (name or desk.objects.get(desk.key(resource, where, body.get("metadata", {}).get("name", "")))):
        return None
    metadata = (body or {}).get("metadata", {})
    if method == "put" and resource.needs_version:
        return None
    if "generateName" in metadata or "resourceVersion" in metadata or metadata.get("namespace", where) != where:
        return None
    if body and method != "patch" and (body["kind"] != resource.kind or body["apiVersion"] != resource.api_version):
        return None
    warnings: list[str] = []
    try:
        if method == "post":
            status, obj, warnings = desk.create(resource, where, body)
        elif method == "put" and name == body.get("metadata", {}).get("name"):
            status, obj, warnings = desk.update(resource, where, name, sub, body)
        elif method == "patch" and step.get("type", "merge") == "merge" and "metadata" not in body:
            status, obj, warnings = desk.update(resource, where, name, sub, merged(desk.get(resource, where, name), body))
        elif method == "get" and name and not sub:
            status, obj = 200, desk.get(resource, where, name)
        else:
            return None
    except NotImplementedError:
        return None
    except ApiError as error:
        if not isinstance(error, Invalid):
            return None
        status, obj = error.status_code, error.to_status()
    if step.get("accept") == "table" and status == 200:
        rules = rules_of(resource)
        rows = [{"cells": rules.row(obj, NOW) if rules.row else [name, "0s"]}]
        obj = {"rows": rows, "columnDefinitions": [column(c) for c in rules.columns]}
    warnings += [resource.deprecated] if resource.deprecated else []
    return {"status": status, "type": "application/json", "warnings": [f'299 - "{w}"' for w in warnings], "body": obj}


def column(one: Any) -> dict[str, Any]:
    return {"name": one.name, "type": one.type, "format": one.format, "priority": one.priority}


def without_admission(wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted["body"].get("kind") in PROTECTED:
        metadata = wanted["body"]["metadata"]
        kept = [name for name in metadata.get("finalizers") or () if not name.startswith("kubernetes.io/")]
        rest = {key: value for key, value in metadata.items() if key != "finalizers"}
        return wanted | {"body": wanted["body"] | {"metadata": rest | ({"finalizers": kept} if kept else {})}}
    if wanted["body"].get("kind") != "Node" or not wanted["body"]["spec"].get("taints"):
        return wanted
    spec = wanted["body"]["spec"]
    taints = [taint for taint in spec["taints"] if taint["key"] not in ADMITTED]
    return wanted | {"body": wanted["body"] | {"spec": spec | {"taints": taints}}}


def judge(stem: str, case_name: str) -> Iterator[tuple[int, str, list[tuple[str, str]]]]:
    """(number, request, differences) for each request of a case that is within the judge's reach."""
    golden = load_golden()
    cases, answers = load_cases(stem), load_answers(stem)[case_name]
    desk, lost = Desk(), set()
    for i, (step, wanted) in enumerate(zip([s for s in cases[case_name]["do"] if "sleep" not in s], answers, strict=True)):
        method = next(m for m in golden.METHODS if m in step)
        target = step[method].split("?")[0]
        answer = None if target in lost else answer_to(desk, step, f"g-{case_name}")
        if answer is None:
            if method != "get" and wanted["status"] < 300:
                lost |= {target, target.removesuffix("/status").removesuffix("/approval")}
            continue
        got = golden.normal(answer, step, {})
        wanted = without_admission(wanted)
        if "columnDefinitions" in got["body"]:
            wanted = wanted | {"body": {key: wanted["body"].get(key) for key in ("rows", "columnDefinitions")}}
            wanted["body"]["rows"] = [{"cells": row["cells"]} for row in wanted["body"]["rows"] or []]
        ignored = [*step.get("ignore", []), *IGNORED]
        found = [(p, d) for p, d in golden.differences(wanted, got) if not golden.matches(p, ignored)]
        yield i, f"{method.upper()} {step[method]}", [(p, d) for p, d in found if not golden.is_wording(p, d)]
