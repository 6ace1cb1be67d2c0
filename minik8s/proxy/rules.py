"""Services in, nftables rules out. Pure: a Part for each Service and each pod with hostPorts, merged to a Ruleset; `changes` is the text
of one transaction from one Ruleset to another, `whole` that of a table made anew.

The table dispatches by maps, so that a packet costs the same however many Services there are:
- `services` (address . protocol . port) and `nodeports` (protocol . port) lead a new connection to a chain of its Service's port:
  `to-...` spreads over endpoints anywhere, `in-...` is the clusterIP's where it has a policy of its own, `out-...` what comes from outside;
- `refused` and `refused-nodeports` answer for Services without endpoints, `guarded` for loadBalancerSourceRanges;
- `hairpin` are the endpoints here that may reach themselves.

Sources: "Virtual IPs and Service Proxies" (kubernetes.io), KEP-3866 (behaviour, not form), KEP-2086, KEP-1669.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.base import nft
from minik8s.proxy.endpoints import Target, Targets, affinity_seconds, external_addresses, is_proxied, service_of, targets

Object = Mapping[str, Any]

MASQUERADE = 0x4000
"""The bit of a packet's mark that asks for the node's address as its source (the same as upstream's)."""
REFUSE = "goto refuse"


@dataclass(frozen=True, slots=True)
class Site:
    """What the rules depend on besides Services. `local`: addresses that the node itself answers (its DNS): never refused or led away."""

    node: str
    cluster_cidr: str
    service_cidr: str
    local: Sequence[str] = ()

    @property
    def table(self) -> str:
        return nft.table_name("proxy", self.node)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Content of the table besides its frame: elements of its maps and sets (key to verdict, "" in sets), chains' rules, own sets."""

    elements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    udp_endpoints: frozenset[Target] = frozenset()  # of a part only: for connection tracking
    udp_addresses: frozenset[Target] = frozenset()


class _Draft:
    """A Ruleset being written. Where two claim an element, the first keeps it."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[str, str]] = {name: {} for name in MAPS}
        self.chains: dict[str, tuple[str, ...]] = {}
        self.sets: dict[str, str] = {}
        self.udp_endpoints: set[Target] = set()
        self.udp_addresses: set[Target] = set()

    def element(self, name: str, key: str, verdict: str = "") -> None:
        self.elements[name].setdefault(key, verdict)

    def done(self) -> Ruleset:
        udp = frozenset(self.udp_endpoints), frozenset(self.udp_addresses)
        return Ruleset(self.elements, self.chains, self.sets, *udp)


MAPS = {
    "services": "map services { type ipv4_addr . inet_proto . inet_service : verdict; }",
    "nodeports": "map nodeports { type inet_proto . inet_service : verdict; }",
    "refused": "map refused { type ipv4_addr . inet_proto . inet_service : verdict; }",
    "refused-nodeports": "map refused-nodeports { type inet_proto . inet_service : verdict; }",
    "guarded": "map guarded { type ipv4_addr . inet_proto . inet_service : verdict; }",
    "hairpin": "set hairpin { type ipv4_addr . ipv4_addr; }",
}


def of_service(service: Object, slices: Sequence[Object], site: Site) -> Ruleset:
    """The part of one Service; `slices` are its EndpointSlices."""
    draft = _Draft()
    if is_proxied(service) and service["spec"]["clusterIP"] not in site.local:
        for port in service["spec"].get("ports") or ():
            _port(draft, service, port, targets(port, slices, site.node), site)
    return draft.done()


def of_pod(pod: Object) -> Ruleset:
    """The part of a pod of this node: its hostPorts."""
    draft = _Draft()
    address = (pod.get("status") or {}).get("podIP") or ""
    if pod["spec"].get("hostNetwork") or "." not in address or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return draft.done()
    meta = pod["metadata"]
    for container in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]:
        for port in container.get("ports") or ():
            if not port.get("hostPort"):
                continue
            protocol, host = port.get("protocol", "TCP").lower(), port.get("hostIP") or "0.0.0.0"
            name = _name("pod", meta["namespace"], meta["name"], f"{protocol}-{port['hostPort']}-{host}")
            draft.chains[name] = (_lead(protocol, [(address, port["containerPort"])]),)
            key = f"{protocol} . {port['hostPort']}"
            if host == "0.0.0.0":
                draft.element("nodeports", key, f"goto {name}")
            elif "." in host:
                draft.element("services", f"{host} . {key}", f"goto {name}")
            draft.element("hairpin", f"{address} . {address}")
    return draft.done()


def _port(draft: _Draft, service: Object, port: Object, found: Targets, site: Site) -> None:
    spec, meta = service["spec"], service["metadata"]
    protocol = port.get("protocol", "TCP").lower()
    base = (meta["namespace"], meta["name"], port.get("name") or f"{protocol}-{port['port']}")
    key = f"{protocol} . {port['port']}"
    outside = [f"{address} . {key}" for address in external_addresses(service)]
    node_port = f"{protocol} . {port['nodePort']}" if port.get("nodePort") else ""
    cluster_key = f"{spec['clusterIP']} . {key}"
    if not found.everywhere:
        for one in [cluster_key, *outside]:
            draft.element("refused", one, REFUSE)
        if node_port:
            draft.element("refused-nodeports", node_port, REFUSE)
        return
    anywhere = _name("to", *base)
    _spread(draft, anywhere, protocol, found.everywhere, service)
    inside = anywhere
    if spec.get("internalTrafficPolicy") == "Local":
        inside = _name("in", *base)
        _spread(draft, inside, protocol, found.here, service)
    draft.element("services", cluster_key, f"goto {inside}")
    if outside or node_port:
        _open(draft, _name("out", *base), anywhere, protocol, found, service, site)
        for one in outside:
            draft.element("services", one, f"goto {_name('out', *base)}")
        if node_port:
            draft.element("nodeports", node_port, f"goto {_name('out', *base)}")
    if (ranges := _source_ranges(spec)) and outside:
        guard = _name("guard", *base)
        draft.chains[guard] = (f"ip saddr != {{ {', '.join(ranges)} }} drop",)
        for one in outside:
            draft.element("guarded", one, f"goto {guard}")
    if protocol == "udp":
        draft.udp_endpoints.update(found.everywhere)
        draft.udp_addresses.update((host, port["port"]) for host in (spec["clusterIP"], *external_addresses(service)))
    for address, _ in found.here:
        draft.element("hairpin", f"{address} . {address}")


def _open(draft: _Draft, name: str, anywhere: str, protocol: str, found: Targets, service: Object, site: Site) -> None:
    """The chain of connections from outside. With externalTrafficPolicy Local the client's address is kept, and only the cluster's own
    connections may leave the node.
    """
    if service["spec"].get("externalTrafficPolicy") != "Local":
        draft.chains[name] = (_MARK, f"goto {anywhere}")
        return
    local = _name("here", *(name.removeprefix("out-"),)) if found.here else ""
    own = (
        f"ip saddr {site.cluster_cidr} goto {anywhere}",
        f"fib saddr type local {_MARK}",
        f"fib saddr type local goto {anywhere}",
    )
    draft.chains[name] = (*own, f"goto {local}" if local else "drop")
    if local:
        _spread(draft, local, protocol, found.here, service)


_MARK = f"meta mark set meta mark or {MASQUERADE:#x}"


def _spread(draft: _Draft, name: str, protocol: str, over: Sequence[tuple[str, int]], service: Object) -> None:
    """A chain that leads a connection to one of the endpoints, by chance or to the one that its client had before."""
    seconds = affinity_seconds(service)
    if not over:
        draft.chains[name] = ("drop",)
        return
    if not seconds:
        draft.chains[name] = (_lead(protocol, over),)
        return
    known, chosen = [], []
    for number, target in enumerate(over):
        one = f"{name}-{target[0]}-{target[1]}"
        clients = f"{one}-{seconds}s"
        draft.sets[clients] = f"type ipv4_addr; flags dynamic, timeout; timeout {seconds}s; size 65535;"
        draft.chains[one] = (f"update @{clients} {{ ip saddr }}", _lead(protocol, [target]))
        known.append(f"ip saddr @{clients} goto {one}")
        chosen.append(f"{number} : goto {one}")
    draft.chains[name] = (*known, f"numgen random mod {len(over)} vmap {{ {', '.join(chosen)} }}")


def _lead(protocol: str, over: Sequence[tuple[str, int]]) -> str:
    if len(over) == 1:
        return f"meta l4proto {protocol} dnat to {over[0][0]}:{over[0][1]}"
    choices = ", ".join(f"{number} : {address} . {port}" for number, (address, port) in enumerate(over))
    return f"meta l4proto {protocol} dnat ip to numgen random mod {len(over)} map {{ {choices} }}"


def _source_ranges(spec: Object) -> list[str]:
    if spec.get("type") != "LoadBalancer":
        return []
    return [text.strip() for text in spec.get("loadBalancerSourceRanges") or () if "." in text]


def _name(kind: str, *parts: str) -> str:
    """A chain's name: readable, and short enough for the kernel (127 characters, endpoint's address included)."""
    text = f"{kind}-{'/'.join(parts)}"
    return text if len(text) <= 96 else f"{text[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


# --- from parts to text ---


def merge(parts: Iterable[Ruleset]) -> Ruleset:
    """All parts as one; where two claim an address and port, the first keeps it."""
    draft = _Draft()
    for part in parts:
        for name, elements in part.elements.items():
            into = draft.elements[name]
            for key, verdict in elements.items():
                into.setdefault(key, verdict)
        draft.chains.update(part.chains)
        draft.sets.update(part.sets)
    return draft.done()


def rules(services: Iterable[Object], slices: Iterable[Object], site: Site, pods: Iterable[Object] = ()) -> str:
    """The whole table's text, as `nft -f` takes it."""
    by_service: dict[tuple[str, str] | None, list[Object]] = {}
    for one in slices:
        by_service.setdefault(service_of(one), []).append(one)
    parts = []
    for service in services:
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        parts.append(of_service(service, by_service.get(key, ()), site))
    return whole(merge([*parts, *map(of_pod, pods)]), site)


def whole(ruleset: Ruleset, site: Site) -> str:
    """Text that makes the table anew."""
    return nft.replace(site.table, _frame(site)) + changes(Ruleset(), ruleset, site.table)


def changes(old: Ruleset, new: Ruleset, table: str) -> str:
    """Text that turns a table of `old` into one of `new`, touching only what differs; empty where nothing does."""
    return "".join(f"{line}\n" for line in _changes(old, new, f"ip {table}"))


def _changes(old: Ruleset, new: Ruleset, table: str) -> Iterator[str]:
    """In an order in which every name exists when it is used, and is used by nobody when it is deleted."""
    gone_chains = [name for name in old.chains if name not in new.chains]
    changed = [name for name, rules in new.chains.items() if old.chains.get(name) != rules]
    gone_sets = [name for name in old.sets if name not in new.sets]
    for name in MAPS:
        before, after = old.elements.get(name, {}), new.elements.get(name, {})
        for key, verdict in before.items():
            if after.get(key) != verdict:
                yield f"delete element {table} {name} {{ {key} }}"
    for name in [*gone_chains, *(name for name in changed if name in old.chains)]:
        yield f"flush chain {table} {name}"
    for name in gone_chains:
        yield f"delete chain {table} {name}"
    for name in gone_sets:
        yield f"delete set {table} {name}"
    for name, kind in new.sets.items():
        if name not in old.sets:
            yield f"add set {table} {name} {{ {kind} }}"
    for name in changed:
        if name not in old.chains:
            yield f"add chain {table} {name}"
    for name in changed:
        for rule in new.chains[name]:
            yield f"add rule {table} {name} {rule}"
    for name in MAPS:
        before, after = old.elements.get(name, {}), new.elements.get(name, {})
        for key, verdict in after.items():
            if before.get(key) != verdict:
                yield f"add element {table} {name} {{ {key}{' : ' if verdict else ''}{verdict} }}"


def _frame(site: Site) -> str:
    """What doesn't change. `th dport` of the first packet alone is looked at: connection tracking does the rest."""
    place = "ip daddr . meta l4proto . th dport"
    node_place = "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport"
    maps = "".join(f"  {text}\n" for text in MAPS.values())
    own = f"    ip daddr {{ {', '.join(site.local)} }} return\n" if site.local else ""
    return f"""{maps}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain dispatch {{
{own}    ip daddr {site.service_cidr} ip saddr != {site.cluster_cidr} {_MARK}
    {place} vmap @services
    {node_place} vmap @nodeports
  }}
  chain refusal {{
    {place} vmap @refused
    {node_place} vmap @refused-nodeports
  }}
  chain guard-prerouting {{
    type filter hook prerouting priority dstnat - 10
    ct state new {place} vmap @guarded
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    jump dispatch
  }}
  chain output {{
    type nat hook output priority -100
    jump dispatch
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    meta mark and {MASQUERADE:#x} != 0 meta mark set meta mark xor {MASQUERADE:#x} masquerade fully-random
    ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random
  }}
  chain refuse-input {{
    type filter hook input priority filter
    ct state new jump refusal
  }}
  chain refuse-forward {{
    type filter hook forward priority filter
    ct state new jump refusal
  }}
  chain refuse-output {{
    type filter hook output priority filter
    ct state new jump refusal
  }}
"""
