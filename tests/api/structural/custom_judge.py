"""An offline judge for definitions and custom resources: what the golden cases send, through the hooks, without a server.

It knows POST, PUT, merge patches and GET of single objects, and passes over every other request. Differences are as `golden.py` counts
them, those in wording too.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import golden_answers
import yaml

from minik8s.api import names, schema, structural
from minik8s.api.errors import ApiError, FieldError, invalid_object
from minik8s.api.kinds.table import rules_of
from minik8s.api.patch import merge, operate
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource

GOLDEN = golden_answers.directory()
TIME, UID, NOW = "2026-01-02T03:04:05Z", "01234567-89ab-cdef-0123-456789abcdef", 1795000000.0
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
IGNORED = ("body.metadata.resourceVersion", "body.metadata.uid", "body.metadata.managedFields")
KEPT = ("creationTimestamp", "uid", "namespace", "generation")


@functools.cache
def load_cases() -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {case["case"]: case for case in yaml.load((GOLDEN / "cases" / "crds.yaml").read_text(), loader)}


@functools.cache
def load_answers() -> dict[str, Any]:
    return dict(json.loads((GOLDEN / "answers" / "crds.json").read_text()))


@functools.cache
def load_golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", GOLDEN / "golden.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Desk:
    """The shortest front desk that serves what it is told of."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.served: dict[str, Resource] = {}
        self.warnings: list[str] = []

    def resource(self, path: str) -> tuple[Resource | None, str, str, str]:
        """(resource, namespace, name, subresource) of a path."""
        parts = path.split("?", maxsplit=1)[0].removeprefix("/apis/").split("/")
        where, rest = "/".join(parts[:2]), parts[2:]
        namespace = rest[1] if rest[:1] == ["namespaces"] else ""
        rest = rest[2:] if namespace else rest
        row = (
            CUSTOMRESOURCEDEFINITIONS if path.startswith(DEFINITIONS) else self.served.get(f"{where}/{rest[0] if rest else ''}")
        )
        name, sub = [*rest[1:], "", ""][:2]
        return row, namespace, name, sub

    def conform(self, row: Resource, body: Any) -> tuple[dict[str, Any], list[str]]:
        if row.custom:
            return row.custom.conform(body)
        return schema.conform(body, row.group, row.version, row.kind)

    def create(self, row: Resource, namespace: str, body: Any, dry: bool) -> tuple[int, Any]:
        rules = rules_of(row)
        obj, self.warnings = self.conform(row, body)
        obj.setdefault("metadata", {}).update({"creationTimestamp": TIME, "uid": UID, "generation": 1})
        obj["metadata"].update({"namespace": namespace} if namespace else {})
        rules.default(obj)
        rules.prepare_create(obj)
        errors = names.validate_metadata(obj, rules.name_rule, row.namespaced, builtin=row.custom is None)
        raise_if(row, obj, errors + rules.validate(obj) + rules.validate_create(obj))
        self.warnings += rules.warnings(obj, None)
        if not dry:
            self.store(row, namespace, obj)
        return 201, obj

    def update(self, row: Resource, namespace: str, name: str, sub: str, body: Any) -> tuple[int, Any]:
        rules, old = rules_of(row), self.get(row, namespace, name)
        new, self.warnings = self.conform(row, body)
        kept = {key: value for key, value in old["metadata"].items() if key in KEPT}
        new["metadata"] = new.get("metadata", {}) | kept | {"resourceVersion": "1"}
        rules.default(new)
        if sub == "status" and rules.prepare_status:
            rules.prepare_status(new, old)
        elif sub == "status":
            new = copy.deepcopy(old) | {key: new[key] for key in ("metadata", "status") if key in new}
        else:
            rules.prepare_update(new, old)
        if not sub and rules.generation_of(new) != rules.generation_of(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        new["metadata"]["resourceVersion"] = "1"
        validate = rules.validate_status if sub else rules.validate_update
        raise_if(row, new, names.validate_metadata_update(new, old, builtin=row.custom is None) + validate(new, old))
        self.warnings += rules.warnings(new, old)
        self.store(row, namespace, new)
        return 200, new

    def get(self, row: Resource, namespace: str, name: str) -> dict[str, Any]:
        obj = copy.deepcopy(self.objects[row.path(namespace, name)])
        if row.custom:
            obj, _ = row.custom.conform(obj)
            row.custom.complete(obj)
        return obj

    def store(self, row: Resource, namespace: str, obj: dict[str, Any]) -> None:
        obj["metadata"].pop("resourceVersion", None)
        obj = copy.deepcopy(obj)
        if row is CUSTOMRESOURCEDEFINITIONS:
            accept(obj)
            prefix = f"{obj['spec']['group']}/"
            self.served = {path: served for path, served in self.served.items() if not path.startswith(prefix)}
            for served in structural.resources_of(obj):
                self.served[f"{served.group}/{served.version}/{served.plural}"] = served
        self.objects[row.path(namespace, obj["metadata"]["name"])] = obj


def accept(crd: dict[str, Any]) -> None:
    """What the controllers would do."""
    crd["status"] |= {"acceptedNames": crd["spec"]["names"], "conditions": [{"type": "Established", "status": "True"}]}


def raise_if(row: Resource, obj: dict[str, Any], errors: list[FieldError]) -> None:
    if errors:
        raise invalid_object(row.kind, row.group, obj["metadata"].get("name", ""), errors)


def answer_to(desk: Desk, step: dict[str, Any], namespace: str) -> dict[str, Any] | None:
    """The answer to one request, None where it is beyond this judge."""
    step = json.loads(json.dumps(step).replace("{ns}", namespace))
    method = next(m for m in ("get", "post", "put", "patch", "delete") if m in step)
    row, where, name, sub = desk.resource(step[method])
    beyond = (
        any(key in step for key in ("as", "headers", "raw"))
        or step.get("accept", "table") != "table"
        or sub not in ("", "status")
    )
    body = step.get("body", {})
    if row is None or beyond or "fieldValidation=" in step[method] or not isinstance(body, dict | list):
        return None
    if method in ("post", "put") and not isinstance(body.get("metadata", {}), dict):
        return None
    if method in ("post", "put") and (body.get("kind"), body.get("apiVersion")) != (row.kind, row.api_version):
        return None
    metadata = body.get("metadata", {}) if isinstance(body, dict) else {}
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name", ""), str) or "generateName" in metadata:
        return None
    if metadata.get("namespace", where) != where or (where and not row.namespaced):
        return None
    known = row.path(where, name) in desk.objects
    desk.warnings = []
    try:
        if method == "post" and not name and row.path(where, body.get("metadata", {}).get("name", "")) not in desk.objects:
            status, obj = desk.create(row, where, body, "dryRun" in step[method])
        elif method == "put" and known and "resourceVersion" in body.get("metadata", {}):
            status, obj = desk.update(row, where, name, sub, body)
        elif method == "patch" and known and step.get("type", "merge") == "merge" and isinstance(body, dict):
            status, obj = desk.update(row, where, name, sub, merge(desk.get(row, where, name), body))
        elif method == "patch" and known and step.get("type") == "json" and row is CUSTOMRESOURCEDEFINITIONS:
            status, obj = desk.update(row, where, name, sub, operate(desk.get(row, where, name), body))
        elif method == "get" and name and known and not sub and row.custom:
            status, obj = 200, desk.get(row, where, name)
        else:
            return None
    except ApiError as error:
        status, obj = error.status_code, error.to_status()
    if step.get("accept") == "table" and status == 200:
        rules = rules_of(row)
        assert rules.row
        columns = [{"name": c.name, "type": c.type, "format": c.format, "priority": c.priority} for c in rules.columns]
        obj = {"rows": [{"cells": rules.row(obj, NOW)}], "columnDefinitions": columns}
    warnings = [*desk.warnings, *([row.deprecated] if row.deprecated else [])]
    return {"status": status, "type": "application/json", "warnings": [told(text) for text in warnings], "body": obj}


def told(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'


def judge(case_name: str) -> Iterator[tuple[int, str, list[tuple[str, str]]]]:
    """(number, request, differences) for each request of a case that is within the judge's reach."""
    golden = load_golden()
    answers = load_answers()[case_name]
    desk = Desk()
    steps = [step for step in load_cases()[case_name]["do"] if "sleep" not in step]
    for i, (step, wanted) in enumerate(zip(steps, answers, strict=True)):
        method = next(m for m in golden.METHODS if m in step)
        answer = answer_to(desk, step, f"g-{case_name}")
        if answer is None:
            continue
        got = golden.normal(answer, step, {})
        if "columnDefinitions" in got["body"]:
            wanted = wanted | {"body": {key: wanted["body"].get(key) for key in ("rows", "columnDefinitions")}}
            wanted["body"]["rows"] = [{"cells": row["cells"]} for row in wanted["body"]["rows"] or []]
        ignored = (
            [*step.get("ignore", []), *IGNORED, "body.status.conditions", "body.status.acceptedNames"]
            if "CustomResourceDefinition" in str(wanted)
            else IGNORED
        )
        yield (
            i,
            f"{method.upper()} {step[method]}",
            [(path, text) for path, text in golden.differences(wanted, got) if not golden.matches(path, ignored)],
        )
