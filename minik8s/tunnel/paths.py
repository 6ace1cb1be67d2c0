"""Paths at a server that are agents' own, beside the Kubernetes API."""

from __future__ import annotations

TUNNEL = "/minik8s/v1/tunnel"
"""Where an agent's line arrives."""
CONFIG = "/minik8s/v1/config"
"""What a server tells its nodes, as JSON: clusterDNS, clusterDomain, clusterCIDR, serviceCIDR, nodeLeaseDurationSeconds."""
CA = "/cacerts"
"""The server's authority (PEM), for whoever has a token that pins it."""
AGENTS = frozenset((TUNNEL, CONFIG, CA))
