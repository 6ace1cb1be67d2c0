"""The head office, composed: store, API server, scheduler and controllers in one asyncio process, and an agent beside it.

No logic here: who is built of what, in which order parts start and stop, and the lines that a user reads meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random, SystemRandom
from types import SimpleNamespace

from aiohttp import web

from minik8s import KUBERNETES_VERSION, config, security
from minik8s.api.user import User
from minik8s.apiserver import agents, authn, health, pages
from minik8s.apiserver.aggregation.trust import CLIENT_NAME
from minik8s.apiserver.allocation import Network
from minik8s.apiserver.authn.connections import Connections
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.flowcontrol import pages as flow_pages
from minik8s.apiserver.http import Authenticate, HttpFace, PageHandler
from minik8s.apiserver.metrics import RequestMetrics, watch_database
from minik8s.apiserver.provision import provision_cluster_info, provision_services, provision_storage, provision_trust
from minik8s.base import jointoken, memory, systemd
from minik8s.base.children import keep_running
from minik8s.base.clock import Clock, RealClock
from minik8s.base.host import default_address, node_name
from minik8s.base.logging import configure
from minik8s.base.pki import ClusterPKI, parse_request
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner
from minik8s.client import kubeconfig
from minik8s.controllers.manager import ControllerSettings, Start
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store import open_store
from minik8s.store.base import StoreError

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """The server can't start; the text is one clear line."""


def run(options: SimpleNamespace) -> int:
    """Runs a server until it is told to end; the process's exit code."""
    configure(options.log_level, options.log_format)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, RealClock(), SystemRandom()))


async def _serve(options: SimpleNamespace, clock: Clock, rng: Random) -> int:
    tell = systemd.notifier()
    async with AsyncExitStack() as stack:
        await start(options, clock, rng, stack)
        tell(systemd.READY)
        await _told_to_end()
        tell(systemd.STOPPING)
        print("minik8s: stopping", flush=True)
    return 0


async def start(options: SimpleNamespace, clock: Clock, rng: Random, stack: AsyncExitStack) -> None:
    """Starts every part in order; the stack ends them in the reverse one. StartFailed says in a line what hinders it."""
    data: Path = options.data_dir
    with _one_line(f"cannot use the data directory {data}"):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        pki = ClusterPKI.load_or_create(data / "tls", clock)
        token = jointoken.load_or_create(data / "token", "server", pki.server_ca.pair.certificate, options.token)
        agent_token = jointoken.load_or_create(
            data / "agent-token", "node", pki.server_ca.pair.certificate, options.agent_token or token.secret
        )
        admin_token = authn.admin_token(data / "admin-token")
        own = jointoken.token_for(secrets.token_hex(32), jointoken.NODE, pki.server_ca.pair.certificate)
    with _one_line("cannot open the store"):
        store = await open_store(options.datastore_endpoint, data / "state.db", clock)
    stack.push_async_callback(store.close)
    _say("etcd", f"{options.datastore_endpoint or 'sqlite'} in {data}")
    beside = Owner("beside", on_failure=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    stack.push_async_callback(beside.stop)
    if not options.disable_agent:  # at once: it loads while the rest starts, and waits for it
        beside.start(_agent_beside(options, str(own), clock), "agent")

    networks = [ipaddress.ip_network(text) for text in options.service_cidr.split(",")]
    with _one_line("cannot use the proxies"):
        proxies = Proxies.of(os.environ)
    with _one_line("cannot set up access"):
        listed, issuers, pod_security = (
            security.listed_tokens(options),
            security.issuers(options, proxies, clock, stack),
            security.pod_security(options),
        )
    settings = Settings(
        service_networks=networks,
        proxies=proxies,
        seats=options.max_requests_inflight + options.max_mutating_requests_inflight,
        service_account_key=pki.service_account_key,
        static_tokens=authn.static_tokens(admin_token, token, agent_token, own=own, listed=listed),
        issuers=issuers,
        pod_security=pod_security,
        not_ready_toleration=options.default_not_ready_toleration_seconds,
        unreachable_toleration=options.default_unreachable_toleration_seconds,
        front_proxy=str(pki.front_proxy(CLIENT_NAME)),
        metrics_api="metrics-server" not in options.disable,
        controller_settings=ControllerSettings(
            root_ca=pki.server_ca.pair.certificate.decode(),
            cluster_cidr=options.cluster_cidr,
            node_monitor_grace_period=options.node_monitor_grace_period,
            event_ttl=options.event_ttl,
            sign=lambda request, usages, seconds: pki.client_ca.sign(parse_request(request), usages, seconds),
            sign_serving=lambda request, usages, seconds: pki.server_ca.sign(parse_request(request), usages, seconds),
        ),
    )
    plane = ControlPlane(store, clock, rng, settings)
    watch_database(plane.metrics, data / "state.db")
    with _one_line("cannot write an audit log"):
        await security.audit(options, plane, stack)
    owner = Owner("server", on_failure=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    stack.push_async_callback(owner.stop)
    await plane.start_api(owner)

    name = options.node_name or node_name()
    address = options.advertise_address or options.node_ip or default_address()
    told = cluster_config(options, networks[0])
    url = f"https://{_bracketed(address)}:{options.https_listen_port}"
    await asyncio.gather(  # what is written together is on the disk together
        *([] if "local-storage" in options.disable else [provision_storage(plane.desk)]),
        provision_trust(plane.desk, pki.client_ca.pair.certificate, pki.front_proxy_ca.pair.certificate),
        provision_services(plane.desk, str(networks[0][1]), address, options.https_listen_port, str(told["clusterDNS"])),
        provision_cluster_info(plane.desk, url, pki.server_ca.pair.certificate),
    )
    tunnels = plane.tunnels
    connector = Connector(plane.desk.reader, tunnels, rng)
    stack.push_async_callback(plane.caller.close)
    face = HttpFace(
        plane.desk,
        authenticate_with(plane.authenticator),
        _pages(plane, f"{address}:{options.https_listen_port}") | agents.pages(tunnels, pki.server_ca.pair.certificate, told),
        connector,
        RequestMetrics(plane.metrics),
        plane.aggregation,
    )
    names = ("localhost", "127.0.0.1", name, address, str(networks[0][1]), *_KUBERNETES_NAMES, *options.tls_san)
    tls = pki.server_context(names)
    await _listen(face, options, tls, stack)
    owner.start(_keep_serving(tls, pki, names), "certificate")
    stack.push_async_callback(tunnels.close)  # before the listener, which would wait for them
    access = _admin_access(pki, options.https_listen_port)
    for file in filter(None, (data / "admin.kubeconfig", options.write_kubeconfig)):
        with _one_line(f"cannot write {file}"):
            kubeconfig.write(Path(file), access)
    _say("kube-apiserver", f"https://{address}:{options.https_listen_port}")
    if "scheduler" not in options.disable:
        await plane.start_scheduler(owner, stack)
        _say("kube-scheduler", "batches of pods, one snapshot each")
    ours, clouds = _controllers(options.disable)
    if ours or clouds:
        await plane.start_controllers(stack, ours | clouds)
    if "controller-manager" not in options.disable:
        _say("kube-controller-manager", f"{len(ours)} controllers")
    if "cloud-controller" not in options.disable:
        _say("cloud-controller-manager", "provider local: load balancers get the nodes' addresses")
    if options.simulated_nodes:
        await _simulate(plane, options.simulated_nodes, lease_seconds(options), stack)
        _say("simulated nodes", f"{options.simulated_nodes}, which only pretend to run pods")
    stack.push_async_callback(beside.stop)  # the agent ends first, while there is a server to tell
    owner.start(memory.tend(clock), "memory")
    print(f"\n  kubectl --kubeconfig {data / 'admin.kubeconfig'} get nodes", flush=True)
    print(
        f"  minik8s agent --server https://{address}:{options.https_listen_port} --token $(sudo cat {data / 'agent-token'})\n",
        flush=True,
    )


_KUBERNETES_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


def authenticate_with(authenticator: authn.Authenticator) -> Authenticate:
    """How a connection's certificate, its peer and a request's header become a user."""

    connections = Connections()

    def authenticate(http: web.BaseRequest) -> User:
        certificate, peer = connections.users(http.transport) if http.transport is not None else (None, None)
        return authenticator.authenticate(http.headers.get("Authorization"), certificate, peer)

    return authenticate


async def _listen(face: HttpFace, options: SimpleNamespace, tls: ssl.SSLContext, stack: AsyncExitStack) -> None:
    """Opens the TLS port and the unix socket."""
    loop = asyncio.get_running_loop()
    protocol = face.server()
    port, host = options.https_listen_port, options.bind_address
    with _one_line(f"cannot listen on {host}:{port}"):
        listener = await loop.create_server(protocol, host, port, ssl=tls, backlog=1024)
    socket_path = options.data_dir / "api.sock"
    socket_path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        local = await loop.create_unix_server(protocol, str(socket_path))
    finally:
        os.umask(before)

    async def close() -> None:
        listener.close()
        local.close()
        lines = [each.transport for each in protocol.connections]
        await protocol.shutdown(timeout=0.5)  # writes under way are answered, watches just end
        for line in lines:
            if line is not None:
                line.abort()  # else an idle client's TLS would wait for its last word
        await asyncio.sleep(0)

    stack.push_async_callback(close)


async def _keep_serving(tls: ssl.SSLContext, pki: ClusterPKI, names: tuple[str, ...]) -> None:
    """Renews the certificate that is shown, long before it ends; who connects from then on sees the new one."""
    while True:
        await pki.clock.sleep(min(max(pki.renewal(), HOUR), DAY))  # a clock that was set is noticed
        if not pki.renewal():
            tls.load_cert_chain(*pki.serving(names))


HOUR, DAY = 3600.0, 24 * 3600.0


def _pages(plane: ControlPlane, address: str) -> dict[str, PageHandler]:
    probes, accounts = health.checks(plane.desk.cache.failure), plane.authenticator.accounts
    resources = plane.pod_resources
    own = pages.pages(probes, plane.metrics, accounts, plane.desk.catalogue, address, plane.aggregation, resources)
    return own | flow_pages.pages(plane.desk.flow, plane.clock)


async def _simulate(plane: ControlPlane, count: int, lease: int, stack: AsyncExitStack) -> None:
    from minik8s.kubelet.simulated import SimulatedNodes

    nodes = SimulatedNodes(plane.client, plane.clock, plane.rng, KUBERNETES_VERSION, lease)
    stack.push_async_callback(nodes.stop)
    for number in range(count):
        node = nodes.make(f"simulated-{number}")
        await node.start()
        if plane.usage is not None:
            plane.usage.sources[node.name] = node.usage.summary


def _controllers(disabled: Collection[str]) -> tuple[dict[str, Start], dict[str, Start]]:
    """The controllers of both managers that are not switched off. They are loaded here: the API is served by then."""
    from minik8s import cloud
    from minik8s.controllers.table import CONTROLLERS

    ours = {} if "controller-manager" in disabled else dict(CONTROLLERS)
    if "local-storage" in disabled:
        ours.pop("local-path-provisioner", None)
    return ours, {} if "cloud-controller" in disabled else dict(cloud.controllers())


def cluster_config(options: SimpleNamespace, services: Network) -> dict[str, str | int]:
    """What agents are told."""
    return {
        "clusterDNS": options.cluster_dns or str(services[10]),
        "clusterDomain": options.cluster_domain,
        "clusterCIDR": options.cluster_cidr,
        "serviceCIDR": options.service_cidr,
        "nodeLeaseDurationSeconds": lease_seconds(options),
    }


def lease_seconds(options: SimpleNamespace) -> int:
    """How long nodes' leases last: they are renewed often enough for the grace period."""
    return max(1, int(options.node_monitor_grace_period))


async def _agent_beside(options: SimpleNamespace, token: str, clock: Clock) -> None:
    """Runs an agent as a child process, again when it ends. It ends with us."""
    arguments = [sys.executable, "-m", "minik8s", "agent"]
    arguments += ["--server", f"https://127.0.0.1:{options.https_listen_port}", "--data-dir", str(options.data_dir)]
    for option in config.options_of(config.AGENT):
        value = getattr(options, option.key, None)
        if option.name in _NOT_PASSED_ON or not value or value == option.default:
            continue
        for single in value if option.many else (value,):
            arguments += [f"--{option.name}", str(single)]
    environment = os.environ | {"MINIK8S_TOKEN": token, "MINIK8S_CONFIG": "", config.PARENT: str(os.getpid())}
    await keep_running("the agent", arguments, environment, clock)


_NOT_PASSED_ON = {"server", "token", "data-dir", "config"}


def _admin_access(pki: ClusterPKI, port: int) -> kubeconfig.Access:
    pair = pki.client_ca.client("minik8s-admin", ("system:masters",))
    return kubeconfig.Access(f"https://127.0.0.1:{port}", pki.server_ca.pair.certificate, pair.certificate, pair.key)


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Errors that a user can do something about, in one line."""
    try:
        yield
    except OSError as error:
        raise StartFailed(f"{what}: {error.strerror or error}") from None
    except (StoreError, ValueError) as error:
        raise StartFailed(f"{what}: {error}") from None


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _say(part: str, text: str) -> None:
    print(f"{part:<26}{text}", flush=True)


async def _told_to_end() -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    await end.wait()
