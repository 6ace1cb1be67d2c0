"""Images over the agent's local socket, for `minik8s image`: who may open the socket (root, or the agent's own user) may do it.

GET /images                    POST /images/import?path=FILE
DELETE /images?name=NAME       POST /images/pull?name=NAME
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from minik8s.runtime.base import Runtime, RuntimeFailed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(runtime: Runtime) -> web.Application:
    """The aiohttp application for the socket."""

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"images": [asdict(image) for image in await runtime.images()]})

    async def imported(request: web.Request) -> web.Response:
        return web.json_response({"references": list(await runtime.import_image(request.query["path"]))})

    async def pulled(request: web.Request) -> web.Response:
        return web.json_response({"id": await runtime.pull_image(request.query["name"])})

    async def removed(request: web.Request) -> web.Response:
        name = request.query["name"]
        if await runtime.image(name) is None:
            return web.json_response({"message": f"no image {name}"}, status=404)
        await runtime.remove_image(name)
        return web.json_response({})

    app = web.Application(middlewares=[_errors])
    app.router.add_get("/images", listed)
    app.router.add_delete("/images", removed)
    app.router.add_post("/images/import", imported)
    app.router.add_post("/images/pull", pulled)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except KeyError as error:
        return web.json_response({"message": f"the parameter {error} is missing"}, status=400)
    except (RuntimeFailed, OSError) as error:
        return web.json_response({"message": str(error)}, status=500)
