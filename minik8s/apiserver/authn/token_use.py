"""Marks the Secrets whose older tokens are still used with the day of their last use, so that people know which can go.

Source: KEP-2799; the label `kubernetes.io/legacy-token-last-used`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from minik8s.api.call import PATCH_TYPES, Call
from minik8s.api.errors import ApiError
from minik8s.api.kind import Frozen
from minik8s.api.resources import SECRETS
from minik8s.apiserver.authn.serviceaccounts import LAST_USED
from minik8s.base.tasks import Owner

log = logging.getLogger(__name__)


class TokenUse:
    """`write` passes a call to the API under an identity that may patch Secrets; `owner` runs the writes beside the requests."""

    def __init__(self, write: Callable[[Call], Awaitable[Any]], owner: Owner) -> None:
        self._write = write
        self._owner = owner
        self._under_way: set[tuple[str, str]] = set()

    def note(self, secret: Frozen, day: str) -> None:
        key = secret["metadata"]["namespace"], secret["metadata"]["name"]
        if key not in self._under_way:
            self._under_way.add(key)
            self._owner.start(self._label(*key, day), "token-use")

    async def _label(self, namespace: str, name: str, day: str) -> None:
        patch = {"metadata": {"labels": {LAST_USED: day}}}
        try:
            await self._write(Call("patch", SECRETS, namespace, name, body=patch, content_type=PATCH_TYPES["merge"]))
        except ApiError as error:
            log.warning("the last use of the token in secret %s/%s could not be noted: %s", namespace, name, error.message)
        finally:
            self._under_way.discard((namespace, name))
