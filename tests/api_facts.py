"""What acts on each kind of the API: facts that `docs/api.md` tells (tests/api_docs.py makes it) and tests/test_api_docs.py holds.

A kind is acted on by modules of minik8s, each of which names its resource, and shown by files of tests, each of which names the kind;
or it is stored only, with what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """`by`: modules under minik8s/; empty: stored only. `shown`: files under tests/."""

    what: str
    by: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


def acts(what: str, by: str, shown: str) -> Fact:
    return Fact(what, tuple(by.split()), tuple(shown.split()))


DEVICES, ROUTED = "checked; no pod gets a device yet", "no ingress controller comes along; one that is installed finds it"
RBAC = "grants rights; nobody may grant more than they have"
WEBHOOKS = (
    "called at writes",
    "apiserver/admission/webhooks/__init__.py",
    "apiserver/admission/webhooks/test_live.py e2e/test_webhooks.py",
)
POLICIES = ("evaluated at writes", "apiserver/admission/policies/__init__.py", "e2e/clients/test_kubectl.py")
FLOW = (
    "requests are classified and queued by it",
    "apiserver/flowcontrol/gate.py",
    "controllers/test_flowcontrol.py",
)
REVIEWED = ("answered", "apiserver/reviews.py", "apiserver/authn/test_reviews.py")
EVENTS = (
    "written by every part, repeated ones counted; forgotten after an hour",
    "client/events.py controllers/ttl.py",
    "client/test_events.py controllers/test_ttl.py",
)

FACTS: dict[tuple[str, str], Fact] = {
    ("", "Binding"): acts("gives a pod its node", "apiserver/frontdesk.py", "e2e/clients/test_official.py"),
    ("", "ComponentStatus"): acts("made when it is asked for", "apiserver/components.py", "apiserver/test_frontdesk.py"),
    ("", "ConfigMap"): acts(
        "given to containers as variables and files; the cluster's authority is in one of each namespace",
        "kubelet/env.py kubelet/volumes/payload.py controllers/namespace.py",
        "kubelet/test_env.py kubelet/test_volumes.py controllers/test_namespace.py",
    ),
    ("", "Endpoints"): acts(
        "written of Services' pods; those without a selector are mirrored into slices",
        "controllers/endpoints.py controllers/mirroring.py",
        "controllers/test_endpoints.py",
    ),
    ("", "Event"): acts(*EVENTS),
    ("", "LimitRange"): acts(
        "gives pods and claims defaults, and bounds", "apiserver/admission/limits.py", "apiserver/admission/test_limits.py"
    ),
    ("", "Namespace"): acts(
        "deleted with all that is in it; labels choose its pods' security",
        "controllers/namespace.py apiserver/admission/namespaces.py apiserver/admission/podsecurity.py",
        "controllers/test_namespace.py apiserver/admission/test_podsecurity.py",
    ),
    ("", "Node"): acts(
        "registered by its agent, given pods, tainted and left when it is silent",
        "kubelet/node.py scheduler/scheduler.py controllers/nodes.py cloud/nodes.py",
        "kubelet/test_node.py scheduler/test_scheduler.py controllers/test_nodes.py cloud/test_cloud.py",
    ),
    ("", "PersistentVolume"): acts(
        "bound to a claim, kept while it is used; hostPath, local, nfs and csi ones are mounted, those of local-path made and removed",
        "controllers/volumes.py controllers/protection.py controllers/localpath.py",
        "controllers/test_volumes.py controllers/test_protection.py",
    ),
    ("", "PersistentVolumeClaim"): acts(
        "bound to a volume, kept while it is used; made and kept by StatefulSets",
        "controllers/volumes.py controllers/protection.py controllers/statefulset.py",
        "controllers/test_volumes.py controllers/test_protection.py",
    ),
    ("", "Pod"): acts(
        "scheduled, run, moved off dead nodes, cleared away",
        "scheduler/scheduler.py kubelet/kubelet.py controllers/nodes.py controllers/podgc.py",
        "scheduler/test_scheduler.py kubelet/test_scenarios.py controllers/test_nodes.py",
    ),
    ("", "PodTemplate"): Fact("a template for whoever reads it, as upstream"),
    ("", "ReplicationController"): acts("keeps its pods", "controllers/replicaset.py", "controllers/test_replicaset.py"),
    ("", "ResourceQuota"): acts(
        "bounds what a namespace holds; its use is counted",
        "apiserver/quotas.py controllers/quota.py",
        "apiserver/test_quotas.py controllers/test_quota.py",
    ),
    ("", "Secret"): acts(
        "given to containers as variables and files; tokens of ServiceAccounts and for joining",
        "kubelet/env.py kubelet/volumes/payload.py controllers/tokens.py apiserver/authn/bootstrap_tokens.py",
        "kubelet/test_env.py kubelet/test_volumes.py controllers/test_tokens.py apiserver/authn/test_outside.py",
    ),
    ("", "Service"): acts(
        "given addresses and endpoints, routed by every node, named by the DNS, balanced by the cloud provider",
        "apiserver/allocation.py controllers/endpointslices.py proxy/proxy.py dns/server.py cloud/services.py",
        "controllers/test_endpoints.py proxy/test_scenarios.py dns/test_server.py cloud/test_cloud.py",
    ),
    ("", "ServiceAccount"): acts(
        "one in each namespace; pods have its tokens",
        "controllers/namespace.py apiserver/admission/serviceaccounts.py apiserver/authn/serviceaccounts.py",
        "controllers/test_namespace.py apiserver/authn/test_authentication.py",
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): acts(*POLICIES),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): acts(*POLICIES),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): acts(*WEBHOOKS),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): acts(
        "evaluated at writes; its expressions are type-checked",
        "apiserver/admission/policies/__init__.py controllers/admissionpolicies.py",
        "apiserver/admission/policies/test_live.py controllers/test_admissionpolicies.py",
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): acts(*POLICIES),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): acts(*WEBHOOKS),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): acts(
        "its resources are served as soon as it is established",
        "apiserver/custom/definitions.py",
        "apiserver/custom/test_serving.py e2e/clients/test_kubectl.py",
    ),
    ("apiregistration.k8s.io", "APIService"): acts(
        "its group version is answered by another server, whose health is watched",
        "apiserver/aggregation/aggregation.py",
        "apiserver/aggregation/test_aggregation.py",
    ),
    ("apps", "ControllerRevision"): acts(
        "written and read for roll-outs and roll-backs",
        "controllers/history.py controllers/daemonset.py controllers/statefulset.py",
        "controllers/test_daemonset.py",
    ),
    ("apps", "DaemonSet"): acts("a pod on each node, rolled out", "controllers/daemonset.py", "controllers/test_daemonset.py"),
    ("apps", "Deployment"): acts(
        "ReplicaSets, rolled out", "controllers/deployment.py", "controllers/test_deployment.py controllers/test_rollout.py"
    ),
    ("apps", "ReplicaSet"): acts("keeps its pods", "controllers/replicaset.py", "controllers/test_replicaset.py"),
    ("apps", "StatefulSet"): acts(
        "pods with names and claims that last", "controllers/statefulset.py", "controllers/test_statefulset.py"
    ),
    ("authentication.k8s.io", "SelfSubjectReview"): acts(*REVIEWED),
    ("authentication.k8s.io", "TokenReview"): acts(*REVIEWED),
    ("authorization.k8s.io", "LocalSubjectAccessReview"): acts(*REVIEWED),
    ("authorization.k8s.io", "SelfSubjectAccessReview"): acts(
        "answered", "apiserver/reviews.py", "apiserver/authz/test_authorization.py"
    ),
    ("authorization.k8s.io", "SelfSubjectRulesReview"): acts(*REVIEWED),
    ("authorization.k8s.io", "SubjectAccessReview"): acts(*REVIEWED),
    ("autoscaling", "HorizontalPodAutoscaler"): acts(
        "scales by metrics.k8s.io, and by custom and external metrics where an APIService gives them; not to zero",
        "controllers/autoscaler.py",
        "controllers/test_autoscaler.py",
    ),
    ("batch", "CronJob"): acts("makes Jobs at its times", "controllers/cronjob.py", "controllers/test_cronjob.py"),
    ("batch", "Job"): acts(
        "runs pods to their end; cleared away after its time",
        "controllers/job.py controllers/ttl.py",
        "controllers/test_job.py",
    ),
    ("certificates.k8s.io", "CertificateSigningRequest"): acts(
        "approved where it is a node's own, signed, cleared away",
        "controllers/certificates.py apiserver/admission/certificates.py",
        "controllers/test_certificates.py",
    ),
    ("coordination.k8s.io", "Lease"): acts(
        "nodes' heartbeats; elections of a leader",
        "kubelet/node.py controllers/nodes.py client/leader.py",
        "kubelet/test_node.py client/test_leader.py",
    ),
    ("discovery.k8s.io", "EndpointSlice"): acts(
        "written of Services' pods; routed to and named",
        "controllers/endpointslices.py proxy/proxy.py dns/server.py apiserver/outbound.py",
        "controllers/test_endpoints.py proxy/test_userspace.py dns/test_server.py apiserver/test_outbound.py",
    ),
    ("events.k8s.io", "Event"): acts(*EVENTS),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): acts(*FLOW),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): acts(*FLOW),
    ("networking.k8s.io", "IPAddress"): acts(
        "an address of a Service, taken and given back with it",
        "apiserver/allocation.py controllers/servicecidrs.py",
        "controllers/test_servicecidrs.py",
    ),
    ("networking.k8s.io", "Ingress"): Fact(ROUTED),
    ("networking.k8s.io", "IngressClass"): acts(
        "the default one is given to Ingresses", "apiserver/admission/ingress.py", "apiserver/admission/test_ingress.py"
    ),
    ("networking.k8s.io", "NetworkPolicy"): Fact("no node enforces it yet"),
    ("networking.k8s.io", "ServiceCIDR"): acts(
        "adds addresses for Services; stays while one of them is used",
        "apiserver/allocation.py controllers/servicecidrs.py",
        "controllers/test_servicecidrs.py",
    ),
    ("node.k8s.io", "RuntimeClass"): acts(
        "gives pods their overhead and places", "apiserver/admission/runtimeclass.py", "e2e/clients/test_kubectl.py"
    ),
    ("policy", "PodDisruptionBudget"): acts(
        "counted, and kept by evictions",
        "controllers/disruption.py apiserver/eviction.py",
        "controllers/test_disruption.py",
    ),
    ("rbac.authorization.k8s.io", "ClusterRole"): acts(
        RBAC + "; aggregated ones are put together",
        "apiserver/authz/rbac.py apiserver/authz/escalation.py controllers/aggregation.py",
        "apiserver/authz/test_authorization.py controllers/test_aggregation.py",
    ),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): acts(
        RBAC, "apiserver/authz/rbac.py apiserver/admission/escalation.py", "apiserver/authz/test_authorization.py"
    ),
    ("rbac.authorization.k8s.io", "Role"): acts(
        RBAC, "apiserver/authz/rbac.py apiserver/authz/escalation.py", "apiserver/authz/test_authorization.py"
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): acts(
        RBAC, "apiserver/authz/rbac.py apiserver/admission/escalation.py", "apiserver/authz/test_authorization.py"
    ),
    ("resource.k8s.io", "DeviceClass"): Fact(DEVICES),
    ("resource.k8s.io", "ResourceClaim"): Fact(DEVICES),
    ("resource.k8s.io", "ResourceClaimTemplate"): Fact(DEVICES),
    ("resource.k8s.io", "ResourceSlice"): Fact(DEVICES),
    ("scheduling.k8s.io", "PriorityClass"): acts(
        "gives pods their priority, by which they are scheduled; nothing is preempted yet",
        "apiserver/admission/pods.py",
        "apiserver/admission/test_admission.py",
    ),
    ("storage.k8s.io", "CSIDriver"): acts(
        "says how its driver's volumes are attached and mounted; seLinuxMount and nodeAllocatableUpdatePeriodSeconds are stored only",
        "kubelet/volumes/csi/volumes.py kubelet/volumes/csi/wanted.py controllers/attachdetach.py",
        "kubelet/test_csi.py controllers/test_attachdetach.py",
    ),
    ("storage.k8s.io", "CSINode"): acts(
        "made by each node, lists the drivers that registered there; how many volumes they take is minded by the scheduler",
        "kubelet/volumes/csi/drivers.py scheduler/storage.py",
        "kubelet/test_csi.py",
    ),
    ("storage.k8s.io", "CSIStorageCapacity"): acts(
        "pods whose claims wait for them go where there is enough", "scheduler/capacities.py", "scheduler/test_capacities.py"
    ),
    ("storage.k8s.io", "StorageClass"): acts(
        "the default one is given to claims; says when they are bound; local-path is built in",
        "apiserver/admission/storage.py controllers/volumes.py",
        "apiserver/admission/test_storage.py controllers/test_volumes.py",
    ),
    ("storage.k8s.io", "VolumeAttachment"): acts(
        "made and deleted as pods on nodes want the volume; the driver's external-attacher acts on it",
        "controllers/attachdetach.py kubelet/volumes/csi/volumes.py",
        "controllers/test_attachdetach.py kubelet/test_csi.py",
    ),
    ("storage.k8s.io", "VolumeAttributesClass"): acts(
        "kept while a claim names it",
        "controllers/protection.py apiserver/admission/storage.py",
        "controllers/test_protection.py",
    ),
}
