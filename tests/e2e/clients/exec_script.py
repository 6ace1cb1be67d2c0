"""What Python clients do with a pod's container over WebSocket: exec with input, exit codes, port-forward, logs. test_exec.py runs it on
the server's machine. Arguments: which client, kubeconfig, namespace, a pod with a shell that serves HTTP on port 8080. Each client has a
process of its own: threads that the official one leaves behind still read file descriptors that are others' by then.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import urllib.request
import warnings
from typing import Any

import kr8s
import lightkube
from kr8s.asyncio.objects import Pod
from kubernetes import client, config
from kubernetes.stream import portforward, stream
from lightkube import KubeConfig
from lightkube.resources.core_v1 import Pod as LightPod


def official(kubeconfig: str, namespace: str, pod: str) -> None:
    core = client.CoreV1Api(config.new_client_from_config(kubeconfig))
    ask: dict[str, Any] = {"stdout": True, "stderr": True, "_preload_content": False}
    command = ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 3"]
    running = stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command, stdin=True, **ask)
    running.write_stdin("words\n")
    running.run_forever(timeout=20)
    assert (running.read_stdout(), running.read_stderr(), running.returncode) == ("got words\n", "oops\n", 3)
    assert stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=["echo", "a b"], stdout=True) == "a b\n"
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8080")
    socket = forward.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := socket.recv(4096):
        answer += chunk
    assert b"hello" in answer, answer
    assert core.read_namespaced_pod_log(pod, namespace, _preload_content=False).data == b"started\n"


async def of_kr8s(kubeconfig: str, namespace: str, pod: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=kubeconfig)
    found = await Pod.get(pod, namespace=namespace, api=api)
    done = await found.exec(["sh", "-c", "echo out; echo err >&2; exit 4"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 4), done
    async with found.portforward(remote_port=8080, local_port="auto") as port:
        loop = asyncio.get_running_loop()
        page = await loop.run_in_executor(None, lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read())
        assert page == b"hello\n"
    assert [line async for line in found.logs()] == ["started"]


def of_lightkube(kubeconfig: str, namespace: str, pod: str) -> None:
    api = lightkube.Client(KubeConfig.from_file(kubeconfig))
    command = ["sh", "-c", "cat; echo err >&2"]
    done = api.exec(pod, command=command, namespace=namespace, stdin="in\n", stdout=True, stderr=True)
    assert (done.stdout, done.stderr) == ("in\n", "err\n"), done
    assert list(api.log(pod, namespace=namespace)) == ["started\n"]
    assert api.get(LightPod, pod, namespace=namespace).status.phase == "Running"


if __name__ == "__main__":
    faulthandler.dump_traceback_later(20, exit=True)
    warnings.simplefilter("ignore")  # kr8s has not met this version
    which, *arguments = sys.argv[1:]
    if which == "official":
        official(*arguments)
    elif which == "kr8s":
        asyncio.run(of_kr8s(*arguments))
    else:
        of_lightkube(*arguments)
