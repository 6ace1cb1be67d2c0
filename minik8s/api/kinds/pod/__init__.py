"""Pods: defaults, validation, what may change, subresources, printing."""
