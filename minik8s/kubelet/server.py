"""The kubelet's own HTTP API, reached through the tunnel alone (so whoever comes was let in by the API server).

    /containerLogs/NS/POD/CONTAINER   as v1.PodLogOptions: follow, previous, tailLines, limitBytes, sinceSeconds, sinceTime, timestamps
    /exec/NS/POD/CONTAINER            WebSocket (channels.py) or SPDY (spdychannels.py): command (repeated), stdin, stdout, stderr, tty
    /attach/NS/POD/CONTAINER          WebSocket or SPDY: stdin, stdout, stderr, tty
    /portForward/NS/POD               WebSocket: ports (repeated, or with commas), or SPDY in it (forwarding.py); or SPDY
    /stats/summary  /metrics/resource  /metrics/cadvisor      what node, pods and containers use (usage.py)
    /pods  /healthz  /metrics

Errors are a JSON Status that the API server can pass on as it is. Names and values of parameters are the API's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson
from aiohttp import web

from minik8s.api.errors import ApiError, BadRequest, InternalError, NotFound
from minik8s.base.clock import parse_time
from minik8s.base.upgraded import TakenOver
from minik8s.kubelet import spdychannels
from minik8s.kubelet.channels import ERROR, STDERR, STDIN, STDOUT, Channels, failure, forward_ports, run_command
from minik8s.kubelet.forwarding import PROTOCOL, tunnel
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.logs import LogOptions, read_log
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.pod import Pod, find_container, told_containers
from minik8s.kubelet.spdychannels import SpdyChannels
from minik8s.kubelet.status import default_reason
from minik8s.kubelet.usage import Collector, machine_usage
from minik8s.kubelet.usage_text import cadvisor_text, resource_text
from minik8s.kubelet.worker import Worker
from minik8s.runtime.base import Container, RuntimeFailed, State, Streams

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(kubelet: Kubelet, machine: Machine | None = None) -> web.Application:
    """The aiohttp application; `web.AppRunner(app).server` makes the protocols that the tunnel serves. `machine`: the real one that
    the kubelet is on.
    """
    api = _Api(kubelet, machine)
    app = web.Application(middlewares=[_errors])
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", api.logs)
    for verb, handler in (("exec", api.exec), ("attach", api.attach)):
        app.router.add_route("*", f"/{verb}/{{namespace}}/{{pod}}/{{container}}", handler)
    app.router.add_route("*", "/portForward/{namespace}/{pod}", api.port_forward)
    app.router.add_get("/pods", api.pods)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/stats/summary", api.summary)
    app.router.add_get("/metrics/resource", api.resource_metrics)
    app.router.add_get("/metrics/cadvisor", api.cadvisor_metrics)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        body = orjson.dumps(error.to_status())
        return web.Response(body=body, status=error.status_code, content_type="application/json")
    except RuntimeFailed as error:
        body = orjson.dumps(InternalError(str(error)).to_status())
        return web.Response(body=body, status=500, content_type="application/json")


class _Api:
    def __init__(self, kubelet: Kubelet, machine: Machine | None) -> None:
        self._kubelet, self._machine = kubelet, machine
        self._usage = Collector(kubelet, machine_usage if machine else None)

    # --- logs ---

    async def logs(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        name = request.match_info["container"]
        run = _run_of(worker, name, previous=_flag(request, "previous"))
        options = _log_options(request, self._kubelet.clock.now())
        path = self._kubelet.site.layout.log(worker.pod, name, run.attempt)
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        try:
            async for chunk in read_log(path, options, lambda: worker.until_ended(run.id)):
                await answer.write(chunk)
        except FileNotFoundError:
            pass  # it never wrote any
        except ConnectionResetError:
            return answer  # who followed it has left
        await answer.write_eof()
        return answer

    # --- streams ---

    async def exec(self, request: web.Request) -> web.StreamResponse:
        running = self._running(request)
        command = request.query.getall("command", [])
        if not command:
            raise BadRequest("you must specify at least one command for the container")
        stdin, tty = _flag(request, "stdin"), _flag(request, "tty")
        runtime = self._kubelet.runtime

        def begin() -> Awaitable[Streams]:
            return runtime.exec(running.id, command, stdin=stdin, tty=tty)

        return await self._join(request, begin, "executing command in", command, stdin=stdin, tty=tty)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        running = self._running(request)
        found = find_container(self._worker(request).pod, running.name)
        stdin = _flag(request, "stdin") and bool(found and found[1].get("stdin"))
        tty = bool(found and found[1].get("tty"))
        runtime = self._kubelet.runtime

        def begin() -> Awaitable[Streams]:
            return runtime.attach(running.id, stdin=stdin)

        return await self._join(request, begin, "attaching to", [], stdin=stdin, tty=tty)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        sandbox = worker.seen.sandbox
        if sandbox is None or not sandbox.ready:
            raise BadRequest(f'pod "{request.match_info["pod"]}" is not running')
        runtime, sandbox_id = self._kubelet.runtime, sandbox.id
        if spdychannels.is_asked_for(request):
            return await spdychannels.forward_ports(request, lambda port: runtime.port_forward(sandbox_id, port))
        if PROTOCOL in request.headers.get("Sec-WebSocket-Protocol", ""):
            return await tunnel(request, lambda port: runtime.port_forward(sandbox_id, port))
        texts = [text for value in request.query.getall("ports", []) for text in value.split(",")]
        if not texts or not all(text.isdecimal() and 0 < int(text) < 65536 for text in texts):
            raise BadRequest('query parameter "ports" must name ports between 1 and 65535')
        channels = await Channels.accept(request)
        await forward_ports(channels, [int(t) for t in texts], lambda port: runtime.port_forward(sandbox_id, port))
        return channels.response

    async def _join(
        self,
        request: web.Request,
        begin: Callable[[], Awaitable[Streams]],
        doing: str,
        command: Sequence[str],
        *,
        stdin: bool,
        tty: bool,
    ) -> web.StreamResponse:
        """Joins what begins to the client. The client is there first: only so it hears why nothing could begin."""
        outputs = _outputs(request, tty)
        channels: Channels | SpdyChannels
        if spdychannels.is_asked_for(request):
            asked = {STDIN} if _flag(request, "stdin") else set()
            try:
                channels = await SpdyChannels.accept(request, asked | outputs | {ERROR}, self._kubelet.clock)
            except ConnectionError:
                return TakenOver()
        else:
            channels = await Channels.accept(request)
        try:
            streams = await begin()
        except RuntimeFailed as error:
            await channels.finish(failure(f"Internal error occurred: error {doing} container: {error}"))
        else:
            await run_command(channels, streams, command, stdin=stdin, outputs=outputs)
        return channels.response

    # --- the node ---

    async def pods(self, _: web.Request) -> web.Response:
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._kubelet.pods()}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def healthz(self, _: web.Request) -> web.Response:
        problem = await self._kubelet.runtime.ready()
        return web.Response(text=problem or "ok", status=500 if problem else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics_text(self._kubelet), content_type="text/plain")

    async def summary(self, request: web.Request) -> web.Response:
        found = await self._usage.summary(brief=_flag(request, "only_cpu_and_memory"))
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def resource_metrics(self, _: web.Request) -> web.Response:
        return _prometheus(resource_text(await self._usage.snapshot(details=True)))

    async def cadvisor_metrics(self, _: web.Request) -> web.Response:
        found = await self._usage.snapshot(details=True)
        return _prometheus(cadvisor_text(found, self._machine, self._kubelet.site.memory))

    # --- finding ---

    def _worker(self, request: web.Request) -> Worker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._kubelet.worker(namespace, name)
        if worker is None:
            raise NotFound(f'pods "{name}" not found', {"name": name, "kind": "pods"})
        container = request.match_info.get("container")
        if container is not None and find_container(worker.pod, container) is None:
            raise NotFound(f'container "{container}" not found in pod "{name}"')
        return worker

    def _running(self, request: web.Request) -> Container:
        name = request.match_info["container"]
        current = self._worker(request).seen.latest(name)
        if current is None or current.state is not State.RUNNING:
            raise BadRequest(f'container not found ("{name}")')
        return current


def _prometheus(text: str) -> web.Response:
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _run_of(worker: Worker, name: str, *, previous: bool) -> Container:
    """The run of a container whose log is asked for. BadRequest, in upstream's words, where there is none."""
    pod = worker.pod["metadata"]["name"]
    runs, waiting = worker.seen.of(name), worker.waiting_reason(name)
    if previous:
        before = runs if waiting else runs[1:]
        if not before:
            raise BadRequest(f'previous terminated container "{name}" in pod "{pod}" not found')
        return before[0]
    if runs and runs[0].state in (State.RUNNING, State.EXITED):
        return runs[0]
    if removed := _ended_id(worker.pod, name):
        raise BadRequest(f"unable to retrieve container logs for {removed}")
    found = find_container(worker.pod, name)
    assert found is not None
    reason = _PULLING.get(waiting, waiting) or default_reason(worker.pod, found[0])
    raise BadRequest(f'container "{name}" in pod "{pod}" is waiting to start: {reason}')


def _ended_id(pod: Pod, name: str) -> str:
    """The id of a container that ended, as the pod's status tells it; empty where it does not say so."""
    found = next((s for s in told_containers(pod.get("status") or {}) if s["name"] == name), {})
    return str(((found.get("state") or {}).get("terminated") or {}).get("containerID") or "")


_PULLING = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


def _log_options(request: web.Request, now: float) -> LogOptions:
    query = request.query
    since: float | None = None
    try:
        if "sinceSeconds" in query:
            since = now - int(query["sinceSeconds"])
        elif "sinceTime" in query:
            since = parse_time(query["sinceTime"])
        return LogOptions(
            follow=_flag(request, "follow"),
            tail_lines=int(query["tailLines"]) if "tailLines" in query else None,
            limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
            since=since,
            timestamps=_flag(request, "timestamps"),
        )
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _flag(request: web.Request, name: str) -> bool:
    """As the API reads booleans: anything but false, 0 and nothing is true."""
    return request.query.get(name, "false").lower() not in ("", "0", "f", "false")


def _outputs(request: web.Request, tty: bool) -> set[int]:
    return ({STDOUT} if _flag(request, "stdout") else set()) | ({STDERR} if _flag(request, "stderr") and not tty else set())


def metrics_text(kubelet: Kubelet) -> str:
    """Upstream's names, the few that are of use here."""
    workers = kubelet.workers()
    running = sum(1 for w in workers if w.seen.sandbox is not None and w.seen.sandbox.ready)
    states = {state: sum(1 for w in workers for c in w.seen.containers if c.state is state) for state in State}
    lines = [
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox",
        "# TYPE kubelet_running_pods gauge",
        f"kubelet_running_pods {running}",
        "# HELP kubelet_running_containers Number of containers by state",
        "# TYPE kubelet_running_containers gauge",
        *(f'kubelet_running_containers{{container_state="{state.lower()}"}} {count}' for state, count in states.items()),
    ]
    return "\n".join(lines) + "\n"
