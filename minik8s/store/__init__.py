"""etcd's room: revisioned keys and one stream of changes. `open_store` opens the kind that an endpoint names."""

from __future__ import annotations

from pathlib import Path

from minik8s.base.clock import Clock
from minik8s.store.base import Store


async def open_store(
    endpoint: str, path: Path, clock: Clock, *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> Store:
    """The store of `--datastore-endpoint`: nothing or `sqlite` is the file at `path`, `memory` is lost at the end, and
    `http(s)://HOST:PORT` is an etcd (PEM files `ca`, `cert`, `key` as in `--datastore-cafile` and so on).

    Raises StoreLocked, StoreCorrupt, StoreFailed; ValueError for an endpoint of no known kind.
    """
    if endpoint in {"", "sqlite", "sqlite://"}:
        from minik8s.store.sqlite import open_sqlite

        return await open_sqlite(path, clock)
    if endpoint in {"memory", "memory://"}:
        from minik8s.store.memory import MemoryStore

        return MemoryStore()
    if endpoint.startswith(("http://", "https://")):
        from minik8s.store.etcd import Tls, open_etcd

        return await open_etcd(endpoint, clock, Tls(ca, cert, key))
    raise ValueError(f"datastore endpoint {endpoint!r}: one of sqlite, memory, http://HOST:PORT, https://HOST:PORT")
