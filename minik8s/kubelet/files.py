"""What a pod has on its node's disk: volumes, /etc/hosts, termination messages, logs.

`DiskFiles` for real, `NoFiles` for simulated nodes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from minik8s.kubelet.configs import message_path
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.logs import rotated_logs
from minik8s.kubelet.messages import termination_message
from minik8s.kubelet.names import hosts, parse_resolv_conf
from minik8s.kubelet.pod import ContainerSpec, Pod, find_container, is_host_network, uid
from minik8s.kubelet.site import Site
from minik8s.kubelet.volumes import Volumes, mounting
from minik8s.kubelet.volumes.persistent import Persistent
from minik8s.runtime.base import Container, Device, Dns, Mount, Sandbox
from minik8s.runtime.embedded import linux


class Files(Protocol):
    def host_dns(self) -> Dns:
        """The node's own resolv.conf."""
        ...

    def prepare(self, pod: Pod) -> None:
        """Makes what must be there before the sandbox: the directory for its logs."""
        ...

    async def mount(self, pod: Pod, surroundings: Surroundings) -> float | None:
        """Makes the pod's volumes, or brings them up to date; when a token in them must be renewed. Raises volumes.MountFailed."""
        ...

    async def mounts(
        self,
        pod: Pod,
        container: ContainerSpec,
        attempt: int,
        sandbox: Sandbox,
        env: Mapping[str, str],
        images: Mapping[str, str],
    ) -> list[Mount]:
        """All that is mounted into a container; `images` are those of its image volumes, by their names. Raises env.ConfigError,
        OSError.
        """
        ...

    def devices(self, pod: Pod, container: ContainerSpec) -> list[Device]:
        """The block devices that are given to a container."""
        ...

    def claims(self, pod_uid: str) -> Mapping[str, Persistent]:
        """What the pod's claims stand for, by its names for them."""
        ...

    def read(self, pod: Pod, volume: str, path: str) -> str | None:
        """A file of an emptyDir volume."""
        ...

    def message(self, pod: Pod, ended: Container) -> str:
        """The termination message of a container."""
        ...

    def drop_logs(self, pod: Pod, ended: Container) -> None:
        """Takes the logs of a container away that is removed."""
        ...

    async def unmount(self, pod_uid: str) -> None:
        """Takes the pod's volumes away; messages and logs stay."""
        ...

    async def remove(self, pod: Pod) -> None:
        """Takes all that is left of the pod away."""
        ...

    def left(self, known: Collection[str]) -> list[tuple[str, str, str]]:
        """(namespace, name, uid) of the pods that have files or logs here and whose uid is not `known`; a name that nothing tells is the
        uid.
        """
        ...


class DiskFiles:
    def __init__(self, site: Site, volumes: Volumes) -> None:
        self._site, self._volumes = site, volumes
        self.mount, self.read, self.unmount = volumes.mount, volumes.read, volumes.unmount
        self.devices, self.claims = volumes.devices, volumes.claims

    def host_dns(self) -> Dns:
        path = Path(self._site.resolv_conf)
        return parse_resolv_conf(path.read_text()) if path.is_file() else Dns()

    def prepare(self, pod: Pod) -> None:
        self._site.layout.pod_logs(pod).mkdir(parents=True, exist_ok=True, mode=0o755)

    async def mounts(
        self,
        pod: Pod,
        container: ContainerSpec,
        attempt: int,
        sandbox: Sandbox,
        env: Mapping[str, str],
        images: Mapping[str, str],
    ) -> list[Mount]:
        mounts = await self._volumes.mounts(pod, container, env, images)
        if all(m.container_path != "/etc/hosts" for m in mounts) and (sandbox.ips or is_host_network(pod)):
            mounts.append(Mount("/etc/hosts", str(self._write_hosts(pod, sandbox))))
        message = self._site.layout.message(uid(pod), container["name"], attempt)
        message.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        message.touch()
        message.chmod(0o666)  # whatever user the container runs as
        mounts.append(Mount(message_path(container), str(message)))
        return mounts

    def message(self, pod: Pod, ended: Container) -> str:
        found = find_container(pod, ended.name)
        return termination_message(self._site.layout, pod, found[1], ended) if found else ""

    def drop_logs(self, pod: Pod, ended: Container) -> None:
        path = self._site.layout.log(pod, ended.name, ended.attempt)
        for file in (path, *rotated_logs(path)):
            file.unlink(missing_ok=True)

    async def remove(self, pod: Pod) -> None:
        layout = self._site.layout
        await asyncio.get_running_loop().run_in_executor(None, _remove, layout.pod(uid(pod)), layout.pod_logs(pod))

    def left(self, known: Collection[str]) -> list[tuple[str, str, str]]:
        layout = self._site.layout
        found = {path.name: ("", path.name, path.name) for path in layout.pods.iterdir()} if layout.pods.is_dir() else {}
        for path in layout.logs.iterdir() if layout.logs.is_dir() else ():
            namespace, name, pod_uid = layout.pod_of_logs(path)
            found[pod_uid] = (namespace, name, pod_uid)
        return [pod for pod_uid, pod in found.items() if pod_uid not in known]

    def _write_hosts(self, pod: Pod, sandbox: Sandbox) -> Path:
        path = self._site.layout.hosts(uid(pod))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        host = Path(self._site.hosts_file)
        of_host = host.read_text() if is_host_network(pod) and host.exists() else ""
        path.write_text(hosts(pod, sandbox.ips, self._site.cluster_domain, of_host))
        path.chmod(0o644)
        return path


def _remove(*directories: Path) -> None:
    """What is still mounted in them is unmounted first: nothing outside of them may go with them."""
    for directory in directories:
        if not directory.exists():
            continue
        for point in linux.mounts_below(directory):
            mounting.unmount(point)
        shutil.rmtree(directory)


class NoFiles:
    """A pod without a disk: its volumes are always there and empty."""

    def host_dns(self) -> Dns:
        return Dns()

    def prepare(self, pod: Pod) -> None:
        """Nothing to make."""

    async def mount(self, pod: Pod, surroundings: Surroundings) -> float | None:
        return None

    async def mounts(
        self,
        pod: Pod,
        container: ContainerSpec,
        attempt: int,
        sandbox: Sandbox,
        env: Mapping[str, str],
        images: Mapping[str, str],
    ) -> list[Mount]:
        return []

    def devices(self, pod: Pod, container: ContainerSpec) -> list[Device]:
        return []

    def claims(self, pod_uid: str) -> Mapping[str, Persistent]:
        return {}

    def read(self, pod: Pod, volume: str, path: str) -> str | None:
        return None

    def message(self, pod: Pod, ended: Container) -> str:
        return ""

    def drop_logs(self, pod: Pod, ended: Container) -> None:
        """Nothing to take away."""

    async def unmount(self, pod_uid: str) -> None:
        """Nothing to take away."""

    async def remove(self, pod: Pod) -> None:
        """Nothing to take away."""

    def left(self, known: Collection[str]) -> list[tuple[str, str, str]]:
        return []
