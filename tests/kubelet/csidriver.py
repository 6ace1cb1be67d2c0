"""A small CSI driver for tests: a volume is a directory (or a device) that is bound where the kubelet asks for it.

Within a test it only notes its calls (`Driver(mounts=False)`); as a program it mounts: `csidriver.py ROOT NAME DATA`, where ROOT is the
kubelet's directory and DATA holds the volumes, a directory by its handle (or a link to a block device). Its calls go to DATA/calls.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minik8s.kubelet.volumes.csi import wire

STAGES, EXPANDS = 1, 3


class Driver:
    def __init__(self, name: str, data: Path, *, mounts: bool, capabilities: tuple[int, ...] = (STAGES, EXPANDS)) -> None:
        self.name, self.data, self._mounts = name, data, mounts
        self.capabilities = capabilities
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fails: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.topology = {f"topology.{name}/node": "here"}
        self.registered: list[str] = []  # what the kubelet said: empty where it is content
        self._servers: list[grpc.aio.Server] = []

    async def start(self, root: Path) -> None:
        """Its own socket, then that which announces it."""
        own, registry = root / "plugins" / self.name, root / "plugins_registry"
        own.mkdir(parents=True, exist_ok=True)
        registry.mkdir(parents=True, exist_ok=True)
        self.socket, self.registration = own / "csi.sock", registry / f"{self.name}-reg.sock"
        await self._serve(self.socket, wire.NODE_SERVICE, wire.NODE, wire.CSI)
        await self._serve(self.registration, wire.REGISTRATION_SERVICE, wire.REGISTRATION, wire.PLUGINS)

    async def stop(self) -> None:
        self.registration.unlink(missing_ok=True)
        for server in self._servers:
            await server.stop(0)
        self._servers.clear()

    async def _serve(self, socket: Path, service: str, table: Mapping[str, tuple[str, str]], types: Mapping[str, Any]) -> None:
        socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        handlers = {name: self._handler(name, types[request], types[answer]) for name, (request, answer) in table.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        self._servers.append(server)

    def _handler(self, name: str, request: Any, answer: Any) -> Any:
        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            fields = {field.name: _plain(value) for field, value in message.ListFields()}
            if name.startswith("Node") and not name.startswith("NodeGet"):
                self._note(name, fields)
            if name in self.fails:
                await context.abort(*self.fails[name])
            try:
                return answer(**(getattr(self, f"_{name}", self._nothing)(fields) or {}))
            except (OSError, subprocess.SubprocessError) as error:
                await context.abort(grpc.StatusCode.INTERNAL, str(error))

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=answer.SerializeToString
        )

    def _note(self, name: str, fields: dict[str, Any]) -> None:
        self.calls.append((name, fields))
        if self._mounts:
            with (self.data / "calls").open("a") as out:
                out.write(json.dumps([name, fields]) + "\n")

    # --- registration ---

    def _GetInfo(self, _: Any) -> dict[str, Any]:
        return {"type": "CSIPlugin", "name": self.name, "endpoint": str(self.socket), "supported_versions": ["1.0.0"]}

    def _NotifyRegistrationStatus(self, fields: dict[str, Any]) -> None:
        self.registered.append(fields.get("error", ""))

    # --- the node service ---

    def _NodeGetInfo(self, _: Any) -> dict[str, Any]:
        return {"node_id": "me", "max_volumes_per_node": 7, "accessible_topology": {"segments": self.topology}}

    def _NodeGetCapabilities(self, _: Any) -> dict[str, Any]:
        return {"capabilities": [{"rpc": {"type": kind}} for kind in self.capabilities]}

    def _NodeStageVolume(self, fields: dict[str, Any]) -> None:
        if "mount" in fields["volume_capability"]:
            self._bind(self.data / fields["volume_id"], Path(fields["staging_target_path"]))

    def _NodeUnstageVolume(self, fields: dict[str, Any]) -> None:
        self._unbind(Path(fields["staging_target_path"]))

    def _NodePublishVolume(self, fields: dict[str, Any]) -> None:
        target, source = Path(fields["target_path"]), self.data / fields["volume_id"]
        if "block" in fields["volume_capability"]:
            target.touch()
            self._bind(source.resolve(), target)
            return
        source.mkdir(exist_ok=True)
        target.mkdir(exist_ok=True)
        context = fields.get("volume_context") or {}
        if context.get("csi.storage.k8s.io/ephemeral") == "true":
            (source / "context").write_text(json.dumps(context))
        self._bind(Path(fields.get("staging_target_path") or source), target)

    def _NodeUnpublishVolume(self, fields: dict[str, Any]) -> None:
        self._unbind(Path(fields["target_path"]))

    def _NodeExpandVolume(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"capacity_bytes": fields["capacity_range"]["required_bytes"]}

    def _nothing(self, _: Any) -> None:
        pass

    def _bind(self, source: Path, target: Path) -> None:
        if self._mounts and subprocess.run(["mountpoint", "-q", target], check=False).returncode:
            subprocess.run(["mount", "--bind", source, target], check=True)

    def _unbind(self, target: Path) -> None:
        if self._mounts and target.exists() and not subprocess.run(["mountpoint", "-q", target], check=False).returncode:
            subprocess.run(["umount", target], check=True)
        if target.is_dir():
            target.rmdir()
        else:
            target.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "ListFields"):
        return {field.name: _plain(inner) for field, inner in value.ListFields()}
    if hasattr(value, "items"):
        return dict(value)
    return [_plain(each) for each in value] if hasattr(value, "append") else value


async def main(root: str, name: str, data: str) -> None:
    driver = Driver(name, Path(data), mounts=True)
    await driver.start(Path(root))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
