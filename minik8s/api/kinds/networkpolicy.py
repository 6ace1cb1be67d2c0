"""NetworkPolicies: who may talk to whom. Upstream takes them whether or not a network plugin enforces them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, workload
from minik8s.api.kinds.addresses import cidr_warnings, parse_cidr, valid_cidr
from minik8s.api.kinds.workload import spec_of
from minik8s.api.printing import age
from minik8s.api.selectors import validate_selector

DIRECTIONS = (("ingress", "from"), ("egress", "to"))
TYPES = ("Ingress", "Egress")
PROTOCOLS = ("TCP", "UDP", "SCTP")


def default(policy: Object) -> None:
    spec = policy["spec"] = policy.get("spec") or {}
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for direction, _ in DIRECTIONS:
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")


def validate(policy: Frozen) -> list[FieldError]:
    spec = spec_of(policy)
    types = spec.get("policyTypes") or []
    errors = validate_selector(spec.get("podSelector") or {}, "spec.podSelector")
    for path, rule, peers in _rules(spec):
        for i, port in enumerate(rule.get("ports") or ()):
            errors += _port(port, f"{path}.ports[{i}]")
        for i, peer in enumerate(rule.get(peers) or ()):
            errors += _peer(peer, f"{path}.{peers}[{i}]")
    if len(types) > len(TYPES):
        return [*errors, invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
    return errors + [unsupported(f"spec.policyTypes[{i}]", kind, TYPES) for i, kind in enumerate(types) if kind not in TYPES]


def _rules(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(path, rule, the key of its peers)"""
    for direction, peers in DIRECTIONS:
        for i, rule in enumerate(spec.get(direction) or ()):
            yield f"spec.{direction}[{i}]", rule, peers


def _port(entry: Mapping[str, Any], path: str) -> list[FieldError]:
    port, end, protocol, here = entry.get("port"), entry.get("endPort"), entry.get("protocol", "TCP"), f"{path}.endPort"
    errors = list(checks.one_of(protocol, f"{path}.protocol", PROTOCOLS))
    if port is None:
        return errors + ([] if end is None else [invalid(here, end, "may not be specified when `port` is not specified")])
    if isinstance(port, str):
        errors += [] if end is None else [invalid(here, end, "may not be specified when `port` is non-numeric")]
        return errors + list(checks.port(port, f"{path}.port"))
    errors += checks.port_number(port, f"{path}.port")
    if end is not None:
        errors += [invalid(here, port, "must be greater than or equal to `port`")] if end < port else []
        errors += checks.port_number(end, here)
    return errors


def _peer(peer: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("podSelector", "namespaceSelector"):
        errors += validate_selector(peer.get(key), f"{path}.{key}")
    block, selects = peer.get("ipBlock"), any(peer.get(key) is not None for key in ("podSelector", "namespaceSelector"))
    if block is not None:
        errors += _block(block, f"{path}.ipBlock")
        errors += [forbidden(path, "may not specify both ipBlock and another peer")] if selects else []
    elif not selects:
        errors.append(required(path, "must specify a peer"))
    return errors


def _block(block: Mapping[str, Any], path: str) -> list[FieldError]:
    cidr = block.get("cidr", "")
    if not cidr:
        return [required(f"{path}.cidr")]
    errors, whole = valid_cidr(f"{path}.cidr", cidr), parse_cidr(cidr)
    if whole is None:
        return errors
    for i, part in enumerate(block.get("except") or ()):
        here, parsed = f"{path}.except[{i}]", parse_cidr(part)
        errors += valid_cidr(here, part)
        if parsed is not None and not _lies_within(parsed[1], whole[1]):
            errors.append(invalid(here, part, "must be a strict subset of `cidr`"))
    return errors


def _lies_within(part: Any, whole: Any) -> bool:
    return bool(part.version == whole.version and part != whole and part.subnet_of(whole))


def warnings(policy: Frozen, old: Frozen | None) -> list[str]:
    found: list[str] = []
    for path, rule, peers in _rules(spec_of(policy)):
        for i, peer in enumerate(rule.get(peers) or ()):
            block, here = peer.get("ipBlock") or {}, f"{path}.{peers}[{i}].ipBlock"
            found += cidr_warnings(f"{here}.cidr", block.get("cidr", ""))
            for j, part in enumerate(block.get("except") or ()):
                found += cidr_warnings(f"{here}.except[{j}]", part)
    return found


def row(policy: Frozen, now: float) -> list[object]:
    return [policy["metadata"]["name"], workload.selector_text(spec_of(policy).get("podSelector")), age(policy, now)]


KIND = Kind(
    default=default,
    validate=validate,
    warnings=warnings,
    generation=True,
    columns=(NAME, Column("Pod-Selector", description="The pods that the policy is about."), AGE),
    row=row,
)
