"""Where a kubelet keeps what on disk. Paths only; who writes makes them.

ROOT/pods/UID/volumes/kubernetes.io~KIND/NAME  what is mounted into containers
ROOT/pods/UID/containers/NAME/N.msg            the termination message of its run N
ROOT/pods/UID/etc-hosts
ROOT/plugins, ROOT/plugins_registry            CSI drivers: their sockets, what they staged
ROOT/pulled-images.json                        who may use which image
ROOT/seccomp/...                               profiles that `localhostProfile` names (people put them there)
STORAGE/pvc-UID_NAMESPACE_CLAIM                a volume of the built-in provisioner
LOGS/NAMESPACE_NAME_UID/CONTAINER/N.log

The names below ROOT are upstream's: programs that get /var/lib/kubelet into their pods (CSI drivers, backup tools) know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minik8s.kubelet.pod import Pod, key, uid

PULLED = "pulled-images.json"
_KINDS = {"emptyDir": "empty-dir", "configMap": "configmap", "downwardAPI": "downward-api"}


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path
    logs: Path
    storage: Path
    """What the built-in provisioner keeps; it outlives pods."""

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def pulled(self) -> Path:
        return self.root / PULLED

    @property
    def seccomp(self) -> Path:
        return self.root / "seccomp"

    @property
    def registry(self) -> Path:
        """Where plugins announce themselves."""
        return self.root / "plugins_registry"

    def kept(self, path: str) -> Path | None:
        """The path, where it is a directory of `storage`."""
        inside = Path(path)
        return inside if inside.parent == self.storage and inside.name not in ("", ".", "..") else None

    def pod(self, pod_uid: str) -> Path:
        return self.pods / part(pod_uid)

    def volume(self, pod_uid: str, kind: str, name: str) -> Path:
        """`kind` as the pod's spec calls it."""
        return self.pod(pod_uid) / "volumes" / f"kubernetes.io~{_KINDS.get(kind, kind)}" / part(name)

    def message(self, pod_uid: str, container: str, attempt: int) -> Path:
        return self.pod(pod_uid) / "containers" / part(container) / f"{attempt}.msg"

    def hosts(self, pod_uid: str) -> Path:
        return self.pod(pod_uid) / "etc-hosts"

    def pod_logs(self, pod: Pod) -> Path:
        return self.logs / part("_".join((*key(pod), uid(pod))))

    @staticmethod
    def pod_of_logs(directory: Path) -> tuple[str, str, str]:
        """(namespace, name, uid) of the pod that a directory of `pod_logs` is of."""
        namespace, _, rest = directory.name.partition("_")
        name, _, pod_uid = rest.rpartition("_")
        return namespace, name, pod_uid

    def log(self, pod: Pod, container: str, attempt: int) -> Path:
        return self.pod_logs(pod) / self.log_name(container, attempt)

    @staticmethod
    def log_name(container: str, attempt: int) -> str:
        """Relative to the pod's log directory."""
        return f"{part(container)}/{attempt}.log"


def part(name: str) -> str:
    """One component of a path; ValueError where it would be more (names come from the API, which allows none such)."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a file name: {name!r}")
    return name
