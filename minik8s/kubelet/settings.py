"""What `--kubelet-arg` can set: the kubelet's own flags, by upstream's names, those that something here acts upon.

`parse` turns `NAME=VALUE` texts into Settings; ValueError says in a line what is wrong. Source: kubelet's command-line reference;
k3s's `--kubelet-arg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.base.clock import parse_duration
from minik8s.kubelet import sysctls, thresholds
from minik8s.kubelet.thresholds import Threshold

Amounts = Mapping[str, Quantity]
RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. What is None is left to the agent's own options."""

    thresholds: tuple[Threshold, ...] = thresholds.with_allocatable(thresholds.parse(thresholds.DEFAULT_HARD))
    pressure_transition: float = 300.0
    max_pod_grace: int = 0  # of pods that soft thresholds evict
    max_pods: int = 110
    pod_max_pids: int = 0
    system_reserved: Amounts = field(default_factory=dict)
    kube_reserved: Amounts = field(default_factory=dict)
    enforce: bool = True  # the pods' cgroup is limited to what is not reserved
    image_gc_high: int | None = None
    image_gc_low: int | None = None
    log_max_size: str | None = None
    log_max_files: int | None = None
    root_dir: Path | None = None
    manifests: Path | None = None
    unsafe_sysctls: tuple[str, ...] = ()  # that pods may set besides the safe ones
    seccomp_default: bool = False  # containers that name no profile run under the runtime's

    def enforced(self, capacity: Amounts) -> dict[str, Quantity]:
        """What all pods together may have: all that is not reserved, where that is enforced."""
        if not self.enforce:
            return dict(capacity)
        return self._unreserved(capacity)

    def _unreserved(self, capacity: Amounts) -> dict[str, Quantity]:
        return {name: _less(amount, self._reserved(name)) for name, amount in capacity.items()}

    def allocatable(self, capacity: Amounts) -> dict[str, Quantity]:
        """What pods are promised: not what hard eviction thresholds keep free either."""
        found = self._unreserved(capacity)
        for name, signal in (("memory", "memory.available"), ("ephemeral-storage", "nodefs.available")):
            if name in found:
                kept = thresholds.reserved(self.thresholds, signal, capacity[name].value)
                found[name] = _less(found[name], quantity.of(kept))
        return found

    def _reserved(self, name: str) -> Quantity:
        return self.system_reserved.get(name, quantity.ZERO) + self.kube_reserved.get(name, quantity.ZERO)


def parse(arguments: Iterable[str]) -> Settings:
    """The settings; of an argument that is given twice, the last counts."""
    given: dict[str, str] = {}
    for text in arguments:
        name, _, value = text.removeprefix("--").partition("=")
        if name not in _FLAGS and name not in _EVICTION:
            raise ValueError(f"the kubelet knows no {name!r} here (it knows {', '.join(sorted((*_FLAGS, *_EVICTION)))})")
        given[name] = value
    found: dict[str, Any] = {}
    for name, (key, read) in _FLAGS.items():
        if name in given:
            found[key] = _read(name, read, given[name])
    texts = [given.get(name, default) for name, default in _EVICTION.items()]
    limits = thresholds.parse(*texts)
    settings = replace(Settings(), **found)
    return replace(settings, thresholds=thresholds.with_allocatable(limits) if settings.enforce else limits)


def _read(name: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _positive(text: str) -> int:
    if (number := _number(text)) < 1:
        raise ValueError(f"{text!r}: 1 at least")
    return number


def _percent(text: str) -> int:
    if (number := _number(text)) > 100:
        raise ValueError(f"{text!r} is no percentage")
    return number


def _limit(text: str) -> int:
    """-1 is none."""
    return 0 if text == "-1" else _number(text)


def _size(text: str) -> str:
    if quantity.parse(text).value <= 0:
        raise ValueError(f"{text!r} is no size such as 10Mi")
    return text


def _files(text: str) -> int:
    if (number := _number(text)) < 2:
        raise ValueError(f"{text!r}: 2 at least")
    return number


def _amounts(text: str) -> Amounts:
    found = {name: quantity.parse(amount) for name, amount in thresholds.pairs(text)}
    for name, amount in found.items():
        if name not in RESERVABLE:
            raise ValueError(f"cannot reserve {name!r} resource")
        if amount < 0:
            raise ValueError(f"resource quantity for {name!r} cannot be negative: {amount}")
    return found


def _enforced(text: str) -> bool:
    wanted = set(filter(None, text.split(",")))
    if not wanted <= {"pods", "none"}:
        raise ValueError(f"{text!r}: only pods and none are known here")
    return "pods" in wanted


def _sysctls(text: str) -> tuple[str, ...]:
    return tuple(sysctls.pattern(part.strip()) for part in text.split(",") if part.strip())


def _boolean(text: str) -> bool:
    """As Go reads flags: one without a value is switched on."""
    if text not in ("", "true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text != "false"


def _directory(text: str) -> Path:
    return Path(text).absolute()


_EVICTION = {
    "eviction-hard": thresholds.DEFAULT_HARD,
    "eviction-soft": "",
    "eviction-soft-grace-period": "",
    "eviction-minimum-reclaim": "",
}
"""Those that make the thresholds, with their defaults, in the order of `thresholds.parse`."""
_FLAGS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "eviction-pressure-transition-period": ("pressure_transition", parse_duration),
    "eviction-max-pod-grace-period": ("max_pod_grace", _number),
    "max-pods": ("max_pods", _positive),
    "pod-max-pids": ("pod_max_pids", _limit),
    "system-reserved": ("system_reserved", _amounts),
    "kube-reserved": ("kube_reserved", _amounts),
    "enforce-node-allocatable": ("enforce", _enforced),
    "image-gc-high-threshold": ("image_gc_high", _percent),
    "image-gc-low-threshold": ("image_gc_low", _percent),
    "container-log-max-size": ("log_max_size", _size),
    "container-log-max-files": ("log_max_files", _files),
    "allowed-unsafe-sysctls": ("unsafe_sysctls", _sysctls),
    "seccomp-default": ("seccomp_default", _boolean),
    "pod-manifest-path": ("manifests", _directory),
    "root-dir": ("root_dir", _directory),
}


def _less(amount: Quantity, taken: Quantity) -> Quantity:
    left = amount - taken
    return left if left > 0 else Quantity(0, amount.format)
