"""What a container says when it ends: its termination message file, or the end of its log.

Source: v1.Container.terminationMessagePath and terminationMessagePolicy; golden/node/hooks.
"""

from __future__ import annotations

from minik8s.kubelet.layout import Layout
from minik8s.kubelet.logs import last_lines
from minik8s.kubelet.pod import ContainerSpec, Pod, all_containers, uid
from minik8s.runtime.base import Container

MAX_MESSAGE = 4096
MAX_OF_POD = 12 * 1024
MAX_FROM_LOG, MAX_LINES = 2048, 80


def termination_message(layout: Layout, pod: Pod, spec: ContainerSpec, ended: Container) -> str:
    """The end of the message (of a pod with many containers each may say less); empty where there is none."""
    limit = min(MAX_MESSAGE, MAX_OF_POD // max(sum(1 for _ in all_containers(pod)), 1))
    path = layout.message(uid(pod), ended.name, ended.attempt)
    if path.is_file():
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - limit, 0))
            text = file.read(limit).decode(errors="replace")
        if text:
            return text
    if spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and ended.exit_code != 0:
        log = layout.log(pod, ended.name, ended.attempt)
        return last_lines(log, MAX_LINES, min(MAX_FROM_LOG, limit))
    return ""
