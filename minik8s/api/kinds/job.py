"""Jobs: pods that run to their end. What a status may say stands in `job_status`.

A Job gets its selector and labels from its uid unless `manualSelector` is set. Sources: the Job API, KEP-3329 (pod failure
policy), KEP-3850 (backoff limit per index), KEP-3998 (success policy), KEP-4368 (managedBy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, invalid, required, too_long, too_many, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object, thawed
from minik8s.api.kinds import checks, workload
from minik8s.api.kinds.changes import immutable, keep_status
from minik8s.api.kinds.job_status import count_of_indexes, is_true, validate_status
from minik8s.api.kinds.podtemplate import default_pod_template, validate_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age, human_duration
from minik8s.api.selectors import of_object, validate_selector
from minik8s.base.clock import parse_time

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
UNLIMITED = (1 << 31) - 1
MODES = ("NonIndexed", "Indexed")
ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
INDEXED_ONLY = "requires indexed completion mode"
MANY, MANY_PARALLEL, MANY_FAILED = 100_000, 10_000, 10_000  # from so many completions on, the other two are limits

# --- defaults and preparation ----------------------------------------------------------------------------------------


def default(job: Object) -> None:
    spec = job["spec"] = job.get("spec") or {}
    default_spec(spec)
    if "parallelism" not in spec:
        spec["parallelism"] = 1
        spec.setdefault("completions", 1)
    spec.setdefault("backoffLimit", UNLIMITED if spec.get("backoffLimitPerIndex") is not None else 6)
    spec["completionMode"] = spec.get("completionMode") or "NonIndexed"
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    _copy_labels(job)


def default_spec(spec: Object) -> None:
    """The defaults that hold inside a CronJob's template too."""
    template = spec["template"] = spec.get("template") or {}
    default_pod_template(template)
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"


def _copy_labels(job: Object) -> None:
    """A Job without labels has those of its template. Bad ones are told as the template's alone."""
    metadata, labels = job.setdefault("metadata", {}), job["spec"]["template"]["metadata"].get("labels")
    if labels and not metadata.get("labels") and not names.validate_labels(labels, ""):
        metadata["labels"] = dict(labels)


def prepare_create(job: Object) -> None:
    job["status"] = {}
    spec, metadata = job["spec"], job["metadata"]
    own = (metadata.get("labels") or {}) != (spec["template"]["metadata"].get("labels") or {})
    if not spec.get("manualSelector"):
        expected = _expected_labels(job)
        spec["template"]["metadata"]["labels"] = expected | (spec["template"]["metadata"].get("labels") or {})
        selector = spec["selector"] = spec.get("selector") or {}
        selector["matchLabels"] = {UID_LABEL: metadata["uid"]} | (selector.get("matchLabels") or {})
    if not own:
        metadata.pop("labels", None)
        _copy_labels(job)


def _expected_labels(job: Frozen) -> dict[str, str]:
    uid, name = job["metadata"].get("uid", ""), job["metadata"].get("name", "")
    return {OLD_UID_LABEL: uid, OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}


# --- validation ------------------------------------------------------------------------------------------------------


def validate(job: Frozen) -> list[FieldError]:
    spec, name = spec_of(job), job["metadata"].get("name", "")
    errors = _generated(job) + _spec(spec)
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        last = f"{name}-{spec['completions'] - 1}"
        if names.dns_label(last):
            errors.append(invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {last}"))
    return errors


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """Upstream checks here once more what `validate` checks, and repeats its errors."""
    spec, before = spec_of(new), spec_of(old)
    errors = _spec(spec) + _completions(spec, before)
    errors += immutable(_ordered(spec.get("selector")), _ordered(before.get("selector")), "spec.selector") + _template(new, old)
    for key in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += immutable(spec.get(key), before.get(key), f"spec.{key}")
    return errors


def _generated(job: Frozen) -> list[FieldError]:
    """A selector that the server made must be there as it made it."""
    spec = spec_of(job)
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    labels, path = (spec.get("template") or {}).get("metadata", {}).get("labels") or {}, "spec.template.metadata.labels"
    errors: list[FieldError] = []
    for key, value in _expected_labels(job).items():
        if key not in labels:
            errors.append(required(f"{path}[{key}]", f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid(f"{path}[{key}]", dict(sorted(labels.items())), f"must be '{value}'"))
    if not validate_selector(spec["selector"], "") and not of_object(spec["selector"]).matches(_expected_labels(job)):
        errors.append(invalid("spec.selector", _ordered(spec["selector"]), "`selector` not auto-generated"))
    return errors


def _ordered(selector: Frozen | None) -> Frozen | None:
    """A selector as messages show it, its labels in their order."""
    labels = (selector or {}).get("matchLabels")
    return {**(selector or {}), "matchLabels": dict(sorted(labels.items()))} if labels else selector


def _spec(spec: Mapping[str, Any]) -> list[FieldError]:
    selector = spec.get("selector")
    errors = validate_job_spec(spec, "spec")
    wrong = [required("spec.selector")] if selector is None else validate_selector(selector, "spec.selector")
    labels = (spec.get("template") or {}).get("metadata", {}).get("labels")
    if (selector is None or not wrong) and not of_object(selector).matches(labels):
        shown = labels and dict(sorted(labels.items()))
        wrong.append(invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`"))
    return errors + wrong


def validate_job_spec(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    """A JobSpec without its selector: also that of a CronJob's template."""
    template = spec.get("template") or {}
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    errors = workload.not_negative(spec, path, *counts, "backoffLimitPerIndex", "maxFailedIndexes")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    errors += _manager(spec.get("managedBy"), f"{path}.managedBy") + _mode(spec, path)
    if spec.get("podFailurePolicy") is not None:
        errors += _failure_policy(spec, f"{path}.podFailurePolicy.rules")
    if spec.get("successPolicy") is not None:
        errors += _success_policy(spec, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    if replacement is not None:
        errors += checks.one_of(replacement, f"{path}.podReplacementPolicy", allowed)
    errors += validate_pod_template(template, f"{path}.template")
    return errors + _restart_policy(spec, (template.get("spec") or {}).get("restartPolicy", ""), path)


def _manager(manager: str | None, path: str) -> list[FieldError]:
    if manager is None:
        return []
    errors = list(checks.domain_prefixed_path(manager, path))
    return errors + ([too_long(path, 63)] if len(manager) > 63 else [])


def _mode(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    mode, completions = spec.get("completionMode"), spec.get("completions")
    failed, per_index = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    errors: list[FieldError] = []

    def at_most(key: str, limit: int, when: str = "") -> None:
        if (spec.get(key) or 0) > limit:
            errors.append(invalid(f"{path}.{key}", spec[key], f"must be less than or equal to {limit}{when}"))

    if mode is not None:
        errors += checks.one_of(mode, f"{path}.completionMode", MODES)
    if mode == "Indexed":
        if completions is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        at_most("parallelism", MANY, " when completion mode is Indexed")
        if completions is not None and (failed or 0) > completions:
            errors.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
        at_most("maxFailedIndexes", MANY)
        if (completions or 0) > MANY and per_index is not None:
            when = f" when completions are above {MANY} and used with backoff limit per index"
            if failed is None:
                errors.append(required(f"{path}.maxFailedIndexes", f"must be specified when completions is above {MANY}"))
            at_most("parallelism", MANY_PARALLEL, when)
            at_most("maxFailedIndexes", MANY_FAILED, when)
    elif mode in (None, "NonIndexed"):
        found = {"backoffLimitPerIndex": per_index, "maxFailedIndexes": failed}
        errors += [invalid(f"{path}.{key}", value, INDEXED_ONLY) for key, value in found.items() if value is not None]
    return errors


def _restart_policy(spec: Mapping[str, Any], policy: str, path: str) -> list[FieldError]:
    path = f"{path}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [unsupported(path, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _failure_policy(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    rules = spec["podFailurePolicy"].get("rules") or []
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {entry.get("name") for key in ("containers", "initContainers") for entry in pod.get(key) or ()}
    errors = [too_many(path, len(rules), 20)] if len(rules) > 20 else []
    for i, rule in enumerate(rules):
        here, action = f"{path}[{i}]", rule.get("action", "")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if not action:
            shown = " ".join(f'"{known}"' for known in ACTIONS)
            errors.append(required(f"{here}.action", f"valid values: [{shown}]"))
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            errors.append(invalid(f"{here}.action", action, "requires the backoffLimitPerIndex to be set"))
        else:
            errors += checks.one_of(action, f"{here}.action", ACTIONS)
        errors += [] if codes is None else _exit_codes(codes, f"{here}.onExitCodes", containers)
        errors += _pod_conditions(conditions, f"{here}.onPodConditions")
        if codes is not None and conditions:
            errors.append(_rule_error(here, "specifying both OnExitCodes and OnPodConditions is not supported"))
        if codes is None and not conditions:
            errors.append(_rule_error(here, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _rule_error(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", path, f"Invalid value: {detail}")


def _pod_conditions(conditions: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors = [too_many(path, len(conditions), 20)] if len(conditions) > 20 else []
    for i, pattern in enumerate(conditions):
        errors += checks.qualified_name(pattern.get("type", ""), f"{path}[{i}].type")
        errors += checks.chosen(pattern.get("status", ""), f"{path}[{i}].status", ("False", "True", "Unknown"))
    return errors


def _exit_codes(codes: Mapping[str, Any], path: str, containers: set[str]) -> list[FieldError]:
    operator, values, name = codes.get("operator", ""), codes.get("values") or [], codes.get("containerName")
    errors = list(checks.chosen(operator, f"{path}.operator", ("In", "NotIn")))
    if name is not None and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", name, detail))
    if not values:
        errors.append(invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > 255:
        errors.append(too_many(f"{path}.values", len(values), 255))
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            errors.append(invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator"))
        errors += [duplicate(f"{path}.values[{i}]", value)] if value in values[:i] else []
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    return errors


def _success_policy(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    rules, completions = spec["successPolicy"].get("rules") or [], spec.get("completions") or 0
    if spec.get("completionMode") != "Indexed":
        keys = (("SucceededIndexes", "succeededIndexes"), ("SucceededCount", "succeededCount"))
        shown = {"Rules": [{theirs: rule.get(ours) for theirs, ours in keys} for rule in rules]}
        return [invalid(path, shown, INDEXED_ONLY)]
    errors: list[FieldError] = []
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        errors.append(required(f"{path}.rules", detail))
    if len(rules) > 20:
        errors.append(too_many(f"{path}.rules", len(rules), 20))
    for i, rule in enumerate(rules):
        here, indexes, count = f"{path}.rules[{i}]", rule.get("succeededIndexes"), rule.get("succeededCount")
        if indexes is None and count is None:
            detail = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(here, detail))
        listed = 0
        if indexes is not None:
            errors += [too_long(f"{here}.succeededIndexes", 64 * 1024)] if len(indexes) > 64 * 1024 else []
            try:
                listed = count_of_indexes(indexes, completions)
            except ValueError as error:
                detail = f"error parsing succeededIndexes: {error}"
                errors.append(invalid(f"{here}.succeededIndexes", indexes, detail))
        if count is not None:
            errors += _success_count(count, completions, listed if indexes is not None else None, f"{here}.succeededCount")
    return errors


def _success_count(count: int, completions: int, listed: int | None, path: str) -> list[FieldError]:
    errors = list(checks.not_negative(count, path))
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        errors.append(invalid(path, count, detail))
    if listed is not None and count > listed:
        detail = f"must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
        errors.append(invalid(path, count, detail))
    return errors


def _completions(spec: Mapping[str, Any], before: Mapping[str, Any]) -> list[FieldError]:
    """Fixed, but for Indexed Jobs, which scale with their parallelism (KEP-3715)."""
    ours, theirs = spec.get("completions"), before.get("completions")
    if spec.get("completionMode") != "Indexed":
        return [] if ours == theirs else [invalid("spec.completions", ours, names.IMMUTABLE)]
    if ours == theirs or ours is None or ours == spec.get("parallelism"):
        return []
    return [invalid("spec.completions", ours, "can only be modified in tandem with spec.parallelism")]


def _template(new: Frozen, old: Frozen) -> list[FieldError]:
    """A template is fixed, but for where its pods go and what they ask for, while the Job is suspended and none run (KEP-2926)."""
    template, before = thawed(spec_of(new).get("template") or {}), thawed(spec_of(old).get("template") or {})
    suspended = bool(spec_of(old).get("suspend"))
    idle = not status_of(old).get("startTime") or is_true(old, "Suspended")
    if not (suspended and idle and not status_of(old).get("active")):
        return immutable(template, before, "spec.template")
    ours, theirs = template.get("spec") or {}, before.get("spec") or {}
    for pod in (ours, theirs):
        for key in ("nodeSelector", "tolerations", "schedulingGates"):
            pod.pop(key, None)
        affinity = pod.get("affinity") or {}
        affinity.pop("nodeAffinity", None)
        if not affinity:
            pod.pop("affinity", None)
        for key in ("containers", "initContainers"):
            for container in pod.get(key) or ():
                container.pop("resources", None)
    return immutable(ours, theirs, "spec.template.spec")


def warnings(job: Frozen, old: Frozen | None) -> list[str]:
    return workload.name_warnings(job, old) + spec_warnings(spec_of(job), "spec") + workload.template_warnings(job, old)


def spec_warnings(spec: Mapping[str, Any], path: str) -> list[str]:
    """Indexed Jobs of a size that strains the controller."""
    big = spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > MANY
    if not big or (spec.get("parallelism") or 0) <= MANY_PARALLEL:
        return []
    sizes = "a number of completions higher than 10^5 and a parallelism higher than 10^4"
    return [f"{path}: In Indexed Jobs with {sizes}, completedIndexes may not be tracked when many indexes fail"]


# --- printing --------------------------------------------------------------------------------------------------------


def row(job: Frozen, now: float) -> list[object]:
    spec = spec_of(job)
    return [
        job["metadata"]["name"],
        _state(job),
        _progress(job),
        _duration(job, now),
        age(job, now),
        *workload.template_cells(spec.get("template")),
        workload.selector_text(spec.get("selector")),
    ]


def _state(job: Frozen) -> str:
    for condition in ("Complete", "Failed"):
        if is_true(job, condition):
            return condition
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((state for state in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if is_true(job, state)), "Running")


def _progress(job: Frozen) -> str:
    spec, done = spec_of(job), status_of(job).get("succeeded", 0)
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(job: Frozen, now: float) -> str:
    start, end = status_of(job).get("startTime"), status_of(job).get("completionTime")
    return human_duration((parse_time(end) if end else now) - parse_time(start)) if start else ""


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=keep_status,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    orphans=True,
    orphans_warning=(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
        "propagationPolicy=Orphan to suppress this warning"
    ),
    generation=True,
    columns=(
        NAME,
        Column("Status", description="Status of the job."),
        Column("Completions", description="Pods that succeeded, of those wanted."),
        Column("Duration", description="Time required to complete the job."),
        AGE,
        workload.CONTAINERS,
        workload.IMAGES,
        workload.SELECTOR,
    ),
    row=row,
    fields={"status.successful": lambda obj: str(status_of(obj).get("succeeded", 0))},
)
