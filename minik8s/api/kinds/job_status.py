"""What the status of a Job may say, and how it may change: a Job that another controller manages can't contradict itself
(KEP-4368). Most rules hold only where what they speak of has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import workload
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.base.clock import parse_time

CONDITIONS = "status.conditions"
COUNTED = ("active", "succeeded", "failed", "ready", "terminating")


def is_true(job: Frozen, condition: str) -> bool:
    return _state(job, condition) == "True"


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = workload.not_negative(status_of(new), "status", *COUNTED)
    errors += _uncounted(new)
    errors += _finish(new, old)
    errors += _indexes(new, old)
    errors += _counts(new, old)
    return errors + list(_success(new)) + list(_history(new, old))


def count_of_indexes(text: str, completions: int) -> int:
    """How many indexes `0,2-4` names; ValueError where they are no rising numbers below `completions`."""
    total, last = 0, -1
    for start, end in _intervals(text, completions):
        if start <= last:
            raise ValueError(f"non-increasing order, previous: {last}, current: {start}")
        total, last = total + end - start + 1, end
    return total


def _intervals(text: str, completions: int) -> Iterator[tuple[int, int]]:
    for part in filter(None, text.split(",")) if not text else text.split(","):
        limits = part.split("-")
        if len(limits) > 2:
            rule = "an index interval can have at most two parts separated by '-'"
            raise ValueError(f'the fragment "{part}" violates the requirement that {rule}')
        for limit in limits:
            if not limit.isascii() or not limit.isdigit():
                raise ValueError(f'cannot convert string to integer for index: "{limit}"')
            if int(limit) >= completions:
                raise ValueError(f'too large index: "{limit}"')
        start, end = int(limits[0]), int(limits[-1])
        if len(limits) == 2 and start >= end:
            raise ValueError(f"non-increasing order, previous: {start}, current: {end}")
        yield start, end


def _state(job: Frozen, kind: str) -> str:
    found = (entry for entry in status_of(job).get("conditions") or () if entry.get("type") == kind)
    states = {str(entry.get("status", "")) for entry in found}
    return "True" if "True" in states else "False" if "False" in states else ""


def _is_finished(job: Frozen) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def _wrong(detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", CONDITIONS, f"Invalid value: {detail}")


def _changed(new: Frozen, old: Frozen, *keys: str) -> bool:
    return any((status_of(new).get(key) or None) != (status_of(old).get(key) or None) for key in keys)


def _turned(new: Frozen, old: Frozen, *conditions: str) -> bool:
    return any(is_true(new, condition) != is_true(old, condition) for condition in conditions)


def _uncounted(job: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for key in ("succeeded", "failed"):
        for i, uid in enumerate((status_of(job).get("uncountedTerminatedPods") or {}).get(key) or ()):
            path = f"status.uncountedTerminatedPods.{key}[{i}]"
            if not uid:
                errors.append(invalid(path, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(path, uid))
            seen.add(uid)
    return errors


def _finish(new: Frozen, old: Frozen) -> list[FieldError]:
    """How a Job ends: with which conditions and times, with nothing left over."""
    status, spec = status_of(new), spec_of(new)
    complete, failed, finished = is_true(new, "Complete"), is_true(new, "Failed"), _is_finished(new)
    ended = finished != _is_finished(old)
    start, end = status.get("startTime"), status.get("completionTime")
    errors: list[FieldError] = []
    if _turned(new, old, "Complete", "Failed") and complete and failed:
        errors.append(_wrong("cannot set Complete=True and Failed=true conditions"))
    if _turned(new, old, "Complete", "FailureTarget") and complete and is_true(new, "FailureTarget"):
        errors.append(_wrong("cannot set Complete=True and FailureTarget=true conditions"))
    if _turned(new, old, "Complete") or _changed(new, old, "completionTime"):
        if end and not complete:
            detail = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid("status.completionTime", end, detail))
        if complete and not end:
            errors.append(required("status.completionTime", "completionTime is required for Complete jobs"))
    if _changed(new, old, "startTime", "completionTime") and start and end and parse_time(end) < parse_time(start):
        errors.append(invalid("status.completionTime", end, "must be equal to or after `startTime`"))
    if (_turned(new, old, "Failed") or _changed(new, old, "failedIndexes")) and failed and not is_true(new, "FailureTarget"):
        errors.append(_wrong("cannot set Failed=True condition without the FailureTarget=true condition"))
    if _turned(new, old, "Complete", "SuccessCriteriaMet") and complete and not is_true(new, "SuccessCriteriaMet"):
        errors.append(_wrong("cannot set Complete=True condition without the SuccessCriteriaMet=true condition"))
    if (ended or _changed(new, old, "active")) and finished and status.get("active", 0) > 0:
        errors.append(invalid("status.active", status["active"], "active>0 is invalid for finished job"))
    never_ran = spec.get("suspend") is True and spec.get("completions") == 0
    if (ended or _changed(new, old, "startTime")) and not never_ran and finished and not start:
        errors.append(required("status.startTime", "startTime is required for finished job"))
    uncounted = status.get("uncountedTerminatedPods") or {}
    if (ended or _changed(new, old, "uncountedTerminatedPods")) and finished and any(uncounted.values()):
        shown = {"Succeeded": uncounted.get("succeeded"), "Failed": uncounted.get("failed")}
        errors.append(invalid("status.uncountedTerminatedPods", shown, "must be empty for finished job"))
    return errors


def _indexes(new: Frozen, old: Frozen) -> list[FieldError]:
    status, spec = status_of(new), spec_of(new)
    completions, per_index = spec.get("completions"), spec.get("backoffLimitPerIndex")
    completed, failed = status.get("completedIndexes", ""), status.get("failedIndexes")
    new_completed, new_failed = _changed(new, old, "completedIndexes"), _changed(new, old, "failedIndexes")
    errors: list[FieldError] = []
    if new_completed and completions is not None:
        errors += _format("completedIndexes", completed, completions)
    if new_failed and completions is not None and per_index is not None and failed is not None:
        errors += _format("failedIndexes", failed, completions)
    if new_completed and completed and spec.get("completionMode") != "Indexed":
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid("status.completedIndexes", completed, detail))
    if new_failed and per_index is None and failed is not None:
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid("status.failedIndexes", failed, detail))
    if (new_completed or new_failed) and completions is not None and failed:
        both = _members(completed, completions) & _members(failed, completions)
        if both:
            detail = f"failedIndexes and completedIndexes overlap at index: {min(both)}"
            errors.append(invalid("status.failedIndexes", failed, detail))
    return errors


def _format(key: str, text: str, completions: int) -> list[FieldError]:
    try:
        count_of_indexes(text, completions)
    except ValueError as error:
        return [invalid(f"status.{key}", text, f"error parsing {key}: {error}")]
    return []


def _members(text: str, completions: int) -> set[int]:
    """The indexes named, as far as they are valid."""
    found: set[int] = set()
    for part in text.split(","):
        try:
            found.update(i for start, end in _intervals(part, completions) for i in range(start, end + 1))
        except ValueError:
            continue  # reported where the format is checked
    return found


def _counts(new: Frozen, old: Frozen) -> list[FieldError]:
    status = status_of(new)
    terminating, ready, active = status.get("terminating") or 0, status.get("ready") or 0, status.get("active") or 0
    errors: list[FieldError] = []
    ended = _is_finished(new) != _is_finished(old)
    if (ended or _changed(new, old, "terminating")) and terminating > 0 and _is_finished(new):
        errors.append(invalid("status.terminating", terminating, "terminating>0 is invalid for finished job"))
    if _changed(new, old, "ready", "active") and ready > active:
        errors.append(invalid("status.ready", ready, "cannot set more ready pods than active"))
    return errors


def _success(job: Frozen) -> Iterator[FieldError]:
    met = is_true(job, "SuccessCriteriaMet")
    if met and is_true(job, "Failed"):
        yield _wrong("cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if met and is_true(job, "FailureTarget"):
        yield _wrong("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if spec_of(job).get("successPolicy") is not None and not met and is_true(job, "Complete"):
        yield _wrong("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")


def _history(new: Frozen, old: Frozen) -> Iterator[FieldError]:
    """What has happened can't be undone."""
    status, before, spec = status_of(new), status_of(old), spec_of(new)
    for condition in ("Failed", "Complete", "FailureTarget"):
        if is_true(old, condition) and not is_true(new, condition):
            yield _wrong(f"cannot disable the terminal {condition}=True condition")
    if status.get("failed", 0) < before.get("failed", 0):
        yield invalid("status.failed", status.get("failed", 0), "cannot decrease the failed counter")
    scales = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not scales and status.get("succeeded", 0) < before.get("succeeded", 0):
        yield invalid("status.succeeded", status.get("succeeded", 0), "cannot decrease the succeeded counter")
    end, start = status.get("completionTime"), status.get("startTime")
    if end and before.get("completionTime") and end != before["completionTime"]:
        yield invalid("status.completionTime", end, names.IMMUTABLE)
    resumes = is_true(old, "Suspended") and _state(new, "Suspended") == "False"
    if before.get("startTime") and start != before["startTime"] and not spec.get("suspend") and not resumes:
        yield invalid("status.startTime", start, f"{names.IMMUTABLE} for unsuspended job once set")
    if is_true(old, "SuccessCriteriaMet") and not is_true(new, "SuccessCriteriaMet"):
        yield _wrong("cannot disable the SuccessCriteriaMet=True condition")
    late = is_true(old, "Complete") and not is_true(old, "SuccessCriteriaMet") and is_true(new, "SuccessCriteriaMet")
    if late:
        yield _wrong("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
