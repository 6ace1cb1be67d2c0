"""The control plane, composed, without its sockets: API server, controllers and scheduler in this process. What `server.py` serves, and a
test runs (`testing/`).

No logic here: who is built of what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from minik8s.api.resources import PODS
from minik8s.api.user import User, component, service_account
from minik8s.apiserver import authn, reviews
from minik8s.apiserver.admission import plugins
from minik8s.apiserver.admission.podsecurity import Configuration as PodSecurityConfiguration
from minik8s.apiserver.admission.webhooks import Webhooks
from minik8s.apiserver.aggregation.aggregation import Aggregation
from minik8s.apiserver.aggregation.content import RemoteContent
from minik8s.apiserver.allocation import Network
from minik8s.apiserver.authn.serviceaccounts import ServiceAccountTokens
from minik8s.apiserver.authn.token_use import TokenUse
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.flowcontrol import report as flow_report
from minik8s.apiserver.flowcontrol.gate import SEATS
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.metrics import tell_build, watch_cache
from minik8s.apiserver.outbound import Caller
from minik8s.apiserver.provision import provision_defaults, provision_flowcontrol
from minik8s.apiserver.usage import Usage
from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics, watch_process
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.client.inprocess import InProcessTransport
from minik8s.controllers.manager import ControllerSettings, Manager, Start
from minik8s.store.base import Store
from minik8s.tunnel.server import Tunnels

if TYPE_CHECKING:
    from minik8s.apiserver.admission.webhooks.dispatch import Dispatcher
    from minik8s.apiserver.authn.oidc import OpenIDConnect

AS_MANAGER = ("serviceaccount-token-controller",)
"""Controllers that have no identity of their own, but that of kube-controller-manager."""
AS_SERVER = ("event-ttl", "service-addresses")
"""Controllers that act as the API server itself: in upstream, it does their work."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the parts of the control plane are told. The defaults suit a test."""

    service_networks: list[Network]
    service_account_key: bytes
    static_tokens: authn.StaticTokens = field(default_factory=lambda: authn.StaticTokens({}))
    issuers: Sequence[OpenIDConnect] = ()
    pod_security: PodSecurityConfiguration | None = None
    not_ready_toleration: int = 300
    unreachable_toleration: int = 300
    front_proxy: str = ""
    """The PEM file of the certificate and key that this server shows to aggregated API servers."""
    proxies: Proxies = field(default_factory=Proxies)
    """For webhooks that have URLs."""
    seats: int = SEATS
    metrics_api: bool = True
    """Whether this server itself answers for metrics.k8s.io."""
    controller_settings: ControllerSettings = field(default_factory=ControllerSettings)


class ControlPlane:
    """The API server of this process, without its sockets, and the parts beside it: what a server runs, and a test too."""

    def __init__(self, store: Store, clock: Clock, rng: Random, settings: Settings) -> None:
        self.clock = clock
        self.metrics = Metrics()
        self.rng = rng
        self._settings = settings
        self.desk = FrontDesk(store, clock, rng, settings.service_networks, self.metrics)
        self.tunnels = Tunnels()
        self.caller = Caller(self.desk.reader, self.tunnels, clock, rng, settings.proxies)
        self.desk.caller = self.caller
        accounts = ServiceAccountTokens(settings.service_account_key, self.desk.reader, clock)
        self.authenticator = authn.Authenticator(settings.static_tokens, accounts, self.desk.reader, clock, settings.issuers)
        authorizer = authorizer_for(self.desk.reader)
        self.desk.authorizer = authorizer
        self.desk.admission += plugins(
            self.desk.reader,
            authorizer,
            clock,
            rng,
            settings.not_ready_toleration,
            settings.unreachable_toleration,
            settings.pod_security,
            catalogue=self.desk.catalogue,
            shown_as=self.desk.shown_as,
            metrics=self.metrics,
        )
        self.aggregation = Aggregation(self.desk, self.caller, clock, self.metrics, settings.front_proxy)
        self.desk.admission.append(Webhooks(self.desk.reader, self._webhook_dispatcher))
        reviews.install(self.desk, authorizer, self.authenticator)
        self._running: set[str] = set()
        for part in ("controller-manager", "scheduler"):
            self.desk.components[part] = partial(self._failure, part)
        self.usage = Usage(self.desk, self.tunnels) if settings.metrics_api else None
        self.desk.flow.seats = settings.seats
        flow_report.install(self.metrics, self.desk.flow)
        watch_process(self.metrics)
        tell_build(self.metrics)
        watch_cache(self.metrics, self.desk.cache)

    def _failure(self, part: str) -> str:
        return "" if part in self._running else "not running in this server"

    def _webhook_dispatcher(self) -> Dispatcher:
        from minik8s.apiserver.admission.webhooks.dispatch import Dispatcher
        from minik8s.apiserver.admission.webhooks.metrics import WebhookMetrics

        desk, metrics = self.desk, WebhookMetrics(self.metrics)
        assert desk.authorizer is not None
        return Dispatcher(
            desk.reader, desk.catalogue, desk.authorizer, self.caller, self.clock, self.rng, metrics, desk.shown_as
        )

    def pod_resources(self) -> str:
        """The scheduler's metrics of what pods ask for."""
        from minik8s.scheduler.metrics import pod_resources

        return pod_resources(self.desk.reader.list(PODS))

    def client(self, user: User) -> Client:
        """A client in this process, under an identity."""
        return Client(InProcessTransport(user, self.desk.handle, self.desk.watch))

    async def start_api(self, owner: Owner) -> None:
        """Reads the store and makes what must exist."""
        await self.desk.start(owner)
        await provision_defaults(self.desk, self._settings.service_networks, metrics_api=self.usage is not None)
        handle, ensure = partial(self.desk.handle, authn.ADMIN), partial(provision_flowcontrol, self.desk)
        owner.start(flow_report.keep_objects(self.desk.reader, handle, ensure, self.clock), "flow-objects")
        owner.start(self.aggregation.run(owner), "aggregation")
        self.authenticator.accounts.used = TokenUse(handle, owner).note

    async def start_controllers(self, stack: AsyncExitStack, controllers: Mapping[str, Start]) -> None:
        """Runs the controllers until the stack is left."""
        informers = Informers(self.client(component("kube-controller-manager")), self.clock, self.rng, "controllers")
        stack.push_async_callback(informers.stop)

        def client_of(name: str) -> Client:
            if name in AS_MANAGER:
                return self.client(component("kube-controller-manager"))
            return self.client(authn.ADMIN if name in AS_SERVER else service_account("kube-system", name))

        remote = RemoteContent(self.desk.catalogue, self.caller, service_account("kube-system", "namespace-controller"))
        settings = replace(self._settings.controller_settings, account_token=self.authenticator.accounts.legacy, remote=remote)
        manager = Manager(client_of, informers, self.clock, self.rng, settings, controllers, self.metrics)
        stack.push_async_callback(manager.stop)
        await manager.start()
        self._running.add("controller-manager")

    async def start_scheduler(self, owner: Owner, stack: AsyncExitStack) -> None:
        client = self.client(component("kube-scheduler"))
        informers = Informers(client, self.clock, self.rng, "scheduler")
        stack.push_async_callback(informers.stop)
        self._running.add("scheduler")
        from minik8s.scheduler.scheduler import Scheduler  # the API is served before what only it needs is loaded

        owner.start(Scheduler(client, informers, self.clock, self.rng, self.metrics).run(), "scheduler")
