"""The resource table: one row makes a kind served, discovered, stored and watched. What sets the kind apart (defaults,
validation, printing) stands beside it in `kinds/`; its fields come from `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minik8s.api.custom import CustomType

STANDARD_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
DURABLE, LAZY = "durable", "lazy"


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A resource of the API. Rows are compared by identity; `resources.PODS` is the way to name one in code."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = STANDARD_VERBS  # empty: only its subresources or POST (reviews)
    singular: str = ""
    list_name: str = ""  # the kind of a list, where it isn't the kind with List behind it
    durability: str = DURABLE
    lazy_in: tuple[str, ...] = ()  # namespaces in which objects of a durable kind are lazy (heartbeats)
    stored_as: str = ""  # "group/version" of the row whose storage this one shares (events of two groups)
    creates_on_update: bool = False  # PUT of a missing name creates it
    needs_version: bool = False  # PUT without a resourceVersion is refused
    deprecated: str = ""  # a Warning header on every request
    returns_deleted: bool = False  # DELETE answers with the object instead of a Status
    terminating: bool = False  # its CustomResourceDefinition is being deleted: no object is created any more
    custom: CustomType | None = None  # what a CustomResourceDefinition says of it; None: it is built in

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, or `pods`: how messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        return self.list_name or self.kind + "List"

    @property
    def base_path(self) -> str:
        """`/apis/apps/v1`, or `/api/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path, unescaped: names need no escape by their rules, except those of RBAC kinds."""
        parts = [self.base_path]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


NO_STATUS = ()
STATUS = ("status",)
CREATE_ONLY = ("create",)

PODS = Resource(
    "",
    "v1",
    "pods",
    "Pod",
    short_names=("po",),
    categories=("all",),
    returns_deleted=True,
    subresources=(
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "log",
        "portforward",
        "proxy",
        "resize",
        "status",
    ),
)
NAMESPACES = Resource(
    "",
    "v1",
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    subresources=("finalize", "status"),
    verbs=tuple(v for v in STANDARD_VERBS if v != "deletecollection"),
)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), subresources=("proxy", "status"))
SERVICES = Resource(
    "",
    "v1",
    "services",
    "Service",
    short_names=("svc",),
    categories=("all",),
    subresources=("proxy", "status"),
    creates_on_update=True,
    returns_deleted=True,
)
ENDPOINTS = Resource(
    "",
    "v1",
    "endpoints",
    "Endpoints",
    short_names=("ep",),
    singular="endpoints",
    creates_on_update=True,
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = Resource(
    "", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",), returns_deleted=True
)
EVENTS = Resource("", "v1", "events", "Event", short_names=("ev",), durability=LAZY, creates_on_update=True)
EVENTS_V1 = Resource(
    "events.k8s.io",
    "v1",
    "events",
    "Event",
    short_names=("ev",),
    durability=LAZY,
    stored_as="/v1",
    creates_on_update=True,
)
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = Resource(
    "coordination.k8s.io",
    "v1",
    "leases",
    "Lease",
    creates_on_update=True,
    needs_version=True,
    lazy_in=("kube-node-lease",),
)
DEPLOYMENTS = Resource(
    "apps", "v1", "deployments", "Deployment", short_names=("deploy",), categories=("all",), subresources=("scale", "status")
)
REPLICASETS = Resource(
    "apps", "v1", "replicasets", "ReplicaSet", short_names=("rs",), categories=("all",), subresources=("scale", "status")
)
DAEMONSETS = Resource(
    "apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), categories=("all",), subresources=("status",)
)
STATEFULSETS = Resource(
    "apps", "v1", "statefulsets", "StatefulSet", short_names=("sts",), categories=("all",), subresources=("scale", "status")
)
CONTROLLERREVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
REPLICATIONCONTROLLERS = Resource(
    "",
    "v1",
    "replicationcontrollers",
    "ReplicationController",
    short_names=("rc",),
    categories=("all",),
    subresources=("scale", "status"),
)
PODTEMPLATES = Resource("", "v1", "podtemplates", "PodTemplate", returns_deleted=True)
JOBS = Resource("batch", "v1", "jobs", "Job", categories=("all",), subresources=("status",))
CRONJOBS = Resource("batch", "v1", "cronjobs", "CronJob", short_names=("cj",), categories=("all",), subresources=("status",))
HORIZONTALPODAUTOSCALERS = Resource(
    "autoscaling",
    "v2",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    subresources=("status",),
)
HORIZONTALPODAUTOSCALERS_V1 = replace(HORIZONTALPODAUTOSCALERS, version="v1", stored_as="autoscaling/v2")
PODDISRUPTIONBUDGETS = Resource(
    "policy",
    "v1",
    "poddisruptionbudgets",
    "PodDisruptionBudget",
    short_names=("pdb",),
    subresources=("status",),
    needs_version=True,
)
LIMITRANGES = Resource("", "v1", "limitranges", "LimitRange", short_names=("limits",), creates_on_update=True)
RESOURCEQUOTAS = Resource(
    "", "v1", "resourcequotas", "ResourceQuota", short_names=("quota",), subresources=("status",), returns_deleted=True
)
PRIORITYCLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short_names=("pc",))
RUNTIMECLASSES = Resource(
    "node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False, creates_on_update=True, needs_version=True
)
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress", short_names=("ing",), subresources=("status",))
INGRESSCLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)
NETWORKPOLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",))
PERSISTENTVOLUMES = Resource(
    "",
    "v1",
    "persistentvolumes",
    "PersistentVolume",
    namespaced=False,
    short_names=("pv",),
    subresources=("status",),
    returns_deleted=True,
)
PERSISTENTVOLUMECLAIMS = Resource(
    "",
    "v1",
    "persistentvolumeclaims",
    "PersistentVolumeClaim",
    short_names=("pvc",),
    subresources=("status",),
    returns_deleted=True,
)
STORAGECLASSES = Resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False, short_names=("sc",), returns_deleted=True
)
VOLUMEATTRIBUTESCLASSES = replace(
    STORAGECLASSES, plural="volumeattributesclasses", kind="VolumeAttributesClass", short_names=("vac",)
)
CSIDRIVERS = replace(STORAGECLASSES, plural="csidrivers", kind="CSIDriver", short_names=(), needs_version=True)
CSINODES = replace(CSIDRIVERS, plural="csinodes", kind="CSINode")
VOLUMEATTACHMENTS = replace(CSIDRIVERS, plural="volumeattachments", kind="VolumeAttachment", subresources=STATUS)
CSISTORAGECAPACITIES = Resource("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", needs_version=True)
CERTIFICATESIGNINGREQUESTS = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
    short_names=("csr",),
    subresources=("approval", "status"),
)
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role", creates_on_update=True)
ROLEBINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", creates_on_update=True)
CLUSTERROLES = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False, creates_on_update=True
)
CLUSTERROLEBINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False, creates_on_update=True
)

EXTENSIONS = ("api-extensions",)
CUSTOMRESOURCEDEFINITIONS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=EXTENSIONS,
    subresources=STATUS,
    needs_version=True,
)
APISERVICES = Resource(
    "apiregistration.k8s.io",
    "v1",
    "apiservices",
    "APIService",
    namespaced=False,
    categories=EXTENSIONS,
    subresources=STATUS,
    needs_version=True,
)
MUTATINGWEBHOOKCONFIGURATIONS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
    categories=EXTENSIONS,
    needs_version=True,
)
VALIDATINGWEBHOOKCONFIGURATIONS = replace(
    MUTATINGWEBHOOKCONFIGURATIONS, plural="validatingwebhookconfigurations", kind="ValidatingWebhookConfiguration"
)
VALIDATINGADMISSIONPOLICIES = replace(
    MUTATINGWEBHOOKCONFIGURATIONS, plural="validatingadmissionpolicies", kind="ValidatingAdmissionPolicy", subresources=STATUS
)
VALIDATINGADMISSIONPOLICYBINDINGS = replace(
    MUTATINGWEBHOOKCONFIGURATIONS, plural="validatingadmissionpolicybindings", kind="ValidatingAdmissionPolicyBinding"
)
MUTATINGADMISSIONPOLICIES = replace(
    MUTATINGWEBHOOKCONFIGURATIONS, plural="mutatingadmissionpolicies", kind="MutatingAdmissionPolicy"
)
MUTATINGADMISSIONPOLICYBINDINGS = replace(
    MUTATINGWEBHOOKCONFIGURATIONS, plural="mutatingadmissionpolicybindings", kind="MutatingAdmissionPolicyBinding"
)
FLOWSCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False, subresources=STATUS)
PRIORITYLEVELCONFIGURATIONS = replace(FLOWSCHEMAS, plural="prioritylevelconfigurations", kind="PriorityLevelConfiguration")
SERVICECIDRS = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False, subresources=STATUS)
IPADDRESSES = Resource("networking.k8s.io", "v1", "ipaddresses", "IPAddress", namespaced=False, short_names=("ip",))
DEVICECLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False)
RESOURCECLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", subresources=STATUS)
RESOURCECLAIMTEMPLATES = Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
RESOURCESLICES = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)

COMPONENTSTATUSES = Resource(
    "",
    "v1",
    "componentstatuses",
    "ComponentStatus",
    namespaced=False,
    short_names=("cs",),
    verbs=("get", "list"),
    deprecated="v1 ComponentStatus is deprecated in v1.19+",
)
BINDINGS = Resource("", "v1", "bindings", "Binding", verbs=CREATE_ONLY)
TOKENREVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False, verbs=CREATE_ONLY)
SELFSUBJECTREVIEWS = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=CREATE_ONLY
)
SUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=CREATE_ONLY
)
SELFSUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=CREATE_ONLY
)
SELFSUBJECTRULESREVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False, verbs=CREATE_ONLY
)
LOCALSUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=CREATE_ONLY
)

RESOURCES: tuple[Resource, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Resource))
"""All rows, in the order above."""
BY_PATH = {(r.group, r.version, r.plural): r for r in RESOURCES}
BY_KIND = {(r.group, r.version, r.kind): r for r in RESOURCES}


def of(obj: object) -> Resource | None:
    """The row of an object with `apiVersion` and `kind`, None where it is not served."""
    if not isinstance(obj, dict):
        return None
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    return BY_KIND.get((group, version, str(obj.get("kind", ""))))
