"""IP families of Services: how `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` go together (KEP-563).

All functions take the `spec` of a Service. What a cluster makes of it is decided in `init_families`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.errors import FieldError, duplicate, invalid, required, unsupported
from minik8s.api.kind import Object
from minik8s.api.kinds.addresses import both_families, family_of, valid_ip

FAMILIES = ("IPv4", "IPv6")
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
POLICIES = (PREFER, REQUIRE, SINGLE)
FIXED = "may not change once set"
NOT_HERE = "not configured on this cluster"

Spec = Mapping[str, Any]


def is_headless(spec: Spec) -> bool:
    return spec.get("clusterIPs") == ["None"]


def family_errors(spec: Spec) -> list[FieldError]:
    """What is wrong with the four fields by themselves, whatever the cluster."""
    if spec.get("type") == "ExternalName":
        return []
    ips, families, policy = spec.get("clusterIPs") or [], spec.get("ipFamilies") or [], spec.get("ipFamilyPolicy")
    errors = _singular(spec.get("clusterIP", ""), ips)
    for i, family in enumerate(families):
        errors += [] if family in FAMILIES else [unsupported(f"spec.ipFamilies[{i}]", family, FAMILIES)]
        errors += [duplicate(f"spec.ipFamilies[{i}]", family)] if family in families[:i] else []
    if policy is not None and policy not in POLICIES:
        errors.append(unsupported("spec.ipFamilyPolicy", policy, POLICIES))
    bad = _bad_ips(ips)
    errors += bad
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if bad:
        return errors
    if len(ips) > 1 and not both_families(ips):
        errors.append(invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        for i, (ip, family) in enumerate(zip(ips, families, strict=False)):
            if family in FAMILIES and family_of(ip) != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
                errors.append(invalid(f"spec.clusterIPs[{i}]", ip, detail))
    return errors


def change_errors(new: Spec, old: Spec) -> list[FieldError]:
    """What an update may not change: the first address and family, and the second unless the policy gives it up."""
    if "ExternalName" in (new.get("type"), old.get("type")):
        return []
    headless = is_headless(new), is_headless(old)
    errors: list[FieldError] = [] if all(headless) else _changed_ips(new, old)
    return errors if any(headless) else errors + _changed_families(new, old)


def init_families(spec: Object, old: Spec | None, configured: Sequence[str]) -> list[FieldError]:
    """Fills in policy and families, in place; `configured` are the cluster's families, the primary one first.

    `old` is the spec before an update, None on creation.
    """
    if spec.get("type") == "ExternalName" or (old is not None and _settled(spec, old)):
        return []
    headless_alone = spec.get("clusterIP") == "None" and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        spec["ipFamilyPolicy"] = (old or {}).get("ipFamilyPolicy") or (REQUIRE if headless_alone else SINGLE)
    errors = family_errors(spec) or _dual_errors(spec, old) + _infer(spec, configured)
    if errors:
        return errors
    families = spec.get("ipFamilies") or [configured[0]]
    other = [FAMILIES[1 - FAMILIES.index(families[0])]]
    dual = spec["ipFamilyPolicy"] != SINGLE
    if headless_alone:
        spec["ipFamilies"] = families + (other if dual and len(families) < 2 else [])
        return []
    if spec["ipFamilyPolicy"] == REQUIRE and len(configured) < 2:
        detail = "this cluster is not configured for dual-stack services"
        errors.append(invalid("spec.ipFamilyPolicy", REQUIRE, detail))
    for i, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in configured:
            errors.append(invalid(f"spec.ipFamilies[{i}]", family, NOT_HERE))
    if not errors:
        spec["ipFamilies"] = families + (other if dual and len(families) == 1 and len(configured) == 2 else [])
    return errors


def _singular(ip: str, ips: list[str]) -> list[FieldError]:
    path = "spec.clusterIPs"
    if ip and not ips:
        return [required(path)]
    if ip and ips[0] != ip:
        return [invalid(path, ips, "first value must match `clusterIP`")]
    if ips and not ip:
        return [invalid(path, ips, "must be empty when `clusterIP` is not specified")]
    return []


def _bad_ips(ips: list[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, ip in enumerate(ips):
        if i == 0 and ip == "None":
            errors += [invalid("spec.clusterIPs", ips, "'None' must be the first and only value")] if len(ips) > 1 else []
        else:
            errors += valid_ip(f"spec.clusterIPs[{i}]", ip)
    return errors


def _changed_ips(new: Spec, old: Spec) -> list[FieldError]:
    ours, theirs, path = new.get("clusterIPs") or [], old.get("clusterIPs") or [], "spec.clusterIPs"
    if len(ours) == len(theirs):
        changed = [i for i, ip in enumerate(theirs) if ip != ours[i]]
        return [invalid(f"{path}[{i}]", ours, FIXED) for i in changed]
    errors: list[FieldError] = []
    if not ours:
        errors.append(invalid(f"{path}[0]", ours, "primary clusterIP can not be unset"))
    elif theirs and ours[0] != theirs[0]:
        errors.append(invalid(f"{path}[0]", ours, FIXED))
    if len(theirs) > len(ours) == 1 and new.get("ipFamilyPolicy") != SINGLE:
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(invalid("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), detail))
    return errors


def _changed_families(new: Spec, old: Spec) -> list[FieldError]:
    ours, theirs, path = new.get("ipFamilies") or [], old.get("ipFamilies") or [], "spec.ipFamilies[0]"
    if len(ours) == len(theirs):
        return [invalid(path, ours, FIXED) for mine, its in zip(ours, theirs, strict=True) if mine != its]
    errors: list[FieldError] = []
    if ours and theirs and ours[0] != theirs[0]:
        errors.append(invalid(path, new.get("clusterIPs"), FIXED))
    if len(theirs) > len(ours) == 1 and new.get("ipFamilyPolicy") != SINGLE:
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(invalid("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), detail))
    return errors


def _settled(spec: Spec, old: Spec) -> bool:
    """Whether a PreferDualStack Service stays as it is: what the cluster can do today doesn't change it."""
    policies = spec.get("ipFamilyPolicy"), old.get("ipFamilyPolicy", PREFER)
    same = all((spec.get(key) or []) == (old.get(key) or []) for key in ("clusterIPs", "ipFamilies"))
    return same and policies == (PREFER, PREFER) and spec.get("type") == old.get("type")


def _dual_errors(spec: Object, old: Spec | None) -> list[FieldError]:
    """What doesn't fit the policy; a policy of SingleStack alone gives up the second address and family."""
    errors: list[FieldError] = []
    single = spec["ipFamilyPolicy"] == SINGLE
    for key, noun, what in (("clusterIPs", "cluster IPs", "cluster IP"), ("ipFamilies", "IP families", "IP family")):
        ours, theirs = spec.get(key) or [], (old or {}).get(key) or []
        if single and old is not None and ours == list(theirs) and len(ours) > 1:
            spec[key] = ours = ours[:1]
        elif not single and 0 < len(ours) < len(theirs):
            detail = f"must be 'SingleStack' to release the secondary {what}"
            errors.append(invalid("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], detail))
        if single and len(ours) == 2:
            detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {noun} are specified"
            errors.append(invalid("spec.ipFamilyPolicy", SINGLE, detail))
    return errors


def _infer(spec: Object, configured: Sequence[str]) -> list[FieldError]:
    """Families from addresses, where only the latter are given."""
    ips = spec.get("clusterIPs") or []
    families = list(spec.get("ipFamilies") or [])
    for i, ip in enumerate(ips):
        if ip == "None":
            break
        if i < len(families):
            continue
        if family_of(ip) not in configured:
            return [invalid(f"spec.clusterIPs[{i}]", ips, f"{family_of(ip)} is {NOT_HERE}")]
        families.append(family_of(ip))
    if families:
        spec["ipFamilies"] = families
    return []
