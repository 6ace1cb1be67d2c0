"""The names of a cluster: `answer(question, view)` for Services and pods.

Sources: the Kubernetes DNS specification 1.1.0 (kubernetes/dns, docs/specification.md), RFC 2308 (which negative answer), RFC 1034 (a CNAME
instead of anything else). As upstream's DNS does by default, `a-b-c-d.NAMESPACE.pod` answers for any address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any

from minik8s.dns.wire import AAAA, ANY, CNAME, NS, NXDOMAIN, PTR, SOA, SRV, TXT, A, Record, Response

Object = Mapping[str, Any]
Key = tuple[str, str]
"""(namespace, name)"""

TTL = 5
_MINIMUM = 5  # seconds for which a missing name may be remembered
_VERSION = "1.1.0"
_SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(slots=True)
class View:
    """What is known of Services and EndpointSlices, fed by informers: `service_changed` and `slice_changed` are their handlers."""

    services: dict[Key, Object] = field(default_factory=dict)
    slices: dict[Key, dict[str, Object]] = field(default_factory=dict)
    _names: dict[str, dict[Key, None]] = field(default_factory=dict)  # address -> Services with it or an endpoint of it
    _namespaces: dict[str, int] = field(default_factory=dict)
    serial: int = 1

    def service_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is not None:
                key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
                self._forget(_addresses(self.services.get(key)), key)
        if new is not None:
            self._namespaces[key[0]] = self._namespaces.get(key[0], 0) + (key not in self.services)
            self.services[key] = new
            self._learn(_addresses(new), key)
        elif self.services.pop(key, None):
            self._namespaces[key[0]] -= 1
            if not self._namespaces[key[0]]:
                del self._namespaces[key[0]]
        self.serial += 1

    def slice_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is not None and (key := _service_of(obj)):
                of_service = self.slices.get(key, {})
                if before := of_service.pop(obj["metadata"]["name"], None):
                    self._forget(_endpoint_addresses([before]), key)
                    self._learn(_endpoint_addresses(of_service.values()), key)
                if not of_service:
                    self.slices.pop(key, None)
        if new is not None and (key := _service_of(new)):
            self.slices.setdefault(key, {})[new["metadata"]["name"]] = new
            self._learn(_endpoint_addresses([new]), key)
        self.serial += 1

    def of_address(self, address: str) -> Iterable[Key]:
        """The Services that have the address, or an endpoint with it."""
        return self._names.get(address, {})

    def has_namespace(self, namespace: str) -> bool:
        return namespace in self._namespaces

    def endpoints(self, key: Key) -> Iterator[tuple[Object, Object]]:
        """Ready endpoints with their slices."""
        for slice_ in self.slices.get(key, {}).values():
            if slice_["addressType"] != "FQDN":
                for endpoint in slice_.get("endpoints") or ():
                    if (endpoint.get("conditions") or {}).get("ready") is not False:
                        yield endpoint, slice_

    def _learn(self, addresses: Iterable[str], key: Key) -> None:
        for address in addresses:
            self._names.setdefault(address, {})[key] = None

    def _forget(self, addresses: Iterable[str], key: Key) -> None:
        for address in addresses:
            if keys := self._names.get(address):
                keys.pop(key, None)
                if not keys:
                    del self._names[address]


def answer(name: str, kind: int, view: View, domain: str = "cluster.local") -> Response | None:
    """None: the name isn't the cluster's, ask elsewhere. `name` in lower case, without the last dot."""
    if name.endswith((".in-addr.arpa", ".ip6.arpa")):
        return _reverse(name, kind, view, domain)
    if name == domain:
        records = [Record(name, NS, TTL, f"ns.dns.{domain}"), _soa(view, domain)]
        return _found(name, kind, records, view, domain)
    if not name.endswith(f".{domain}"):
        return None
    labels = name.removesuffix(f".{domain}").split(".")
    records_or_none = _ROOTS[labels[-1]](name, labels[:-1], view, domain) if labels[-1] in _ROOTS else None
    if records_or_none is None:
        return Response(NXDOMAIN, authority=[_soa(view, domain)])
    return _found(name, kind, records_or_none, view, domain)


def _found(name: str, kind: int, records: list[Record], view: View, domain: str) -> Response:
    """The name exists: its records of that type, or that there are none of it."""
    matching = [record for record in records if kind in (record.type, ANY)]
    if not matching:
        matching = [record for record in records if record.type == CNAME]
    if not matching:
        return Response(authority=[_soa(view, domain)])
    return Response(answers=matching, additional=_targets(matching, view, domain))


def _targets(records: Iterable[Record], view: View, domain: str) -> list[Record]:
    """A and AAAA of where SRV records lead: all of one Service, so that its endpoints are looked through once."""
    names = {str(record.data[3]): None for record in records if record.type == SRV}
    if not names:
        return []
    *_, service_name, namespace = next(iter(names)).removesuffix(f".svc.{domain}").split(".")
    key, base = (namespace, service_name), f"{service_name}.{namespace}.svc.{domain}"
    if base in names:
        return [_address(base, address) for address in _cluster_ips(view.services[key]["spec"])]
    found = dict.fromkeys((f"{hostname}.{base}", address) for address, hostname in _hosts_of(view, key))
    return [_address(name, address) for name, address in found if name in names]


# --- what is below the zone: records of a name, [] where it has none itself, None where it doesn't exist ---


def _service(name: str, labels: list[str], view: View, domain: str) -> list[Record] | None:
    """[[_PORT._PROTO | HOSTNAME].SERVICE.]NAMESPACE].svc"""
    if not labels:
        return []
    if len(labels) == 1:
        return [] if view.has_namespace(labels[0]) else None
    *before, service_name, namespace = labels
    key = (namespace, service_name)
    if (service := view.services.get(key)) is None:
        return None
    spec = service["spec"]
    base = f"{service_name}.{namespace}.svc.{domain}"
    if spec.get("type") == "ExternalName":
        return [Record(name, CNAME, TTL, spec["externalName"].rstrip(".").lower())] if not before else None
    headless = _is_headless(spec)
    if not before:
        addresses = [address for address, _ in _hosts_of(view, key)] if headless else _cluster_ips(spec)
        records = [_address(name, address) for address in dict.fromkeys(addresses)]
        ports = _headless_ports(view, key, base) if headless else _ports(spec, base)
        records += [Record(name, SRV, TTL, data) for _, _, data in ports]
        return records if records or not headless else None
    if before[-1].startswith("_"):
        offered = list(_headless_ports(view, key, base) if headless else _ports(spec, base))
        protocol = before[-1][1:]
        if len(before) == 1:
            return [] if any(one == protocol for _, one, _ in offered) else None
        if len(before) != 2 or not before[0].startswith("_"):
            return None
        wanted = (before[0][1:], protocol)
        return [Record(name, SRV, TTL, data) for port, one, data in offered if (port, one) == wanted] or None
    if len(before) != 1 or not headless:
        return None
    found = [address for address, hostname in _hosts_of(view, key) if hostname == before[0]]
    return [_address(name, address) for address in dict.fromkeys(found)] or None


def _pod(name: str, labels: list[str], view: View, domain: str) -> list[Record] | None:
    """A-B-C-D.NAMESPACE.pod"""
    if len(labels) < 2:
        return [] if not labels or view.has_namespace(labels[0]) else None
    if len(labels) > 2:
        return None
    dashed = labels[0]
    for text in (dashed.replace("-", "."), dashed.replace("-", ":")):
        try:
            return [_address(name, str(ip_address(text)))]
        except ValueError:
            continue
    return None


def _version(name: str, labels: list[str], view: View, domain: str) -> list[Record] | None:
    return [Record(name, TXT, TTL, _VERSION)] if not labels else None


_ROOTS = {"svc": _service, "pod": _pod, "dns-version": _version}


def _ports(spec: Object, base: str) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    """(port's name, protocol, SRV's data) of a Service with an address."""
    for port in spec.get("ports") or ():
        yield port.get("name") or "", port.get("protocol", "TCP").lower(), (0, 100, port["port"], base)


def _headless_ports(view: View, key: Key, base: str) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    for endpoint, slice_ in view.endpoints(key):
        for address in endpoint["addresses"]:
            target = f"{_hostname(endpoint, address)}.{base}"
            for port in slice_.get("ports") or ():
                if port.get("port"):
                    yield port.get("name") or "", port.get("protocol", "TCP").lower(), (0, 100, port["port"], target)


def _hosts_of(view: View, key: Key) -> Iterator[tuple[str, str]]:
    for endpoint, _ in view.endpoints(key):
        for address in endpoint["addresses"]:
            yield address, _hostname(endpoint, address)


def _hostname(endpoint: Object, address: str) -> str:
    return str(endpoint.get("hostname") or address.replace(".", "-").replace(":", "-"))


def _reverse(name: str, kind: int, view: View, domain: str) -> Response | None:
    address = _reversed_address(name)
    records = []
    for key in view.of_address(address):
        service = view.services.get(key)
        if service is None:
            continue
        base = f"{key[1]}.{key[0]}.svc.{domain}"
        if address in _cluster_ips(service["spec"]):
            records = [Record(name, PTR, TTL, base)]
            break
        if not _is_headless(service["spec"]):
            continue
        hostnames = [hostname for one, hostname in _hosts_of(view, key) if one == address]
        records += [Record(name, PTR, TTL, f"{hostname}.{base}") for hostname in dict.fromkeys(hostnames)]
    return _found(name, kind, records, view, domain) if records else None


def _reversed_address(name: str) -> str:
    labels = name.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa").split(".")[::-1]
    if name.endswith(".in-addr.arpa"):
        return ".".join(labels)
    digits = "".join(labels)
    return str(IPv6Address(int(digits, 16))) if len(digits) == 32 and len(labels) == 32 and _is_hex(digits) else ""


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


def _address(name: str, address: str) -> Record:
    return Record(name, AAAA if ":" in address else A, TTL, address)


def _soa(view: View, domain: str) -> Record:
    data = (f"ns.dns.{domain}", f"hostmaster.{domain}", view.serial & 0xFFFFFFFF, 7200, 1800, 86400, _MINIMUM)
    return Record(domain, SOA, TTL, data)


def _is_headless(spec: Object) -> bool:
    return spec.get("clusterIP") in ("None", "", None)


def _cluster_ips(spec: Object) -> list[str]:
    found = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in found if address not in (None, "", "None")]


def _addresses(service: Object | None) -> list[str]:
    return _cluster_ips(service["spec"]) if service else []


def _endpoint_addresses(slices: Iterable[Object]) -> Iterator[str]:
    for slice_ in slices:
        for endpoint in slice_.get("endpoints") or ():
            yield from endpoint["addresses"]


def _service_of(slice_: Object) -> Key | None:
    meta = slice_["metadata"]
    name = (meta.get("labels") or {}).get(_SERVICE_NAME)
    return (meta["namespace"], name) if name else None
