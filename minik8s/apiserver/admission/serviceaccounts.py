"""ServiceAccount: each pod runs as one, and finds its token, the cluster's CA and its namespace mounted.

Source: "Configure Service Accounts for Pods" of the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import PODS, SERVICEACCOUNTS
from minik8s.apiserver.admission.plugin import Quiet, refused
from minik8s.apiserver.authz.node import references
from minik8s.apiserver.contract import Admission, Operation, Reader
from minik8s.base.clock import Clock

DEFAULT = "default"
MIRROR = "kubernetes.io/config.mirror"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
ENFORCE = "kubernetes.io/enforce-mountable-secrets"
PATIENCE = 1.5
"""Seconds for which a pod waits for the account `default` of a namespace that was made a moment ago."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccount(Quiet):
    name = "ServiceAccount"

    def __init__(self, reader: Reader, clock: Clock, rng: Random) -> None:
        self._reader = reader
        self._clock = clock
        self._rng = rng
        self._changed = asyncio.Event()
        reader.on_change(SERVICEACCOUNTS, self._changed.set)

    def handles(self, request: Admission) -> bool:
        if request.resource is not PODS:
            return False
        if request.operation is Operation.CREATE:
            return not request.subresource
        return request.operation is Operation.UPDATE and request.subresource == "ephemeralcontainers"

    async def admit(self, request: Admission) -> None:
        pod = request.object
        if pod is None or request.operation is not Operation.CREATE:
            return
        spec = pod["spec"]
        if is_mirror(pod):
            return _check_mirror(request, pod)
        spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or DEFAULT
        account = await self._account(request, spec["serviceAccountName"])
        if _first(spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken"), True):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and (pulls := account.get("imagePullSecrets")):
            spec["imagePullSecrets"] = [{"name": pull.get("name", "")} for pull in pulls]

    async def validate(self, request: Admission) -> None:
        pod = request.object
        if pod is None or is_mirror(pod):
            return
        account = await self._account(request, pod["spec"].get("serviceAccountName", ""))
        if (account["metadata"].get("annotations") or {}).get(ENFORCE) not in ("true", "True", "TRUE", "t", "T", "1"):
            return
        for problem in _foreign_secrets(pod["spec"], account, request.subresource == "ephemeralcontainers"):
            raise refused(request, problem)

    async def _account(self, request: Admission, name: str) -> Frozen:
        account = self._reader.get(SERVICEACCOUNTS, request.namespace, name)
        if account is None and name == DEFAULT:
            account = await self._awaited_default(request.namespace)
        if account is None:
            detail = f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found'
            raise refused(request, detail)
        return account

    async def _awaited_default(self, namespace: str) -> Frozen | None:
        """Its controller makes it soon after the namespace."""
        try:
            async with self._clock.timeout(PATIENCE):
                while (account := self._reader.get(SERVICEACCOUNTS, namespace, DEFAULT)) is None:
                    self._changed.clear()
                    await self._changed.wait()
                return account
        except TimeoutError:
            return None

    def _mount_token(self, spec: Object) -> None:
        volumes = spec.get("volumes") or []
        name = next((volume["name"] for volume in volumes if volume["name"].startswith(VOLUME_PREFIX)), "")
        known = bool(name)
        name = name or VOLUME_PREFIX + "".join(self._rng.choices(_LETTERS, k=5))
        mounted = False
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
            mounts = container.get("volumeMounts") or []
            if all(mount.get("mountPath") != MOUNT_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
                mounted = True
        if mounted and not known:
            spec["volumes"] = [*volumes, {"name": name, "projected": token_volume()}]


def token_volume() -> Object:
    """The projected volume with everything a client in the pod needs."""
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
                }
            },
        ],
    }


def is_mirror(pod: Frozen) -> bool:
    """Whether it is the image of a static pod of some node."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _check_mirror(request: Admission, pod: Frozen) -> None:
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        raise refused(request, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _ in references(spec)):
        raise refused(request, "a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        if any("serviceAccountToken" in source for source in (volume.get("projected") or {}).get("sources") or ()):
            raise refused(request, "a mirror pod may not use ServiceAccountToken volume projections")


def _foreign_secrets(spec: Frozen, account: Frozen, ephemeral: bool) -> Iterator[str]:
    """What an account with ENFORCE forbids: secrets that it doesn't list."""
    name = account["metadata"]["name"]
    own = {secret.get("name") for secret in account.get("secrets") or ()}
    pulls = {secret.get("name") for secret in account.get("imagePullSecrets") or ()}
    missing = f"is not allowed because service account {name} does not reference that secret"
    if ephemeral:
        groups = [("ephemeral container", spec.get("ephemeralContainers"))]
    else:
        groups = [("init container", spec.get("initContainers")), ("container", spec.get("containers"))]
        for volume in spec.get("volumes") or ():
            if (secret := (volume.get("secret") or {}).get("secretName")) and secret not in own:
                yield f'volume with secret.secretName="{secret}" {missing}'
    for what, containers in groups:
        for container in containers or ():
            for where, secret in _named_secrets(container):
                if secret not in own:
                    yield f'{what} {container["name"]} with {where} referencing secret.secretName="{secret}" {missing}'
    if not ephemeral:
        for i, pull in enumerate(spec.get("imagePullSecrets") or ()):
            if pull.get("name") not in pulls:
                yield f'imagePullSecrets[{i}].name="{pull.get("name")}" {missing.replace("secret", "imagePullSecret")}'


def _named_secrets(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        if reference := (variable.get("valueFrom") or {}).get("secretKeyRef"):
            yield f"envVar {variable['name']}", reference.get("name", "")
    for source in container.get("envFrom") or ():
        if reference := source.get("secretRef"):
            yield "envFrom", reference.get("name", "")
