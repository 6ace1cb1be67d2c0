"""The plugins in use. Filters are asked in this order and the first that fails speaks for the node; weights are upstream's.

Not here: NodeName (a pod that names its node is not for the scheduler), preemption.
"""

from __future__ import annotations

from minik8s.scheduler.framework import (
    AroundFilter,
    AroundScore,
    NodeFilter,
    NodeScore,
    PreFilter,
    StaticFilter,
    StaticScore,
    ZoneScore,
    as_it_is,
    proportional,
    reversed_proportional,
)
from minik8s.scheduler.plugins import (
    image_locality,
    inter_pod_affinity,
    node_affinity,
    node_ports,
    node_resources,
    owner_spread,
    pod_topology_spread,
    taint_toleration,
    volume_binding,
    volume_limits,
    volume_restrictions,
)

PRE_FILTERS = (PreFilter("VolumeBinding", volume_binding.hopeless),)
STATIC_FILTERS = (
    StaticFilter("NodeUnschedulable", taint_toleration.check_unschedulable),
    StaticFilter("TaintToleration", taint_toleration.check_taints),
    StaticFilter("NodeAffinity", node_affinity.check),
)
NODE_FILTERS = (
    NodeFilter("NodePorts", node_ports.check),
    NodeFilter("NodeResourcesFit", node_resources.check),
)
AROUND_FILTERS = (
    AroundFilter("VolumeRestrictions", volume_restrictions.check),
    AroundFilter("NodeVolumeLimits", volume_limits.check),
    AroundFilter("VolumeBinding", volume_binding.check),
    AroundFilter("PodTopologySpread", pod_topology_spread.hard),
    AroundFilter("InterPodAffinity", inter_pod_affinity.required),
)

STATIC_SCORES = (
    StaticScore("TaintToleration", 3, taint_toleration.count_soft, reversed_proportional),
    StaticScore("NodeAffinity", 2, node_affinity.preferred, proportional),
    StaticScore("ImageLocality", 1, image_locality.score, as_it_is),
)
NODE_SCORES = (
    NodeScore("NodeResourcesFit", 1, node_resources.least_allocated),
    NodeScore("NodeResourcesBalancedAllocation", 1, node_resources.balanced_allocation),
    NodeScore("OwnerSpread", 1, owner_spread.over_nodes),
)
ZONE_SCORES = (ZoneScore("OwnerSpread", 1, owner_spread.over_zones),)
AROUND_SCORES = (
    AroundScore("PodTopologySpread", 2, pod_topology_spread.soft),
    AroundScore("InterPodAffinity", 2, inter_pod_affinity.preferred),
)
