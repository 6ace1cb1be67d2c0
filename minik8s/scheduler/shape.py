"""A pod's shape: all of a pod that matters for where it may run. Pods of one template have one shape, so that what is found out
for one of them (which nodes it fits, how well) serves the others.

Two pods have the same shape exactly if namespace, labels, controlling owner, claims and the scheduling fields of their specs are equal. A
shape is parsed once; `Shapes` keeps the ones in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import orjson

from minik8s.api import quantity, selectors, storage
from minik8s.api.kinds.pod.resources import is_pod_level, is_sidecar, total_requests
from minik8s.api.selectors import LabelSelector

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Use:
    """A claim that the pod uses; with `owner` (the uid of `pod`) that of an ephemeral volume, which must be its own."""

    name: str
    owner: str = ""
    pod: str = ""


DEFAULT_CPU, DEFAULT_MEMORY = 100, 200 * 1024 * 1024
"""What a container without requests counts as, for scores only (milli-cores, bytes)."""
ANY_IP = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the host that the pod wants."""

    protocol: str
    port: int
    ip: str


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """A pod affinity or anti-affinity term. `namespaces` are the ones it names; with `namespace_selector` those it selects too."""

    selector: LabelSelector
    topology_key: str
    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    weight: int = 0

    def matches(self, shape: Shape, namespace_labels: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it means a pod of that shape."""
        if not self.selector.matches(shape.labels):
            return False
        if shape.namespace in self.namespaces:
            return True
        return self.namespace_selector.matches(namespace_labels.get(shape.namespace, {}))


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """A topologySpreadConstraint; `hard` is DoNotSchedule."""

    max_skew: int
    topology_key: str
    selector: LabelSelector
    hard: bool
    min_domains: int
    honor_affinity: bool
    honor_taints: bool


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Shape:
    """Compared by identity: `Shapes` makes one of each."""

    namespace: str
    labels: Mapping[str, str]
    wishes: bytes  # equal for shapes that want the same of a Node object
    owner: str  # the controlling owner's uid, "" for none
    requests: Mapping[str, int]  # cpu in milli-cores, the rest in whole units; zeros left out
    scored_cpu: int  # with defaults for containers that ask for nothing
    scored_memory: int
    ports: Sequence[Port]
    images: Sequence[str]
    tolerations: Sequence[Object]
    node_selector: LabelSelector
    required_terms: Sequence[NodeTerm] | None  # any of them; None: no such affinity
    preferred_terms: Sequence[tuple[int, NodeTerm]]
    spread: Sequence[SpreadConstraint]
    affinity: Sequence[AffinityTerm]
    anti_affinity: Sequence[AffinityTerm]
    preferred_affinity: Sequence[AffinityTerm]  # anti-affinity with a negative weight
    claims: Sequence[Use] = ()

    @property
    def looks_around(self) -> bool:
        """Whether where it may run depends on the pods of other nodes, or on volumes."""
        return bool(self.spread or self.affinity or self.anti_affinity or self.preferred_affinity or self.claims)

    def matches_node(self, name: str, labels: Mapping[str, str]) -> bool:
        """spec.nodeSelector and the required node affinity."""
        if not self.node_selector.matches(labels):
            return False
        return self.required_terms is None or any(term.matches(name, labels) for term in self.required_terms)


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """A NodeSelectorTerm: all its expressions and fields; an empty one matches nothing."""

    expressions: LabelSelector
    fields: LabelSelector

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if not self.expressions and not self.fields:
            return False
        return self.expressions.matches(labels) and self.fields.matches({"metadata.name": name})


class Shapes:
    """The shapes in use, each once."""

    def __init__(self) -> None:
        self._shapes: WeakValueDictionary[bytes, Shape] = WeakValueDictionary()

    def of(self, pod: Object) -> Shape:
        meta, spec = pod["metadata"], pod["spec"]
        key = orjson.dumps(
            (
                meta.get("namespace"),
                meta.get("labels"),
                _owner(meta),
                [(use.name, use.owner) for use in _claims(pod)],
                [spec.get(name) for name in _FIELDS],
                [[container.get(name) for name in _CONTAINER_FIELDS] for container in spec["containers"]],
                [[container.get(name) for name in _CONTAINER_FIELDS] for container in spec.get("initContainers") or ()],
            ),
            option=orjson.OPT_SORT_KEYS,
        )
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = parse(pod)
        return shape


_FIELDS = ("nodeSelector", "affinity", "tolerations", "overhead", "resources", "topologySpreadConstraints")
_CONTAINER_FIELDS = ("resources", "ports", "image", "restartPolicy")


def parse(pod: Object) -> Shape:
    """The shape of a validated pod."""
    meta, spec = pod["metadata"], pod["spec"]
    namespace, labels = meta.get("namespace", ""), meta.get("labels") or {}
    requests, scored = _requests(spec), _requests(_with_defaults(spec))
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    pods, anti = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    images = tuple(normal_image(container["image"]) for container in containers if container.get("image"))
    return Shape(
        namespace=namespace,
        labels=labels,
        wishes=orjson.dumps(
            (spec.get("nodeSelector"), node_affinity, spec.get("tolerations"), images), option=orjson.OPT_SORT_KEYS
        ),
        owner=_owner(meta),
        requests={name: amount for name, amount in requests.items() if amount},
        scored_cpu=scored.get("cpu", 0),
        scored_memory=scored.get("memory", 0),
        ports=_ports(spec),
        images=images,
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=selectors.of_labels(spec.get("nodeSelector")),
        required_terms=None if required is None else tuple(map(_node_term, required.get("nodeSelectorTerms") or ())),
        preferred_terms=tuple(
            (term["weight"], _node_term(term["preference"]))
            for term in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        spread=tuple(_spread(constraint, labels) for constraint in spec.get("topologySpreadConstraints") or ()),
        affinity=_terms(pods, namespace, labels),
        anti_affinity=_terms(anti, namespace, labels),
        preferred_affinity=(*_weighted(pods, namespace, labels, 1), *_weighted(anti, namespace, labels, -1)),
        claims=tuple(_claims(pod)),
    )


def normal_image(name: str) -> str:
    """With `:latest` where there is no tag, as nodes report their images."""
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"


def amounts(resources: Mapping[str, Any]) -> dict[str, int]:
    """A resource list as numbers: cpu in milli-cores, the rest in whole units."""
    parsed = {name: quantity.from_json(amount) for name, amount in resources.items()}
    return {name: amount.milli if name == "cpu" else amount.value for name, amount in parsed.items()}


def _owner(meta: Object) -> str:
    return next((str(ref.get("uid")) for ref in meta.get("ownerReferences") or () if ref.get("controller")), "")


def _claims(pod: Object) -> Iterator[Use]:
    for volume in pod["spec"].get("volumes") or ():
        if name := storage.claim_name(pod, volume):
            yield Use(name, pod["metadata"]["uid"], pod["metadata"]["name"]) if volume.get("ephemeral") else Use(name)


def _requests(spec: Object) -> dict[str, int]:
    """Containers at the worst moment, or what the pod asks for as a whole (KEP-2837), and its overhead."""
    total = amounts(total_requests(spec))
    whole = (spec.get("resources") or {}).get("requests") or {}
    total |= amounts({name: amount for name, amount in whole.items() if is_pod_level(name)})
    for name, amount in amounts(spec.get("overhead") or {}).items():
        total[name] = total.get(name, 0) + amount
    return total


def _with_defaults(spec: Object) -> Object:
    def container(one: Object) -> Object:
        asked = (one.get("resources") or {}).get("requests") or {}
        defaults = {"cpu": f"{DEFAULT_CPU}m", "memory": str(DEFAULT_MEMORY)}
        return {**one, "resources": {"requests": {**defaults, **asked}}}

    kinds = {kind: [container(one) for one in spec[kind]] for kind in ("containers", "initContainers") if spec.get(kind)}
    return {**spec, **kinds}


def _ports(spec: Object) -> tuple[Port, ...]:
    """Plain init containers end before the pod runs: theirs do not count."""
    running = [*spec["containers"], *filter(is_sidecar, spec.get("initContainers") or ())]
    return tuple(
        Port(port.get("protocol") or "TCP", port["hostPort"], port.get("hostIP") or ANY_IP)
        for container in running
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _node_term(term: Object) -> NodeTerm:
    return NodeTerm(
        selectors.of_expressions(term.get("matchExpressions") or ()), selectors.of_expressions(term.get("matchFields") or ())
    )


def _spread(constraint: Object, labels: Mapping[str, str]) -> SpreadConstraint:
    return SpreadConstraint(
        max_skew=constraint["maxSkew"],
        topology_key=constraint["topologyKey"],
        selector=_selector(constraint, labels),
        hard=constraint["whenUnsatisfiable"] == "DoNotSchedule",
        min_domains=constraint.get("minDomains") or 1,
        honor_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
        honor_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def _selector(term: Object, labels: Mapping[str, str]) -> LabelSelector:
    """With the pod's own values of matchLabelKeys and without those of mismatchLabelKeys (KEP-3243, KEP-3633)."""
    selector = selectors.of_object(term.get("labelSelector"))
    same = [
        selectors.Requirement(key, selectors.IN, (labels[key],)) for key in term.get("matchLabelKeys") or () if key in labels
    ]
    other = [
        selectors.Requirement(key, selectors.NOT_IN, (labels[key],))
        for key in term.get("mismatchLabelKeys") or ()
        if key in labels
    ]
    if selector.nothing or (not same and not other):
        return selector
    return LabelSelector((*selector.requirements, *same, *other))


def _terms(affinity: Object, namespace: str, labels: Mapping[str, str]) -> tuple[AffinityTerm, ...]:
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(term, namespace, labels, 0) for term in terms)


def _weighted(affinity: Object, namespace: str, labels: Mapping[str, str], sign: int) -> tuple[AffinityTerm, ...]:
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(term["podAffinityTerm"], namespace, labels, sign * term["weight"]) for term in terms)


def _term(term: Object, namespace: str, labels: Mapping[str, str], weight: int) -> AffinityTerm:
    names, selector = term.get("namespaces") or (), term.get("namespaceSelector")
    return AffinityTerm(
        selector=_selector(term, labels),
        topology_key=term["topologyKey"],
        namespaces=frozenset(names or (() if selector is not None else (namespace,))),
        namespace_selector=selectors.of_object(selector),
        weight=weight,
    )
