"""One line a kind: where its rules stand, `module.NAME` in this package. A kind without a line has none of its own.

A kind's rules are imported at its first use: most clusters never see most kinds, and all of them take 2 MB.
"""

from __future__ import annotations

from importlib import import_module

from minik8s.api.kind import Kind
from minik8s.api.resources import Resource

KINDS: dict[tuple[str, str], str] = {
    ("", "ComponentStatus"): "componentstatus.KIND",
    ("", "ConfigMap"): "configmap.CONFIGMAP",
    ("", "Endpoints"): "endpoints.ENDPOINTS",
    ("", "Event"): "event.EVENT",
    ("", "LimitRange"): "quota.LIMIT_RANGE",
    ("", "Namespace"): "namespace.KIND",
    ("", "Node"): "node.KIND",
    ("", "PersistentVolume"): "volume.KIND",
    ("", "PersistentVolumeClaim"): "claim.KIND",
    ("", "Pod"): "pod.POD",
    ("", "PodTemplate"): "storedtemplate.KIND",
    ("", "ReplicationController"): "replicationcontroller.KIND",
    ("", "ResourceQuota"): "quota.QUOTA",
    ("", "Secret"): "configmap.SECRET",
    ("", "Service"): "service.KIND",
    ("", "ServiceAccount"): "serviceaccount.KIND",
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): "admissionpolicy_mutating.POLICY",
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): "admissionpolicy_mutating.BINDING",
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): "webhook.MUTATING",
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): "admissionpolicy.POLICY",
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): "admissionpolicy.BINDING",
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): "webhook.VALIDATING",
    ("apiregistration.k8s.io", "APIService"): "apiservice.KIND",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "crd.KIND",
    ("apps", "ControllerRevision"): "controllerrevision.KIND",
    ("apps", "DaemonSet"): "daemonset.KIND",
    ("apps", "Deployment"): "deployment.KIND",
    ("apps", "ReplicaSet"): "replicaset.KIND",
    ("apps", "StatefulSet"): "statefulset.KIND",
    ("authentication.k8s.io", "TokenRequest"): "reviews.TOKEN_REQUEST",
    ("authorization.k8s.io", "LocalSubjectAccessReview"): "reviews.LOCAL_ACCESS_REVIEW",
    ("authorization.k8s.io", "SelfSubjectAccessReview"): "reviews.SELF_ACCESS_REVIEW",
    ("authorization.k8s.io", "SubjectAccessReview"): "reviews.ACCESS_REVIEW",
    ("autoscaling", "HorizontalPodAutoscaler"): "autoscaler.KIND",
    ("autoscaling", "Scale"): "scale.KIND",
    ("batch", "CronJob"): "cronjob.KIND",
    ("batch", "Job"): "job.KIND",
    ("certificates.k8s.io", "CertificateSigningRequest"): "certificate.SIGNING_REQUEST",
    ("coordination.k8s.io", "Lease"): "coordination.LEASE",
    ("discovery.k8s.io", "EndpointSlice"): "endpoints.SLICE",
    ("events.k8s.io", "Event"): "event.NEW_EVENT",
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): "flowcontrol.SCHEMA",
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): "flowcontrol.LEVEL",
    ("networking.k8s.io", "IPAddress"): "servicecidr.ADDRESS",
    ("networking.k8s.io", "Ingress"): "ingress.INGRESS",
    ("networking.k8s.io", "IngressClass"): "ingress.CLASS",
    ("networking.k8s.io", "NetworkPolicy"): "networkpolicy.KIND",
    ("networking.k8s.io", "ServiceCIDR"): "servicecidr.CIDR",
    ("node.k8s.io", "RuntimeClass"): "classes.RUNTIME",
    ("policy", "PodDisruptionBudget"): "disruptionbudget.KIND",
    ("rbac.authorization.k8s.io", "ClusterRole"): "rbac.CLUSTER_ROLE",
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): "rbac.CLUSTER_ROLE_BINDING",
    ("rbac.authorization.k8s.io", "Role"): "rbac.ROLE",
    ("rbac.authorization.k8s.io", "RoleBinding"): "rbac.ROLE_BINDING",
    ("resource.k8s.io", "DeviceClass"): "device.CLASS",
    ("resource.k8s.io", "ResourceClaim"): "deviceclaim.CLAIM",
    ("resource.k8s.io", "ResourceClaimTemplate"): "deviceclaim.TEMPLATE",
    ("resource.k8s.io", "ResourceSlice"): "deviceslice.SLICE",
    ("scheduling.k8s.io", "PriorityClass"): "classes.PRIORITY",
    ("storage.k8s.io", "CSIDriver"): "storage.DRIVER",
    ("storage.k8s.io", "CSINode"): "storage.NODE",
    ("storage.k8s.io", "CSIStorageCapacity"): "storage.CAPACITY",
    ("storage.k8s.io", "StorageClass"): "storage.CLASS",
    ("storage.k8s.io", "VolumeAttachment"): "storage.ATTACHMENT",
    ("storage.k8s.io", "VolumeAttributesClass"): "storage.ATTRIBUTES_CLASS",
}
"""(group, kind) -> where its rules stand."""

PLAIN = Kind()

_loaded: dict[tuple[str, str], Kind] = {}


def rules_of(resource: Resource) -> Kind:
    """The rules of a resource's kind."""
    if resource.custom is not None:
        return resource.custom.rules
    key = resource.group, resource.kind
    if (rules := _loaded.get(key)) is None:
        rules = _loaded[key] = _load(key)
    return rules


def _load(key: tuple[str, str]) -> Kind:
    if key not in KINDS:
        return PLAIN
    module, name = KINDS[key].split(".")
    rules = getattr(import_module(f"{__package__}.{module}"), name)
    assert isinstance(rules, Kind)
    return rules
