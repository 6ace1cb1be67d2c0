"""cloud-controller-manager's room: what of a cluster its surroundings provide (machines, load balancers), and the provider built in.

`provider.py` is the interface, `local.py` the provider that needs no cloud, `services.py` and `nodes.py` the controllers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.client.workqueue import Reconciler
from minik8s.cloud import nodes, services
from minik8s.cloud.local import Local
from minik8s.cloud.provider import Context, Provider

Start = Callable[[Context], list[Reconciler[Any]]]


def controllers(provider: Provider | None = None) -> Mapping[str, Start]:
    """The controllers by the identity (a ServiceAccount of kube-system) that each acts with, in the form of `controllers.CONTROLLERS`."""
    chosen = provider or Local()
    return {
        "service-controller": lambda context: services.start(context, chosen),
        "cloud-node-controller": lambda context: nodes.start(context, chosen),
    }
