"""How many seats a request takes: what it makes the server do at once.

As upstream, a list takes a seat for each hundred objects that are read for it; so do watches that begin with all objects, and deletions
of collections. A large body takes one for each quarter of a megabyte.
"""

from __future__ import annotations

from minik8s.apiserver.cache import Cache
from minik8s.apiserver.request import Request

OBJECTS, BYTES = 100, 256 * 1024
"""Objects, and bytes of a body, that go with one seat."""
_LISTS = ("list", "watch", "deletecollection")


def width_of(request: Request, cache: Cache, length: int) -> int:
    """`length` is that of the request's body."""
    if request.verb in _LISTS and not request.name:
        return _width_of_list(request, cache)
    return 1 + length // BYTES


def _width_of_list(request: Request, cache: Cache) -> int:
    query = request.query
    if request.verb == "watch" and query.get("resourceVersion", "0") != "0" and query.get("sendInitialEvents") != "true":
        return 1
    if "watch" not in request.resource.verbs:
        return 1  # not stored
    objects = len(cache.of(request.resource).keys(request.namespace))
    limit = query.get("limit", "")
    if limit.isdecimal() and 0 < int(limit[:9]) < objects:
        objects = int(limit[:9])
    return 1 + max(objects - 1, 0) // OBJECTS
