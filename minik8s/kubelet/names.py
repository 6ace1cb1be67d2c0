"""What a pod calls itself and how it finds others: host name, /etc/hosts, resolv.conf. Pure: the host's own files are handed in.

Sources: "DNS for Services and Pods", v1.PodDNSConfig; the kubelet's dns.go and kubelet_pods.go; golden/node/network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minik8s.kubelet.pod import Pod, is_host_network, key
from minik8s.runtime.base import Dns

MAX_HOSTNAME = 63
MAX_FQDN = 64  # Linux
MAX_SERVERS, MAX_SEARCHES, MAX_SEARCH_CHARS = 3, 32, 2048

HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
HOSTS_OF_HOST = "# Kubernetes-managed hosts file (host network).\n"


def host_and_domain(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """The pod's host name and the domain it is in (empty without `subdomain`)."""
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return spec["hostnameOverride"], ""
    namespace, name = key(pod)
    host = spec.get("hostname") or name[:MAX_HOSTNAME].rstrip("-.")
    subdomain = spec.get("subdomain")
    return host, f"{subdomain}.{namespace}.svc.{cluster_domain}" if subdomain else ""


def hostname(pod: Pod, cluster_domain: str) -> str:
    """What `hostname` says in the pod. ValueError where the full name is asked for and too long for Linux."""
    host, domain = host_and_domain(pod, cluster_domain)
    if not domain or not pod["spec"].get("setHostnameAsFQDN"):
        return host
    full = f"{host}.{domain}"
    if len(full) > MAX_FQDN:
        raise ValueError(
            "failed to construct FQDN from pod hostname and cluster domain, "
            f"FQDN {full} is too long ({MAX_FQDN} characters is the max, {len(full)} characters requested)"
        )
    return full


def hosts(pod: Pod, ips: Sequence[str], cluster_domain: str, of_host: str) -> str:
    """The text of the pod's /etc/hosts; `of_host` is that of the node's, for pods in its network."""
    if is_host_network(pod):
        text = HOSTS_OF_HOST + of_host
    else:
        host, domain = host_and_domain(pod, cluster_domain)
        names = f"{host}.{domain}\t{host}" if domain else host
        text = HOSTS + "".join(f"{ip}\t{names}\n" for ip in ips)
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join("\t".join((a["ip"], *(a.get("hostnames") or ()))) + "\n" for a in aliases)
    return text


def resolver(pod: Pod, of_host: Dns, cluster_dns: Sequence[str], cluster_domain: str) -> Dns:
    """The pod's resolv.conf by its dnsPolicy and dnsConfig."""
    policy = pod["spec"].get("dnsPolicy", "ClusterFirst")
    in_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not is_host_network(pod))
    if policy == "None":
        base = Dns()
    elif in_cluster and cluster_dns:
        domains = (f"{key(pod)[0]}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
        base = Dns(cluster_dns, (*domains, *of_host.searches), ("ndots:5",))
    else:
        base = of_host
    return _limited(_merged(base, pod["spec"].get("dnsConfig") or {}))


def parse_resolv_conf(text: str) -> Dns:
    """What a resolv.conf says."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split("#", 1)[0].split(";", 1)[0].split() or [""]
        match word:
            case "nameserver":
                servers += rest[:1]
            case "search" | "domain":
                searches = rest
            case "options":
                options = rest
    return Dns(servers, [s for s in searches if s != "."], options)


def _merged(base: Dns, config: dict[str, object]) -> Dns:
    extra = config.get("options")
    own = {str(o["name"]): o.get("value") for o in extra} if isinstance(extra, list) else {}
    options = {text.partition(":")[0]: text for text in base.options}
    options |= {name: f"{name}:{value}" if value else name for name, value in own.items()}
    return Dns(
        _unique(base.servers, config.get("nameservers")),
        _unique(base.searches, config.get("searches")),
        tuple(options.values()),
    )


def _unique(base: Iterable[str], more: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*base, *(more if isinstance(more, list) else ()))))


def _limited(dns: Dns) -> Dns:
    searches: list[str] = []
    for domain in dns.searches[:MAX_SEARCHES]:
        if len(" ".join((*searches, domain))) > MAX_SEARCH_CHARS:
            break
        searches.append(domain)
    return Dns(dns.servers[:MAX_SERVERS], searches, dns.options)
