"""A branch office, composed: joins a server, then runs kubelet, runtime, network, proxy and DNS of one node.

No logic here: who is built of what, in which order parts start and stop, and the lines that a user reads meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random, SystemRandom
from types import SimpleNamespace

import aiohttp
from aiohttp import web

from minik8s import KUBERNETES_VERSION, config
from minik8s.api import quantity
from minik8s.api.resources import NODES
from minik8s.api.storage import LOCAL_DIRECTORY
from minik8s.base import lock, memory, nft, systemd
from minik8s.base.children import ended
from minik8s.base.clock import Clock, RealClock
from minik8s.base.host import default_address, node_name
from minik8s.base.logging import configure
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.http import HttpTransport
from minik8s.client.informer import Informers
from minik8s.client.kubeconfig import Access, ssl_context
from minik8s.dns.server import ClusterDns
from minik8s.kubelet import rootdir
from minik8s.kubelet.cgroups import has_hugetlb
from minik8s.kubelet.evictor import Evictor
from minik8s.kubelet.imagegc import ImageCollector
from minik8s.kubelet.imagegc import Policy as ImagePolicy
from minik8s.kubelet.inuse import InUse
from minik8s.kubelet.join import ClusterConfig, JoinFailed, Membership
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.loads import Machinery
from minik8s.kubelet.localpath import LocalPath
from minik8s.kubelet.machine import Machine, has_apparmor, inspect, threads
from minik8s.kubelet.node import NodeConfig, NodeReporter
from minik8s.kubelet.rotation import Policy, Rotation
from minik8s.kubelet.server import application
from minik8s.kubelet.settings import Settings
from minik8s.kubelet.settings import parse as parse_settings
from minik8s.kubelet.site import Site
from minik8s.network.pods import PodNetwork
from minik8s.proxy.proxy import Proxy
from minik8s.proxy.rules import Site as ProxySite
from minik8s.proxy.userspace import UserspaceProxy
from minik8s.runtime import http as image_api
from minik8s.runtime.base import Runtime, RuntimeFailed
from minik8s.runtime.choose import Options as RuntimeOptions
from minik8s.runtime.choose import choose, cni_directory
from minik8s.runtime.images.settings import Settings as RegistrySettings
from minik8s.runtime.images.settings import read_settings
from minik8s.tunnel.agent import Line, Targets, websocket

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
PREDECESSOR = 15.0
"""Seconds that another agent on the same data directory has to end in."""
AGAIN = -1
"""What `_serve` returns when the agent has to start anew (`Membership.until_outdated` says when). Containers run on."""


class AgentFailed(Exception):
    """The agent can't start; the text is one clear line."""


def run(options: SimpleNamespace) -> int:
    """Runs an agent until it is told to end; the process's exit code."""
    configure(options.log_level, options.log_format)
    _end_with_parent()
    import uvloop

    tell = systemd.notifier()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while (code := runner.run(_serve(options, tell, RealClock(), SystemRandom()))) == AGAIN:
            log.info("starting anew: the certificate is to be renewed, or the server has other settings")
        return code


async def _serve(options: SimpleNamespace, tell: Callable[[str], None], clock: Clock, rng: Random) -> int:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    ended = asyncio.ensure_future(end.wait())
    async with AsyncExitStack() as stack:
        starting = asyncio.ensure_future(start(options, clock, rng, stack))
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return 0
        membership = await starting
        tell(systemd.READY)
        outdated = asyncio.ensure_future(membership.until_outdated())
        await asyncio.wait((outdated, ended), return_when=asyncio.FIRST_COMPLETED)
        outdated.cancel()
        if end.is_set():
            tell(systemd.STOPPING)
    if end.is_set():
        return 0
    return AGAIN


async def start(options: SimpleNamespace, clock: Clock, rng: Random, stack: AsyncExitStack) -> Membership:
    """Joins and starts every part in order; the stack ends them in the reverse one. AgentFailed says in a line what hinders it."""
    name = options.node_name or node_name()
    directory: Path = options.data_dir / "agent"
    address = options.node_ip or default_address()
    root = os.geteuid() == 0
    with _one_line(options):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.callback(os.close, await _alone(directory / "lock", clock))
    settings = parse_settings(options.kubelet_arg)
    owner = Owner("agent", on_failure=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    stack.push_async_callback(owner.stop)
    registries, proxies = _registries(options.private_registry), _proxies()
    proxy = proxies.for_url(options.server)
    membership = Membership(options.server, options.token, name, directory / "tls", clock, rng, proxy)
    with _one_line(options):
        files = settings.root_dir or rootdir.default(
            options.data_dir, usual=root and options.data_dir == Path(config.default_data_dir())
        )
        rootdir.claim(files, options.data_dir, may_mount=root)
        stack.callback(rootdir.let_go, files)
        access = await membership.join()
        cluster = await membership.config(access)
        without = "it does not run as root" if not root else nft.missing()
        network = None if without else _network(name, directory, cluster, options, clock)
        chosen = RuntimeOptions(
            wanted=options.runtime,
            directory=directory / "runtime",
            cni=directory / "cni",
            hidden=(str(options.data_dir), str(files)),
            host_ips=(address,),
            attach=network.attach if network else None,
            detach=network.detach if network else None,
            registries=registries,
            proxies=_proxies(cluster),
        )
        runtime, described = await choose(chosen, clock, stack)
    _say("runtime", described)

    client = Client(HttpTransport(access, connections=0, proxy=proxy))
    stack.push_async_callback(client.close)
    informers = Informers(client, clock, rng, "agent")
    stack.push_async_callback(informers.stop)

    layout = Layout(files, directory / "logs", directory / "storage")
    keeps = "local-storage" not in options.disable
    machine = inspect(options.data_dir, settings)
    site = Site(
        node=name,
        layout=layout,
        host_ips=(address,),
        cluster_dns=(cluster.cluster_dns,) if network else (),
        cluster_domain=cluster.cluster_domain,
        cgroup_root=f"/minik8s-{name}" if root else "",
        capacity=machine.capacity,
        allocatable=machine.allocatable,
        together=settings.enforced({**machine.capacity, "pid": quantity.of(threads()[1])}),
        pod_pids=settings.pod_max_pids,
        unsafe_sysctls=settings.unsafe_sysctls,
        seccomp_default=settings.seccomp_default,
        apparmor=has_apparmor(),
        hugetlb=has_hugetlb(),
        root=root,
    )
    manifests = settings.manifests or directory / "pod-manifests"
    in_use = InUse()
    kubelet = Kubelet(site, runtime, client, informers, clock, rng, manifests=manifests, in_use=in_use)
    node = NodeConfig(
        name=name,
        addresses=(address,),
        machine=machine,
        version=f"{KUBERNETES_VERSION}+minik8s",
        pressure=lambda: kubelet.pressures,
        labels=dict(label.partition("=")[::2] for label in options.node_label),
        taints=[_taint(text) for text in options.node_taint],
        lease_seconds=cluster.lease_seconds,
        annotations={LOCAL_DIRECTORY: str(layout.storage)} if keeps else {},
    )
    if network is not None:
        await _prepare_network(network, runtime, stack)
    await kubelet.start()
    stack.push_async_callback(kubelet.stop)
    _keep_house(kubelet, settings, options, owner)
    _say("kubelet", f"pods' files in {layout.root}, logs in {layout.logs}")
    # Static pods run by now; from here on a server has to answer.
    if network is not None:
        await _follow_nodes(network, informers)
    reporter = NodeReporter(node, runtime, client, clock, in_use)
    await reporter.start()
    stack.push_async_callback(reporter.stop)
    _say("node", f"{name} ({address})")

    if keeps:
        local = LocalPath(name, layout, client, informers, clock)
        local.start()
        stack.push_async_callback(local.stop)
        _say("local-storage", f"claims in {layout.storage}")

    if "kube-proxy" not in options.disable:
        _start_proxy(name, cluster, informers, clock, rng, stack, without)
    if "coredns" not in options.disable:
        await _start_dns(cluster, informers, clock, rng, stack, without)
    await _connect(options, access, proxy, kubelet, machine, owner, clock, rng, stack)
    await _offer_images(runtime, directory, stack)
    return membership


def _keep_house(kubelet: Kubelet, settings: Settings, options: SimpleNamespace, owner: Owner) -> None:
    """Rotates logs, removes unused images, evicts pods where the node runs short of something."""
    size, files = settings.log_max_size or options.container_log_max_size, settings.log_max_files
    policy = Policy(quantity.parse(size).value, files or options.container_log_max_files)
    owner.start(Rotation(kubelet, policy).run(), "log-rotation")
    high, low = settings.image_gc_high, settings.image_gc_low
    images = ImagePolicy(
        options.image_gc_high_threshold if high is None else high, options.image_gc_low_threshold if low is None else low
    )
    name = kubelet.site.node
    itself = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
    collector = ImageCollector(kubelet.runtime, kubelet.clock, kubelet.events, itself, kubelet.pods, images)
    owner.start(collector.run(), "images")
    evictor = Evictor(kubelet, Machinery(kubelet), settings, itself, collector.free)
    owner.start(evictor.run(), "eviction")


def _network(name: str, directory: Path, cluster: ClusterConfig, options: SimpleNamespace, clock: Clock) -> PodNetwork:
    return PodNetwork(
        name,
        directory / "network",
        clock,
        cluster_cidr=cluster.cluster_cidr,
        service_cidr=cluster.service_cidr,
        local=(cluster.cluster_dns,),
        cni_directory=cni_directory(options.runtime, directory / "cni"),
    )


async def _alone(file: Path, clock: Clock) -> int:
    """A lock on the agent's directory. One before us may still be ending, with a server that was killed."""
    try:
        return lock.hold(file)
    except lock.Held as held:
        if not held.pid:
            raise AgentFailed(str(held)) from None
        log.warning("%s: waiting for its end", held)
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(PREDECESSOR):
                await ended(held.pid)
    try:
        return lock.hold(file)
    except lock.Held as held:
        raise AgentFailed(str(held)) from None


def _registries(file: str) -> RegistrySettings:
    """What registries.yaml says; nothing where the usual one isn't there."""
    if file == config.REGISTRIES and not Path(file).exists():
        return RegistrySettings()
    try:
        return read_settings(Path(file))
    except OSError as error:
        raise AgentFailed(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise AgentFailed(str(error)) from None


def _proxies(cluster: ClusterConfig | None = None) -> Proxies:
    """What the environment says. What is in the cluster is reached without them."""
    within = (
        (*cluster.cluster_cidr.split(","), *cluster.service_cidr.split(","), ".svc", f".{cluster.cluster_domain}")
        if cluster
        else ()
    )
    try:
        return Proxies.of(os.environ, within)
    except ValueError as error:
        raise AgentFailed(str(error)) from None


async def _prepare_network(network: PodNetwork, runtime: Runtime, stack: AsyncExitStack) -> None:
    """Addresses for pods; those of sandboxes that are gone come back first."""
    await network.prepare()
    stack.push_async_callback(network.stop)
    await network.collect([sandbox.id for sandbox in await runtime.sandboxes()])


async def _follow_nodes(network: PodNetwork, informers: Informers) -> None:
    """The routes to other nodes."""
    nodes = informers.of(NODES)
    nodes.on_change(network.node_changed)
    await nodes.synced()
    await network.start()
    _say("network", "pods are routed")


def _start_proxy(
    name: str, cluster: ClusterConfig, informers: Informers, clock: Clock, rng: Random, stack: AsyncExitStack, without: str
) -> None:
    """By nftables, or where there are none (`without` says why) by a proxy in this process."""
    proxy: Proxy | UserspaceProxy
    if not without:
        place = ProxySite(name, cluster.cluster_cidr, cluster.service_cidr, (cluster.cluster_dns,))
        proxy = Proxy(informers, place, clock, rng)
    else:
        proxy = UserspaceProxy(informers, name, clock, rng)
    proxy.start()
    stack.push_async_callback(proxy.stop)
    _say("kube-proxy", f"node ports by a proxy in this process, since {without}" if without else "Services by nftables")


async def _start_dns(
    cluster: ClusterConfig, informers: Informers, clock: Clock, rng: Random, stack: AsyncExitStack, without: str
) -> None:
    if without:
        _say("coredns", f"not started: pods have no network of their own, since {without}")
        return
    dns = ClusterDns(informers, clock, rng, domain=cluster.cluster_domain, never=(cluster.cluster_dns,))
    try:
        await dns.start(cluster.cluster_dns)
    except OSError as error:
        raise AgentFailed(f"cannot serve DNS at {cluster.cluster_dns}: {error.strerror or error}") from None
    stack.push_async_callback(dns.stop)
    _say("coredns", f"{cluster.cluster_domain} at {cluster.cluster_dns}")


@contextlib.contextmanager
def _one_line(options: SimpleNamespace) -> Iterator[None]:
    """Errors that a user can do something about, in one line."""
    try:
        yield
    except (JoinFailed, rootdir.Occupied) as error:
        raise AgentFailed(str(error)) from None
    except RuntimeFailed as error:
        raise AgentFailed(f"the container runtime: {error}") from None
    except OSError as error:
        raise AgentFailed(f"cannot use the data directory {options.data_dir}: {error.strerror or error}") from None


async def _connect(
    options: SimpleNamespace,
    access: Access,
    proxy: str | None,
    kubelet: Kubelet,
    machine: Machine,
    owner: Owner,
    clock: Clock,
    rng: Random,
    stack: AsyncExitStack,
) -> None:
    """The line to the server, over which it reaches the kubelet and the pods."""
    runner = web.AppRunner(application(kubelet, machine), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ssl_context(access)), proxy=proxy)
    stack.push_async_callback(session.close)
    targets = Targets(kubelet=runner.server, allows=kubelet.may_dial)
    line = Line(websocket(session, options.server, tls=ssl_context(access)), targets, clock, rng)
    owner.start(line.run(), "tunnel")
    stack.push_async_callback(owner.stop)  # before the session ends, through which the line would be dialled again
    owner.start(memory.tend(clock), "memory")


async def _offer_images(runtime: Runtime, directory: Path, stack: AsyncExitStack) -> None:
    """The local socket that `minik8s image` talks to."""
    path = directory / "agent.sock"
    path.unlink(missing_ok=True)
    runner = web.AppRunner(image_api.application(runtime), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)


def _taint(text: str) -> dict[str, str]:
    pair, _, effect = text.partition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _end_with_parent() -> None:
    """An agent that a server started ends with it, also when it is killed."""
    parent = os.environ.pop(config.PARENT, "")
    if not parent:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before we asked
        raise SystemExit(0)


def _say(part: str, text: str) -> None:
    print(f"{part:<26}{text}", flush=True)
