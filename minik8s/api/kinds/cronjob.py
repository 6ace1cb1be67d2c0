"""CronJobs: Jobs by the clock. The schedule's own rules stand in `api/cron.py`, those of its Jobs in `job`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from minik8s.api import cron
from minik8s.api.errors import FieldError, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, job, workload
from minik8s.api.kinds.changes import clear_status, keep_status
from minik8s.api.kinds.podtemplate import warn_of_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age, since

POLICIES = ("Allow", "Forbid", "Replace")
LONGEST_NAME = 52  # its Jobs' names are 11 characters longer
ZONE_PART = re.compile(r"[A-Za-z0-9._+-]{1,14}")


def default(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    template = spec["jobTemplate"] = spec.get("jobTemplate") or {}
    template.setdefault("metadata", {})
    template["spec"] = template.get("spec") or {}
    job.default_spec(template["spec"])
    spec.setdefault("schedule", "")
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


# --- validation ------------------------------------------------------------------------------------------------------


def validate(obj: Frozen) -> list[FieldError]:
    """All but what depends on the spec before: the schedule's format and the time zone."""
    spec = spec_of(obj)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    schedule = spec.get("schedule", "")
    errors = _format(schedule) if schedule else [required("spec.schedule")]
    errors += workload.not_negative(spec, "spec", "startingDeadlineSeconds")
    errors += checks.chosen(spec.get("concurrencyPolicy", ""), "spec.concurrencyPolicy", POLICIES)
    errors += _job_template(template, "spec.jobTemplate.spec")
    return errors + workload.not_negative(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")


def validate_create(obj: Frozen) -> list[FieldError]:
    spec, name = spec_of(obj), obj["metadata"].get("name", "")
    errors = _no_zone_in_schedule(spec.get("schedule", "")) + _zone(spec.get("timeZone"))
    if len(name) > LONGEST_NAME:
        errors.append(invalid("metadata.name", name, f"must be no more than {LONGEST_NAME} characters"))
    return errors


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """Schedules that name a zone themselves are tolerated where there was one already."""
    spec, before = spec_of(new), spec_of(old)
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    errors: list[FieldError] = []
    if "TZ" not in before.get("schedule", ""):
        errors += _no_zone_in_schedule(schedule)
    elif "TZ" in schedule and zone is not None:
        detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        errors.append(invalid("spec.schedule", schedule, detail))
    return errors + ([] if zone == before.get("timeZone") else _zone(zone))


def _format(schedule: str) -> list[FieldError]:
    try:
        cron.parse(schedule)
    except ValueError as error:
        return [invalid("spec.schedule", schedule, str(error))]
    return []


def _no_zone_in_schedule(schedule: str) -> list[FieldError]:
    detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
    return [invalid("spec.schedule", schedule, detail)] if "TZ" in schedule else []


def _zone(zone: str | None) -> list[FieldError]:
    """A name of the IANA time zone database."""
    path = "spec.timeZone"
    if zone is None:
        return []
    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    if not all(_is_zone_part(part) for part in zone.split("/")):
        return [invalid(path, zone, f"unknown time zone {zone}")]
    if zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(path, zone, detail)]
    return [] if cron.is_zone(zone) else [invalid(path, zone, f"unknown time zone {zone}")]


def _is_zone_part(part: str) -> bool:
    return part not in (".", "..") and not part.startswith("-") and bool(ZONE_PART.fullmatch(part))


def _job_template(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    """The selector of its Jobs is always made by the server."""
    errors = job.validate_job_spec(spec, path)
    if spec.get("selector") is not None:
        errors.append(invalid(f"{path}.selector", spec["selector"], "`selector` will be auto-generated"))
    if spec.get("manualSelector"):
        errors.append(unsupported(f"{path}.manualSelector", True, ("nil", "false")))
    return errors


def warnings(new: Frozen, old: Frozen | None) -> list[str]:
    spec = spec_of(new)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    before = None if old is None else (spec_of(old).get("jobTemplate") or {}).get("spec") or {}
    path = "spec.jobTemplate.spec"
    said = workload.name_warnings(new, old) + job.spec_warnings(template, path)
    if before is None or before.get("template") != template.get("template"):
        said += warn_of_pod_template(template.get("template") or {}, f"{path}.template")
    if old is not None and "TZ" in spec.get("schedule", ""):
        link = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
        said.append(f"cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see {link} for more details")
    return said


# --- printing --------------------------------------------------------------------------------------------------------


def row(obj: Frozen, now: float) -> list[object]:
    spec, status = spec_of(obj), status_of(obj)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        obj["metadata"]["name"],
        spec.get("schedule", ""),
        NONE if spec.get("timeZone") is None else spec["timeZone"],
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *workload.template_cells(template.get("template")),
        workload.selector_text(template.get("selector")),
    ]


KIND = Kind(
    default=default,
    prepare_create=clear_status,
    prepare_update=keep_status,
    validate=validate,
    validate_create=validate_create,
    validate_update=validate_update,
    warnings=warnings,
    generation=True,
    columns=(
        NAME,
        Column("Schedule", description="When its Jobs start, in Cron format."),
        Column("Timezone", description="The time zone of the schedule."),
        Column("Suspend", "boolean", description="Whether no more Jobs are to start."),
        Column("Active", "integer", description="Jobs that run now."),
        Column("Last Schedule", description="Since the last Job was to start."),
        AGE,
        workload.CONTAINERS,
        workload.IMAGES,
        workload.SELECTOR,
    ),
    row=row,
)
