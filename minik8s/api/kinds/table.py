"""One line a kind: where its rules stand. A kind without a line has none of its own."""

from __future__ import annotations

from minik8s.api.kind import Kind
from minik8s.api.kinds import (
    autoscaler,
    certificate,
    claim,
    classes,
    componentstatus,
    configmap,
    controllerrevision,
    coordination,
    cronjob,
    daemonset,
    deployment,
    disruptionbudget,
    endpoints,
    event,
    ingress,
    job,
    namespace,
    networkpolicy,
    node,
    pod,
    quota,
    rbac,
    replicaset,
    replicationcontroller,
    reviews,
    scale,
    service,
    serviceaccount,
    statefulset,
    storage,
    storedtemplate,
    volume,
)
from minik8s.api.resources import Resource

KINDS: dict[tuple[str, str], Kind] = {
    ("", "ComponentStatus"): componentstatus.KIND,
    ("", "ConfigMap"): configmap.CONFIGMAP,
    ("", "Endpoints"): endpoints.ENDPOINTS,
    ("", "Event"): event.EVENT,
    ("", "LimitRange"): quota.LIMIT_RANGE,
    ("", "Namespace"): namespace.KIND,
    ("", "Node"): node.KIND,
    ("", "PersistentVolume"): volume.KIND,
    ("", "PersistentVolumeClaim"): claim.KIND,
    ("", "Pod"): pod.POD,
    ("", "PodTemplate"): storedtemplate.KIND,
    ("", "ReplicationController"): replicationcontroller.KIND,
    ("", "ResourceQuota"): quota.QUOTA,
    ("", "Secret"): configmap.SECRET,
    ("", "Service"): service.KIND,
    ("", "ServiceAccount"): serviceaccount.KIND,
    ("apps", "ControllerRevision"): controllerrevision.KIND,
    ("apps", "DaemonSet"): daemonset.KIND,
    ("apps", "Deployment"): deployment.KIND,
    ("apps", "ReplicaSet"): replicaset.KIND,
    ("apps", "StatefulSet"): statefulset.KIND,
    ("authentication.k8s.io", "TokenRequest"): reviews.TOKEN_REQUEST,
    ("authorization.k8s.io", "LocalSubjectAccessReview"): reviews.LOCAL_ACCESS_REVIEW,
    ("authorization.k8s.io", "SelfSubjectAccessReview"): reviews.SELF_ACCESS_REVIEW,
    ("authorization.k8s.io", "SubjectAccessReview"): reviews.ACCESS_REVIEW,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler.KIND,
    ("autoscaling", "Scale"): scale.KIND,
    ("batch", "CronJob"): cronjob.KIND,
    ("batch", "Job"): job.KIND,
    ("certificates.k8s.io", "CertificateSigningRequest"): certificate.SIGNING_REQUEST,
    ("coordination.k8s.io", "Lease"): coordination.LEASE,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.SLICE,
    ("events.k8s.io", "Event"): event.NEW_EVENT,
    ("networking.k8s.io", "Ingress"): ingress.INGRESS,
    ("networking.k8s.io", "IngressClass"): ingress.CLASS,
    ("networking.k8s.io", "NetworkPolicy"): networkpolicy.KIND,
    ("node.k8s.io", "RuntimeClass"): classes.RUNTIME,
    ("policy", "PodDisruptionBudget"): disruptionbudget.KIND,
    ("rbac.authorization.k8s.io", "ClusterRole"): rbac.CLUSTER_ROLE,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.CLUSTER_ROLE_BINDING,
    ("rbac.authorization.k8s.io", "Role"): rbac.ROLE,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.ROLE_BINDING,
    ("scheduling.k8s.io", "PriorityClass"): classes.PRIORITY,
    ("storage.k8s.io", "CSIDriver"): storage.DRIVER,
    ("storage.k8s.io", "CSINode"): storage.NODE,
    ("storage.k8s.io", "CSIStorageCapacity"): storage.CAPACITY,
    ("storage.k8s.io", "StorageClass"): storage.CLASS,
    ("storage.k8s.io", "VolumeAttachment"): storage.ATTACHMENT,
    ("storage.k8s.io", "VolumeAttributesClass"): storage.ATTRIBUTES_CLASS,
}
"""(group, kind) -> its rules."""

PLAIN = Kind()


def rules_of(resource: Resource) -> Kind:
    """The rules of a resource's kind."""
    if resource.custom is not None:
        return resource.custom.rules
    return KINDS.get((resource.group, resource.kind), PLAIN)
