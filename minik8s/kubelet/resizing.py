"""What is looked at before a running container gets other resources (KEP-1287). `allocation.py` says which ones it may have."""

from __future__ import annotations

from minik8s.runtime.base import Runtime, RuntimeFailed


async def verify_usage(runtime: Runtime, container_id: str, name: str, limit: int) -> None:
    """RuntimeFailed where `limit` (bytes, 0 for none) is below what is in use: the kernel would kill the container (cgroup v2)."""
    if not limit:
        return
    used = next((s.memory_usage for s in await runtime.stats() if s.container_id == container_id), 0)
    if used >= limit:
        text = f'attempting to set container "{name}" memory limit ({limit}) below current usage ({used})'
        raise RuntimeFailed(f"cannot decrease memory limits: {text}")
