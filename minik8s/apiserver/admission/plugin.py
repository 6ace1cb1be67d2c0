"""What admission plugins share: doing nothing, and saying no."""

from __future__ import annotations

from minik8s.api.errors import Forbidden, object_forbidden
from minik8s.apiserver.contract import Admission


class Quiet:
    """A plugin that changes nothing and minds nothing; plugins override what they do."""

    name = ""

    async def admit(self, request: Admission) -> None:
        return None

    async def validate(self, request: Admission) -> None:
        return None


def refused(request: Admission, detail: str) -> Forbidden:
    """The Forbidden for the request's object."""
    return object_forbidden(request.resource, request.name, detail)
