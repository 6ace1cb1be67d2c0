"""HTTP probes and hooks against a server. Rules: the kubelet's probe/http (request.go, http.go) and lifecycle/handlers.go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from minik8s.base.clock import RealClock
from minik8s.kubelet.actions import Actions, HookFailed, Outcome, Target

from .pods import container


@dataclass
class Page:
    port: int = 0
    seen: list[CIMultiDictProxy[str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers)
        sent_to = {"/near": "/ok", "/away": "http://elsewhere.example/", "/round": "/round"}.get(request.path)
        if sent_to:
            return web.Response(status=302, headers={"Location": sent_to}, text="go")
        return web.Response(status=404 if request.path == "/none" else 200, text="fine")

    @property
    def target(self) -> Target:
        return Target(container(ports=[{"name": "web", "containerPort": self.port}]), "id", "127.0.0.1")

    def get(self, path: str, **fields: Any) -> dict[str, Any]:
        return {"httpGet": {"port": "web", "path": path, **fields}, "timeoutSeconds": 5}


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    page = Page()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", page.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page.port = runner.addresses[0][1]
    yield page
    await runner.cleanup()


@pytest.fixture
async def actions() -> AsyncIterator[Actions]:
    actions = Actions(None, RealClock())  # type: ignore[arg-type]  # no exec
    yield actions
    await actions.close()


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/ok", Outcome(True, "fine")),
        ("/near", Outcome(True, "fine")),
        ("/away", Outcome(True, "Probe terminated redirects, Response body: go", warning=True)),
        ("/none", Outcome(False, "HTTP probe failed with statuscode: 404")),
    ],
)
async def test_probes(page: Page, actions: Actions, path: str, outcome: Outcome) -> None:
    assert await actions.probe(page.get(path), page.target) == outcome


async def test_who_is_sent_round_and_round_fails(page: Page, actions: Actions) -> None:
    found = await actions.probe(page.get("/round"), page.target)
    assert (found.success, found.text.partition(": ")[2], len(page.seen)) == (False, "stopped after 10 redirects", 10)


async def test_headers(page: Page, actions: Actions) -> None:
    given = [{"name": n, "value": v} for n, v in (("x-a", "1"), ("X-A", "2"), ("accept", ""), ("host", "h.example"))]
    await actions.probe(page.get("/ok", httpHeaders=given), page.target)
    seen = page.seen[0]
    assert (seen.getall("X-A"), seen["Host"], seen["User-Agent"]) == (["1", "2"], "h.example", "kube-probe/1.36")
    assert not {"Accept", "Accept-Encoding"} & set(seen)


async def test_a_hook_succeeds_with_any_answer_and_falls_back_from_tls(page: Page, actions: Actions) -> None:
    await actions.hook(page.get("/none"), page.target)
    await actions.hook(page.get("/ok", scheme="HTTPS"), page.target)
    assert [headers["User-Agent"] for headers in page.seen] == ["kube-lifecycle/1.36"] * 2
    with pytest.raises(HookFailed, match="connection refused"):
        await actions.hook({"httpGet": {"port": 1, "path": "/"}}, page.target)
