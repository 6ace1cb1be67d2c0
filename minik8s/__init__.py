"""A Kubernetes that fits in one Python program. ARCHITECTURE.md is the map."""

VERSION = "0.1.0"

KUBERNETES_VERSION = "v1.36.2"
"""The API level that minik8s speaks and reports at /version (minor versions follow upstream's)."""
