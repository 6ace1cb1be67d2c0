"""What an authenticator says that must fetch something first: it never waits itself."""

from __future__ import annotations

import asyncio


class NotYet(Exception):
    """An issuer's keys are being fetched: ask again once `fetched` is done (never with an error)."""

    def __init__(self, fetched: asyncio.Future[None]) -> None:
        super().__init__()
        self.fetched = fetched
