"""How an agent begins: what its data directory, registries.yaml and the environment must be like."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from minik8s import agent, config
from minik8s.agent import AgentFailed
from minik8s.base.clock import RealClock
from minik8s.kubelet.join import ClusterConfig
from minik8s.runtime.images.settings import Settings

HOLD = """import sys; from pathlib import Path; from minik8s.base import lock
lock.hold(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"""


async def test_it_waits_for_the_end_of_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed leaves an agent that is still ending, while the next one starts another."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(tmp_path / "lock"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    with monkeypatch.context() as patched:
        patched.setattr(agent, "PREDECESSOR", 0.05)
        with pytest.raises(AgentFailed, match=rf"lock is in use by process {holder.pid}$"):
            await agent._alone(tmp_path / "lock", RealClock())
    waiting = asyncio.ensure_future(agent._alone(tmp_path / "lock", RealClock()))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await holder.communicate(b"")
    os.close(await waiting)


def test_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual file may be missing, one that is named may not."""
    file = tmp_path / "registries.yaml"
    with pytest.raises(AgentFailed, match=r"^cannot read .*registries.yaml: No such file or directory$"):
        agent._registries(str(file))
    monkeypatch.setattr(config, "REGISTRIES", str(file))
    assert agent._registries(str(file)) == Settings()
    file.write_text("mirror: {}")
    with pytest.raises(AgentFailed, match=r"registries.yaml: it: unknown key 'mirror'"):
        agent._registries(str(file))


def test_what_is_in_the_cluster_is_reached_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs.k3s.io/advanced, "Configuring an HTTP proxy"."""
    cluster = ClusterConfig("10.43.0.10", "cluster.local", "10.42.0.0/16,fd00:42::/56", "10.43.0.0/16", 40)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    found = agent._proxies(cluster)
    for host in ("10.42.0.9", "10.43.0.1", "[fd00:42::9]", "registry.default.svc", "registry.default.svc.cluster.local"):
        assert found.for_url(f"https://{host}/") is None
    assert found.for_url("https://registry.test/") == "http://proxy.test:3128"
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.test")
    with pytest.raises(AgentFailed, match=r"^HTTPS_PROXY: 'socks5://proxy.test' is no proxy that speaks HTTP$"):
        agent._proxies()
