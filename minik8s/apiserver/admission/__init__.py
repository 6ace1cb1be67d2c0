"""Admission: what else must be true of a write, and what is filled in, after it is known who asks and that they may.

`plugins` is the whole list, in order. All plugins first change the object (`admit`), then it is validated by its kind, then all
judge it (`validate`); each looks only at the requests that it `handles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from minik8s.api import convert
from minik8s.api.kind import Frozen
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateStamps,
    CertificateSubjectRestriction,
)
from minik8s.apiserver.admission.devices import DeviceTaintTimes, ResourceClaims
from minik8s.apiserver.admission.escalation import RBACEscalation
from minik8s.apiserver.admission.ingress import DefaultIngressClass
from minik8s.apiserver.admission.limits import LimitRanger
from minik8s.apiserver.admission.namespaces import NamespaceLifecycle
from minik8s.apiserver.admission.nodes import NodeRestriction, TaintNodesByCondition
from minik8s.apiserver.admission.pods import DefaultTolerationSeconds, PodResize, PodTopologyLabels, Priority
from minik8s.apiserver.admission.podsecurity import Configuration as PodSecurityConfiguration
from minik8s.apiserver.admission.podsecurity import PodSecurity
from minik8s.apiserver.admission.policies import MutatingAdmissionPolicy, ParameterRights, ValidatingAdmissionPolicy
from minik8s.apiserver.admission.runtimeclass import RuntimeClass
from minik8s.apiserver.admission.serviceaccounts import ServiceAccount
from minik8s.apiserver.admission.storage import DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection
from minik8s.apiserver.authz import Chain
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Plugin, Reader, ShownAs
from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics


async def builtin_shown_as(obj: Frozen, now: Resource, row: Resource) -> Frozen:
    """The `contract.ShownAs` of the built-in resources."""
    return convert.to_served(convert.to_stored(obj, now), row)


def plugins(
    reader: Reader,
    authorizer: Chain,
    clock: Clock,
    rng: Random,
    not_ready: int = 300,
    unreachable: int = 300,
    pod_security: PodSecurityConfiguration | None = None,
    catalogue: Catalogue | None = None,
    shown_as: ShownAs = builtin_shown_as,
    metrics: Metrics | None = None,
) -> list[Plugin]:
    """The plugins of an API server, in the order in which they see a request. `not_ready` and `unreachable` are the seconds for
    which pods stay on such a node by default. `catalogue` and `shown_as`: what is served, and
    how it changes its version, if that is more than the built-in resources.
    """
    served, counted = catalogue or Catalogue(), metrics or Metrics()
    return [
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        NodeRestriction(reader),
        ServiceAccount(reader, clock, rng),
        TaintNodesByCondition(),
        PodSecurity(reader, clock, pod_security),
        Priority(reader),
        DefaultTolerationSeconds(not_ready, unreachable),
        StorageObjectInUseProtection(),
        DefaultStorageClass(reader),
        PersistentVolumeClaimResize(reader),
        RuntimeClass(reader),
        PodResize(reader),
        PodTopologyLabels(reader),
        CertificateStamps(clock),
        CertificateApproval(authorizer),
        CertificateSigning(authorizer),
        CertificateSubjectRestriction(),
        DefaultIngressClass(reader),
        DeviceTaintTimes(clock),
        ResourceClaims(reader, authorizer),
        RBACEscalation(authorizer),
        ParameterRights(reader, authorizer, served),
        MutatingAdmissionPolicy(reader, authorizer, served, shown_as, clock, counted),
        ValidatingAdmissionPolicy(reader, authorizer, served, shown_as, clock, counted),
    ]


async def admit(chain: Sequence[Plugin], request: Admission) -> None:
    """Both halves at once, for a request whose object nothing else validates in between."""
    for plugin in chain:
        if plugin.handles(request):
            await plugin.admit(request)
    for plugin in chain:
        if plugin.handles(request):
            await plugin.validate(request)
