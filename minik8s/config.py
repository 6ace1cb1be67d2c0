"""Every option of `minik8s server` and `minik8s agent`, once: as a flag, as a key of the YAML file that `--config` names, and as an
environment variable (`MINIK8S_TOKEN`). A flag wins over the environment, that over the file, that over the default.

`config/server.yaml` and `config/agent.yaml` show them all; a test holds those true.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from minik8s.api import quantity

SERVER, AGENT = "server", "agent"
PARENT = "MINIK8S_PARENT"
"""Set by a server for the agent beside it: the process that it ends with."""
PARTS = ("cloud-controller", "scheduler", "controller-manager", "coredns", "kube-proxy", "local-storage", "metrics-server")
"""What `--disable` may name."""


REGISTRIES = "/etc/minik8s/registries.yaml"
"""Read where it is there; another file must be."""


class ConfigError(Exception):
    """An option that can't be used; the text says which and why."""


def seconds(text: object) -> float:
    """A duration as Go writes it: 5s, 1m30s, 300ms; a plain number is in seconds."""
    from minik8s.base.clock import parse_duration  # late: it brings asyncio along, which short commands do without

    shown = str(text)
    return float(shown) if re.fullmatch(r"\d+(\.\d+)?", shown) else parse_duration(shown)


def boolean(text: object) -> bool:
    if str(text).lower() in ("true", "1", "yes"):
        return True
    if str(text).lower() in ("false", "0", "no"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def number(text: object) -> int:
    if not re.fullmatch(r"\d{1,9}", str(text)):
        raise ValueError(f"{text!r} is no whole number")
    return int(str(text))


def percent(text: object) -> int:
    if number(text) > 100:
        raise ValueError(f"{text!r} is no percentage")
    return number(text)


def several(text: object) -> int:
    if number(text) < 2:
        raise ValueError(f"{text!r}: 2 at least")
    return number(text)


def size(text: object) -> str:
    try:
        if quantity.parse(str(text)).value > 0:
            return str(text)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no size such as 10Mi")


def port(text: object) -> int:
    if not 1 <= number(text) <= 65535:
        raise ValueError(f"{text!r} is no port (1 to 65535)")
    return number(text)


def address(text: object) -> str:
    return str(ipaddress.ip_address(str(text))) if text else ""


def url(text: object) -> str:
    if text and not re.fullmatch(r"https?://[^/\s]+/?", str(text)):
        raise ValueError(f"{text!r} is no URL such as https://10.0.0.1:6443")
    return str(text)


def networks(text: object) -> str:
    """One network, or one of IPv4 and one of IPv6 with a comma between."""
    return ",".join(str(ipaddress.ip_network(part.strip())) for part in str(text).split(","))


def label(text: object) -> str:
    if not re.fullmatch(r"[^=\s:]+=[^=\s:]*", str(text)):
        raise ValueError(f"{text!r} is no label (KEY=VALUE)")
    return str(text)


def claim(text: object) -> str:
    if not re.fullmatch(r"[^=]+=.*", str(text)):
        raise ValueError(f"{text!r} is no claim (KEY=VALUE)")
    return str(text)


def taint(text: object) -> str:
    if not re.fullmatch(r"[^=\s:]+(=[^=\s:]*)?:(NoSchedule|PreferNoSchedule|NoExecute)", str(text)):
        raise ValueError(f"{text!r} is no taint (KEY=VALUE:EFFECT; effects: NoSchedule, PreferNoSchedule, NoExecute)")
    return str(text)


@dataclass(frozen=True, slots=True)
class Option:
    """`parse` turns text into the value; `many` options may be given several times, or as a list or (`commas`) with commas."""

    name: str
    default: Any
    help: str
    commands: tuple[str, ...] = (SERVER,)
    parse: Any = str
    metavar: str = ""
    many: bool = False
    commas: bool = True
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return "MINIK8S_" + self.key.upper()


BOTH = (SERVER, AGENT)
OPTIONS: tuple[Option, ...] = (
    Option(
        "data-dir",
        "",
        "where state is kept (default: /var/lib/minik8s as root, else ~/.local/share/minik8s)",
        BOTH,
        metavar="DIR",
    ),
    Option("server", "", "the server to join, e.g. https://10.0.0.1:6443", (AGENT,), parse=url, metavar="URL"),
    Option(
        "token", "", "the shared secret of the cluster (default: made at first start, in DATA/token)", BOTH, metavar="TOKEN"
    ),
    Option("agent-token", "", "a secret with which only agents join (default: as --token)", metavar="TOKEN"),
    Option("bind-address", "0.0.0.0", "address to listen on", parse=address, metavar="IP"),
    Option("https-listen-port", 6443, "port to listen on", parse=port, metavar="PORT"),
    Option(
        "advertise-address",
        "",
        "address that agents and pods reach the server at (default: the node's)",
        parse=address,
        metavar="IP",
    ),
    Option("tls-san", (), "a further name or address for the server's certificate", metavar="NAME", many=True),
    Option("write-kubeconfig", "", "also write the admin's kubeconfig to FILE", metavar="FILE"),
    Option("datastore-endpoint", "", "sqlite (the default), memory, or etcd as http(s)://HOST:2379", metavar="URL"),
    Option("cluster-cidr", "10.42.0.0/16", "network that pods get addresses from", parse=networks, metavar="CIDR"),
    Option("service-cidr", "10.43.0.0/16", "network that Services get addresses from", parse=networks, metavar="CIDR"),
    Option(
        "cluster-dns", "", "address of the cluster's DNS (default: the 10th of --service-cidr)", parse=address, metavar="IP"
    ),
    Option("cluster-domain", "cluster.local", "domain of the cluster's DNS", metavar="DOMAIN"),
    Option("disable-agent", False, "start no agent beside the server", parse=boolean),
    Option("disable", (), f"a part not to run: {', '.join(PARTS)}", BOTH, metavar="NAME", many=True, choices=PARTS),
    Option("simulated-nodes", 0, "nodes that only pretend to run pods, inside the server", parse=number, metavar="N"),
    Option("event-ttl", 3600.0, "time that Events are kept for", parse=seconds, metavar="TIME"),
    Option(
        "node-monitor-grace-period",
        40.0,
        "time without a heartbeat after which a node is NotReady",
        parse=seconds,
        metavar="TIME",
    ),
    Option(
        "default-not-ready-toleration-seconds", 300, "how long pods stay on a node that is not ready", parse=number, metavar="N"
    ),
    Option(
        "default-unreachable-toleration-seconds",
        300,
        "how long pods stay on a node that is unreachable",
        parse=number,
        metavar="N",
    ),
    Option("token-auth-file", "", 'static tokens, lines of token,user,uid,"groups"', metavar="FILE"),
    Option("oidc-issuer-url", "", "an OpenID Connect issuer whose ID tokens count (https)", metavar="URL"),
    Option("oidc-client-id", "", "the audience that its tokens must be for", metavar="ID"),
    Option("oidc-username-claim", "sub", "claim that is the user's name", metavar="CLAIM"),
    Option(
        "oidc-username-prefix", "", "what is put before it; - is nothing (default: the issuer's URL and #)", metavar="PREFIX"
    ),
    Option("oidc-groups-claim", "", "claim that is the user's groups", metavar="CLAIM"),
    Option("oidc-groups-prefix", "", "what is put before each group", metavar="PREFIX"),
    Option("oidc-required-claim", (), "a claim that tokens must have, KEY=VALUE", parse=claim, metavar="CLAIM", many=True),
    Option("oidc-ca-file", "", "authority of the issuer's certificate (default: the system's)", metavar="FILE"),
    Option("oidc-signing-algs", (), "an algorithm that tokens may be signed with (default: RS256)", metavar="ALG", many=True),
    Option("authentication-config", "", "an AuthenticationConfiguration with issuers of tokens", metavar="FILE"),
    Option("admission-control-config-file", "", "an AdmissionConfiguration (of PodSecurity)", metavar="FILE"),
    Option("audit-policy-file", "", "what is written to the audit log (audit.k8s.io/v1 Policy)", metavar="FILE"),
    Option("audit-log-path", "", "the audit log; - is standard output", metavar="FILE"),
    Option("audit-log-maxsize", 100, "megabytes that the audit log may have before it is renamed", parse=number, metavar="N"),
    Option("audit-log-maxbackup", 0, "renamed audit logs that are kept, 0 for all", parse=number, metavar="N"),
    Option("audit-log-maxage", 0, "days for which renamed audit logs are kept, 0 for ever", parse=number, metavar="N"),
    Option("max-requests-inflight", 400, "reading requests that are served at a time", parse=number, metavar="N"),
    Option("max-mutating-requests-inflight", 200, "changing ones; priority levels share both", parse=number, metavar="N"),
    Option("node-name", "", "the node's name (default: the host's)", BOTH, metavar="NAME"),
    Option("node-ip", "", "the node's address (default: that of the default route)", BOTH, parse=address, metavar="IP"),
    Option("node-label", (), "a label of the node, KEY=VALUE", BOTH, parse=label, metavar="LABEL", many=True),
    Option("node-taint", (), "a taint of the node, KEY=VALUE:EFFECT", BOTH, parse=taint, metavar="TAINT", many=True),
    Option(
        "runtime",
        "auto",
        "what runs containers: auto, embedded, containerd, crio, or the path of a CRI socket",
        BOTH,
        metavar="RUNTIME",
    ),
    Option(
        "private-registry", REGISTRIES, "mirrors of registries and access to them (k3s's registries.yaml)", BOTH, metavar="FILE"
    ),
    Option(
        "image-gc-high-threshold",
        85,
        "percent of a full disk from which on unused images are removed",
        BOTH,
        parse=percent,
        metavar="N",
    ),
    Option("image-gc-low-threshold", 80, "percent down to which they are", BOTH, parse=percent, metavar="N"),
    Option(
        "container-log-max-size", "10Mi", "from which size on a container's log is rotated", BOTH, parse=size, metavar="SIZE"
    ),
    Option(
        "container-log-max-files", 5, "how many files a container's log may have, 2 at least", BOTH, parse=several, metavar="N"
    ),
    Option(
        "kubelet-arg",
        (),
        "a flag of upstream's kubelet, NAME=VALUE, such as eviction-hard=memory.available<200Mi",
        BOTH,
        metavar="ARG",
        many=True,
        commas=False,
    ),
    Option("log-level", "info", "debug, info, warning or error", BOTH, choices=("debug", "info", "warning", "error")),
    Option("log-format", "text", "text or json", BOTH, choices=("text", "json")),
)


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The flags of a command; what is not given stays None, for `load`."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with these options, keys without the dashes")
    for option in options_of(command):
        flag = f"--{option.name}"
        if option.parse is boolean:
            parser.add_argument(flag, dest=option.key, action="store_const", const=True, help=option.help)
        elif option.many:
            parser.add_argument(flag, dest=option.key, action="append", metavar=option.metavar, help=option.help)
        else:
            shown = f" (default: {_shown(option)})" if option.default not in ("", 0) and "default" not in option.help else ""
            parser.add_argument(flag, dest=option.key, metavar=option.metavar or option.name.upper(), help=option.help + shown)


def options_of(command: str) -> Sequence[Option]:
    return [option for option in OPTIONS if command in option.commands]


def load(command: str, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> SimpleNamespace:
    """The command's options as attributes (`data_dir`, `node_label`, ...). ConfigError for what can't be used."""
    file = arguments.config or environment.get("MINIK8S_CONFIG", "")
    written = _read(Path(file), command) if file else {}
    found = SimpleNamespace()
    for option in options_of(command):
        given = getattr(arguments, option.key)
        source = f"--{option.name}"
        if given is None and environment.get(option.variable):
            given, source = environment[option.variable], option.variable
        if given is None and written.get(option.name) is not None:
            given, source = written[option.name], f"{option.name} in {file}"
        setattr(found, option.key, option.default if given is None else _value(option, given, source))
    if not found.data_dir:
        found.data_dir = default_data_dir()
    found.data_dir = Path(found.data_dir).absolute()
    if found.kubelet_arg:
        _check_kubelet(found.kubelet_arg)
    return found


def _check_kubelet(arguments: Sequence[str]) -> None:
    """All of them together: some need others."""
    from minik8s.kubelet import settings  # late: it brings asyncio along, which short commands do without

    try:
        settings.parse(arguments)
    except ValueError as error:
        raise ConfigError(f"--kubelet-arg: {error}") from None


def default_data_dir() -> str:
    """Where state is kept unless told otherwise."""
    return "/var/lib/minik8s" if os.geteuid() == 0 else str(Path.home() / ".local/share/minik8s")


def _read(file: Path, command: str) -> Mapping[str, Any]:
    import yaml

    try:
        written = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(written, dict):
        raise ConfigError(f"{file} must hold keys and values")
    known = {option.name for option in options_of(command)}
    if unknown := sorted(str(key) for key in written if key not in known):
        import difflib  # late: a server that starts has no use for it

        near = difflib.get_close_matches(unknown[0], known, 1)
        raise ConfigError(f"{file}: unknown option {unknown[0]!r}" + (f", meant is perhaps {near[0]!r}" if near else ""))
    return written


def _value(option: Option, given: Any, source: str) -> Any:
    if isinstance(given, dict) or (isinstance(given, list) and not option.many):
        raise ConfigError(f"{source}: one value is wanted")
    texts = given if isinstance(given, list) else [given]
    splits = option.many and option.commas
    parts = [part.strip() for text in texts for part in str(text).split(",")] if splits else texts
    try:
        values = tuple(option.parse(part) for part in parts if part != "" or not option.many)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    for value in values:
        if option.choices and value not in option.choices:
            raise ConfigError(f"{source}: {value!r} is none of {', '.join(option.choices)}")
    return values if option.many else values[0]


def reference(command: str) -> str:
    """`config/COMMAND.yaml`: every option with its default."""
    lines = [
        f"# Every option of `minik8s {command}` with its default, for `minik8s {command} --config FILE`.",
        "# A flag (--log-level debug) or an environment variable (MINIK8S_LOG_LEVEL=debug) wins over what stands here.",
    ]
    for option in options_of(command):
        several = " (a list)" if option.many else ""
        lines += ["", f"# {option.help}{several}", f"{option.name}: {_shown(option)}"]
    return "\n".join(lines) + "\n"


def _shown(option: Option) -> str:
    if option.many:
        return "[]"
    if option.parse is seconds:
        return f"{option.default:g}s"
    return str(option.default).lower() if option.parse is boolean else str(option.default) or '""'


if __name__ == "__main__":
    print(reference(sys.argv[1]), end="")
