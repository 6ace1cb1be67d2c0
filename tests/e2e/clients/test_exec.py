"""exec, port-forward and logs of Python clients, in a real container on each runtime."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from clusters import Cluster, Kubectl, busybox, pod

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def test_exec_and_port_forward(cluster: Cluster) -> None:
    k = Kubectl(cluster.machine, cluster.kubectl.kubeconfig, "exec-clients")
    k("create", "namespace", k.namespace)
    k.apply(pod("p", busybox("mkdir /www; echo hello > /www/index.html; echo started; exec httpd -f -p 8080 -h /www")))
    k.ready("p")
    script = Path(__file__).with_name("exec_script.py")
    for which in ("official", "kr8s", "lightkube"):
        done = cluster.machine.run(sys.executable, script, which, k.kubeconfig, k.namespace, "p")
        assert done.returncode == 0, done.stderr
    k("delete", "namespace", k.namespace, "--wait=false")
