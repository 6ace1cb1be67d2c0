"""For all tests: hypothesis judges answers, never the machine's speed; e2e runs are counted for each container runtime."""

from hypothesis import HealthCheck, settings

settings.register_profile("minik8s", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("minik8s")

pytest_plugins = ["runs_per_runtime"]
