"""The dumps of priority and fairness as pages, where upstream has them."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from minik8s.api.user import User
from minik8s.apiserver.flowcontrol.gate import Gate
from minik8s.apiserver.flowcontrol.report import dump_levels, dump_queues, dump_requests
from minik8s.apiserver.http import Content, PageHandler
from minik8s.base.clock import Clock

_PATH = "/debug/api_priority_and_fairness/dump_"


def pages(gate: Gate, clock: Clock) -> dict[str, PageHandler]:
    """By path."""
    return {
        f"{_PATH}priority_levels": _text(lambda: dump_levels(gate)),
        f"{_PATH}queues": _text(lambda: dump_queues(gate)),
        f"{_PATH}requests": _text(lambda: dump_requests(gate, clock)),
    }


def _text(dump: Callable[[], str]) -> PageHandler:
    async def page(http: web.BaseRequest, user: User) -> Content:
        return Content(dump().encode(), "text/plain; charset=utf-8")

    return page
