"""Where a kubelet keeps what on disk, under the agent's data directory. Paths only; who writes makes them.

ROOT/pods/UID/volumes/KIND/NAME      what is mounted into containers
ROOT/pods/UID/containers/NAME/N.msg  the termination message of its run N
ROOT/pods/UID/etc-hosts
ROOT/seccomp/...                     profiles that `localhostProfile` names (people put them there)
ROOT/storage/pvc-UID_NAMESPACE_CLAIM  a volume of the built-in provisioner
LOGS/NAMESPACE_NAME_UID/CONTAINER/N.log
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minik8s.kubelet.pod import Pod, key, uid


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path
    logs: Path

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def pulled(self) -> Path:
        """Who may use which image."""
        return self.root / "pulled-images.json"

    @property
    def seccomp(self) -> Path:
        return self.root / "seccomp"

    @property
    def storage(self) -> Path:
        """What the built-in provisioner keeps; it outlives pods."""
        return self.root / "storage"

    def kept(self, path: str) -> Path | None:
        """The path, where it is a directory of `storage`."""
        inside = Path(path)
        return inside if inside.parent == self.storage and inside.name not in ("", ".", "..") else None

    def pod(self, pod_uid: str) -> Path:
        return self.pods / _part(pod_uid)

    def volume(self, pod_uid: str, kind: str, name: str) -> Path:
        return self.pod(pod_uid) / "volumes" / kind / _part(name)

    def message(self, pod_uid: str, container: str, attempt: int) -> Path:
        return self.pod(pod_uid) / "containers" / _part(container) / f"{attempt}.msg"

    def hosts(self, pod_uid: str) -> Path:
        return self.pod(pod_uid) / "etc-hosts"

    def pod_logs(self, pod: Pod) -> Path:
        return self.logs / _part("_".join((*key(pod), uid(pod))))

    @staticmethod
    def uid_of_logs(directory: Path) -> str:
        """Of the pod that a directory of `pod_logs` is of."""
        return directory.name.rpartition("_")[2]

    @staticmethod
    def log_name(container: str, attempt: int) -> str:
        """Relative to the pod's log directory."""
        return f"{_part(container)}/{attempt}.log"


def _part(name: str) -> str:
    """One component of a path; ValueError where it would be more (names come from the API, which allows none such)."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a file name: {name!r}")
    return name
