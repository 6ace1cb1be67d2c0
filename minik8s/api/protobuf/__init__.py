"""Kubernetes' protobuf, both ways: what Go clients send by default, and what those that accept nothing else are answered with.

`decode` gives the value that the JSON of the object would have, still to be conformed to the schema. `encode` gives the bytes that
upstream's server would: fields in the order of their numbers, what Go holds by value always, what it holds by pointer when it is there.

Neighbours: `messages.py` has the wire facts that both read; `apiserver/forms.py` decides who gets which form.
Source: the API concepts page "Kubernetes Protobuf encoding".
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["decode", "encode", "encode_item", "encode_list", "watch_frame"]

if TYPE_CHECKING:
    from minik8s.api.protobuf.decoding import decode
    from minik8s.api.protobuf.encoding import encode, encode_item, encode_list, watch_frame
else:

    def __getattr__(name: str) -> Any:
        """What is asked for, imported then: who is only sent JSON has no use for it."""
        if name not in __all__:
            raise AttributeError(name)
        return getattr(import_module(f"{__name__}.{'decoding' if name == 'decode' else 'encoding'}"), name)
