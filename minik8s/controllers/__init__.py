"""kube-controller-manager's room: one file a controller, and the manager that runs them. CONTROLLERS is the whole list."""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.controllers import (
    admissionpolicies,
    aggregation,
    certificates,
    cronjob,
    daemonset,
    deployment,
    disruption,
    endpoints,
    endpointslices,
    garbage,
    job,
    mirroring,
    namespace,
    nodes,
    podgc,
    protection,
    quota,
    replicaset,
    servicecidrs,
    statefulset,
    ttl,
    volumes,
)
from minik8s.controllers.manager import Start

CONTROLLERS: Mapping[str, Start] = {
    "namespace-controller": namespace.start_deletion,
    "service-account-controller": namespace.start_service_accounts,
    "root-ca-cert-publisher": namespace.start_root_ca,
    "deployment-controller": deployment.start,
    "replicaset-controller": replicaset.start,
    "replication-controller": replicaset.start_replication,
    "daemon-set-controller": daemonset.start,
    "statefulset-controller": statefulset.start,
    "disruption-controller": disruption.start,
    "job-controller": job.start,
    "cronjob-controller": cronjob.start,
    "ttl-after-finished-controller": ttl.start_finished,
    "resourcequota-controller": quota.start,
    "ttl-controller": ttl.start_nodes,
    "persistent-volume-binder": volumes.start,
    "pvc-protection-controller": protection.start_claims,
    "pv-protection-controller": protection.start_volumes,
    "volumeattributesclass-protection-controller": protection.start_classes,
    "endpointslice-controller": endpointslices.start,
    "endpointslicemirroring-controller": mirroring.start,
    "endpoint-controller": endpoints.start,
    "node-controller": nodes.start,
    "clusterrole-aggregation-controller": aggregation.start,
    "certificate-controller": certificates.start,
    "generic-garbage-collector": garbage.start,
    "pod-garbage-collector": podgc.start,
    admissionpolicies.NAME: admissionpolicies.start,
    "service-cidrs-controller": servicecidrs.start,
    "service-addresses": servicecidrs.start_addresses,
}
