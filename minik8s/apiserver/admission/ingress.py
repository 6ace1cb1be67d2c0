"""DefaultIngressClass: an Ingress that names no class gets the default one.

Source: kubernetes.io "Ingress", "Default IngressClass".
"""

from __future__ import annotations

from minik8s.api.kinds.ingress import DEFAULT_CLASS, OLD_CLASS
from minik8s.api.resources import INGRESSCLASSES, INGRESSES
from minik8s.apiserver.admission.plugin import Quiet, creates
from minik8s.apiserver.admission.storage import newest_default
from minik8s.apiserver.contract import Admission, Reader


class DefaultIngressClass(Quiet):
    """Of several default classes, the newest. An Ingress with the old annotation has said what it wants."""

    name = "DefaultIngressClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return creates(request, INGRESSES)

    async def admit(self, request: Admission) -> None:
        ingress = request.object
        if ingress is None or OLD_CLASS in (ingress["metadata"].get("annotations") or {}):
            return
        if (ingress.get("spec") or {}).get("ingressClassName") is None:
            chosen = newest_default(self._reader.list(INGRESSCLASSES), (DEFAULT_CLASS,))
            if chosen:
                ingress.setdefault("spec", {})["ingressClassName"] = chosen
