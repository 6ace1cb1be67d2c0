"""The kubelet's own directory (`--kubelet-arg root-dir=DIR`): one agent's alone, and such that mounts made in a pod are seen outside.

CSI drivers mount volumes in pods of their own, below the kubelet's directory; that the kubelet and other pods see them, the directory must
lie on a shared mount. Where the machine's first process has not made all mounts shared, as systemd does, the directory becomes a mount of
its own that is. Blocking. Source: mount_namespaces(7), "Mount propagation" of the Kubernetes documentation.
"""

from __future__ import annotations

from pathlib import Path

from minik8s.kubelet.layout import PULLED
from minik8s.kubelet.volumes import mounting
from minik8s.runtime.embedded import linux

USUAL = Path("/var/lib/kubelet")
"""Where everybody, CSI drivers above all, expects a kubelet's files."""
OWNER = ".minik8s"
"""A file that tells whose directory it is: the data directory of the agent."""
DIRECTORIES = ("pods", "plugins", "plugins_registry")
MADE = (*DIRECTORIES, OWNER, PULLED)
"""What agents make in it."""


class Occupied(Exception):
    """Another kubelet's pods are in the directory; the text is one clear line."""


def default(data: Path, *, usual: bool) -> Path:
    """Of an agent with that data directory; `usual`: it is the one that root has unless told otherwise."""
    return USUAL if usual else place(data)


def place(data: Path) -> Path:
    """Where the directory is found from an agent's data directory: itself, or a link to it."""
    return data / "agent/kubelet"


def elsewhere(data: Path) -> Path | None:
    """The directory of the agent with that data directory, where it lies outside of that; None once it is not its own (any more)."""
    link = place(data)
    if not link.is_symlink():
        return None
    root = link.resolve()
    mark = root / OWNER
    return root if mark.is_file() and mark.read_text() == str(data) else None


def claim(root: Path, data: Path, *, may_mount: bool) -> None:
    """Makes the directory, or finds it again, for the agent with that data directory. Raises Occupied, OSError."""
    mark, pods, link = root / OWNER, root / "pods", place(data)
    root.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        whose = mark.read_text()
    except FileNotFoundError:
        whose = ""
    if whose != str(data) and pods.is_dir() and any(pods.iterdir()):
        raise Occupied(
            f"{root} holds the pods of {whose or 'another kubelet'}: give it another directory (--kubelet-arg root-dir=DIR)"
        )
    mark.write_text(str(data))
    for name in DIRECTORIES:
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(0o750)  # whatever the directory itself is: other users of the machine read no pod's files
    if link.is_symlink():
        link.unlink()
    if link != root:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root)
    if may_mount and not mounting.is_shared(root):
        mounting.share(root)


def let_go(root: Path) -> None:
    """As the agent ends: where no pod is left, neither is the mount. Pods that run on keep it, for the next agent."""
    pods = root / "pods"
    if pods.is_dir() and any(pods.iterdir()):
        return
    mounts = linux.mounts_below(root)
    if set(mounts) == {str(root.resolve())}:  # more than once where an agent was killed as it mounted it
        for mount in mounts:
            mounting.unmount(mount)  # also while somebody counts what is in it
