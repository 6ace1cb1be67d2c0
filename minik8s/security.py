"""Who gets in, and what is written down of it, as the options say: listed tokens, issuers of OpenID Connect, what PodSecurity is told, the
audit log. Composition for `server.py`; what is not asked for is not imported.

Everything here raises OSError, or ValueError with one line for the user.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from minik8s.api.user import User
from minik8s.base.clock import Clock
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner

if TYPE_CHECKING:
    from minik8s.apiserver.admission.podsecurity import Configuration
    from minik8s.apiserver.authn.oidc import OpenIDConnect
    from minik8s.controlplane import ControlPlane


def listed_tokens(options: SimpleNamespace) -> Mapping[str, User]:
    if not options.token_auth_file:
        return {}
    from minik8s.apiserver.authn import token_file

    return token_file.read(Path(options.token_auth_file))


def issuers(options: SimpleNamespace, proxies: Proxies, clock: Clock, stack: AsyncExitStack) -> list[OpenIDConnect]:
    """The issuers of the flags, or of the file."""
    if not options.oidc_issuer_url and not options.authentication_config:
        return []
    from minik8s.apiserver.authn import oidc, oidc_config

    if options.oidc_issuer_url and options.authentication_config:
        raise ValueError("--oidc-issuer-url and --authentication-config can't be used together")
    if options.authentication_config:
        found = oidc_config.issuers_of(_yaml(options.authentication_config))
    else:
        issuer = oidc_config.issuer_of_flags(
            options.oidc_issuer_url,
            options.oidc_client_id,
            username_claim=options.oidc_username_claim,
            username_prefix=options.oidc_username_prefix,
            groups_claim=options.oidc_groups_claim,
            groups_prefix=options.oidc_groups_prefix,
            required=dict(text.split("=", 1) for text in options.oidc_required_claim),
            authority=Path(options.oidc_ca_file).read_text() if options.oidc_ca_file else "",
            algorithms=options.oidc_signing_algs,
        )
        found = [issuer]
    verifiers = [oidc.OpenIDConnect(issuer, clock, proxies) for issuer in found]
    for each in verifiers:
        stack.push_async_callback(each.close)
    return verifiers


def pod_security(options: SimpleNamespace) -> Configuration | None:
    if not options.admission_control_config_file:
        return None
    from minik8s.apiserver.admission import configuration

    return configuration.load(Path(options.admission_control_config_file))


async def audit(options: SimpleNamespace, plane: ControlPlane, stack: AsyncExitStack) -> None:
    """Has the API server write an audit log. What waits is written when the stack has ended all that may ask for more."""
    if not options.audit_policy_file and not options.audit_log_path:
        return
    from minik8s.apiserver.audit import Auditor
    from minik8s.apiserver.audit_log import AuditLog
    from minik8s.apiserver.audit_policy import policy_of

    if not (options.audit_policy_file and options.audit_log_path):
        raise ValueError("it needs both --audit-policy-file and --audit-log-path")
    policy = policy_of(_yaml(options.audit_policy_file))
    lost = plane.metrics.counter("apiserver_audit_error_total", "Audit events that were lost.", ("plugin",))
    log = AuditLog(
        Path(options.audit_log_path),
        plane.clock,
        lambda count: lost.add(("log",), count),
        max_size=options.audit_log_maxsize,
        max_backups=options.audit_log_maxbackup,
        max_age=options.audit_log_maxage,
    )
    log.open()
    writer = Owner("audit", on_failure=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    writer.start(log.run(), "log")
    stack.push_async_callback(writer.stop)
    stack.push_async_callback(log.close)
    plane.desk.audit = Auditor(policy, log, plane.clock, plane.rng, plane.metrics)


def _yaml(file: str) -> Any:
    from minik8s.api import yaml

    return yaml.parse(Path(file).read_bytes())[0]
