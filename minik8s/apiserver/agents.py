"""What agents ask a server for beside the Kubernetes API: its authority, the cluster's settings, and a place for their line.

These pages judge their askers themselves: the authority is for anybody (a token pins it), the rest for nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web

from minik8s.api.errors import Forbidden
from minik8s.api.user import User
from minik8s.apiserver.http import Content, PageHandler
from minik8s.tunnel import paths
from minik8s.tunnel.server import Tunnels

NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"


def pages(tunnels: Tunnels, authority: bytes, config: Mapping[str, str | int]) -> dict[str, PageHandler]:
    """`authority` is the PEM that tokens pin, `config` what `paths.CONFIG` answers."""

    async def ca(http: web.BaseRequest, _: User) -> Content:
        return Content(authority, "application/x-pem-file")

    async def settings(http: web.BaseRequest, user: User) -> Content:
        _node_name(user)
        return Content(orjson.dumps(config))

    async def tunnel(http: web.BaseRequest, user: User) -> web.StreamResponse:
        return await tunnels.handle(http, _node_name(user))

    return {paths.CA: ca, paths.CONFIG: settings, paths.TUNNEL: tunnel}


def _node_name(user: User) -> str:
    if not user.name.startswith(NODE_PREFIX) or NODES_GROUP not in user.groups:
        raise Forbidden(f'forbidden: User "{user.name}" is no node', {})
    return user.name.removeprefix(NODE_PREFIX)
