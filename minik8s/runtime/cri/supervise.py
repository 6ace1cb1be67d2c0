"""A containerd of the agent's own, for machines that have the program but run none: started, watched, and started again when it dies.

It outlives the agent: its own session, found again by its pid file and socket; its containers outlive it, as containerd's do. One whose
configuration or proxies have changed meanwhile is started anew. All that it writes is below one directory (but for shims' sockets in
/run/containerd). The configuration holds for containerd 1.6 to 2.x.

Limits: needs root. The directory's path must be short (a unix socket's name has at most 107 bytes).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from minik8s.base.backoff import Backoff
from minik8s.base.children import ended
from minik8s.base.clock import Clock
from minik8s.base.pki import write_private
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner
from minik8s.runtime.base import RuntimeFailed
from minik8s.runtime.cri import pause
from minik8s.runtime.cri.hosts import credentials, text, write_hosts
from minik8s.runtime.embedded import linux
from minik8s.runtime.images.settings import Settings

log = logging.getLogger(__name__)

CNI_BIN_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")

_START_TIMEOUT = 30.0
_END_TIMEOUT = 10.0
_RESTART = Backoff(initial=0.1, maximum=10.0)
_LONG_LIVED = 60.0
_HOUR = 3600.0
_LONGEST_LOG = 10 << 20
_LONGEST_SOCKET = 107
_CAP_SYS_RESOURCE = 24
_PROXIES = (b"HTTP_PROXY=", b"HTTPS_PROXY=", b"NO_PROXY=")
_LOOK = Backoff(initial=0.02, maximum=0.2)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the agent's containerd lives: `directory` is its own; `network` is where CNI's configuration is (or will be) written;
    `settings` and `proxies` are how it asks registries.
    """

    directory: Path
    network: Path
    settings: Settings = field(default_factory=Settings)
    proxies: Proxies = field(default_factory=Proxies)

    @property
    def socket(self) -> str:
        return str(self.directory / "containerd.sock")

    @property
    def hosts(self) -> Path:
        return self.directory / "certs.d"


def program() -> str:
    """The containerd on this machine; empty where there is none."""
    return shutil.which("containerd", path=_path()) or ""


def missing() -> str:
    """What a containerd of our own would need that is not installed; empty where all is there."""
    wanted = {"containerd": program(), "runc": shutil.which("runc", path=_path()), "the CNI plugin ptp": _plugins()}
    return ", ".join(name for name, found in wanted.items() if not found)


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin"


def _plugins() -> str:
    return next((path for path in CNI_BIN_DIRECTORIES if Path(path, "ptp").exists()), "")


class OwnContainerd:
    """`start` before use. `close` leaves it running; `shut_down` ends it (its containers run on even then)."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self.place, self._clock = place, clock
        self._config = place.directory / "config.toml"
        self._log = place.directory / "containerd.log"
        self._pid_file = place.directory / "containerd.pid"
        self._owner = Owner("containerd")
        self._pid = 0

    async def start(self) -> None:
        """Returns when its socket answers. Raises RuntimeFailed with the end of its log where it doesn't."""
        if len(self.place.socket.encode()) > _LONGEST_SOCKET:
            raise RuntimeFailed(f"{self.place.socket} is too long for a unix socket: choose a shorter data directory")
        if os.geteuid() != 0:
            raise RuntimeFailed("a containerd of one's own needs root")
        self.place.directory.mkdir(parents=True, exist_ok=True)
        self.place.directory.chmod(0o711)
        self.place.network.mkdir(parents=True, exist_ok=True)  # containerd watches it from its start
        write_hosts(self.place.hosts, self.place.settings)
        self._pid = self._running()
        if self._pid and not self._is_as_wanted():
            log.info("containerd is started anew: its configuration has changed")
            await self.shut_down()
        if not self._pid:
            write_private(self._config, configuration(self.place).encode())
            self._spawn()
        try:
            await self._answers()
        except RuntimeFailed:
            _reap(self._pid)
            raise
        self._owner.start(self._keep(), "keep")

    async def close(self) -> None:
        await self._owner.stop()

    async def shut_down(self) -> None:
        await self._owner.stop()
        if not self._pid:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            _signal(self._pid, number)
            if await self._ended_within(_END_TIMEOUT):
                break
            log.warning("containerd (pid %d) does not end", self._pid)
        self._pid = 0

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            while not await self._ended_within(_HOUR):
                self._bound_log()
            failures = 1 if self._clock.monotonic() - began > _LONG_LIVED else failures + 1
            log.warning("containerd ended; starting it again")
            await self._clock.sleep(_RESTART.delay(failures))
            try:
                self._spawn()
                await self._answers()
            except (RuntimeFailed, OSError) as error:
                log.error("%s", error)

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with self._clock.timeout(seconds):
                await ended(self._pid)
        except TimeoutError:
            return False
        _reap(self._pid)
        return True

    def _bound_log(self) -> None:
        """containerd writes at the file's end, so it may be cut at any time."""
        if self._log.exists() and self._log.stat().st_size > _LONGEST_LOG:
            os.truncate(self._log, 0)

    def _running(self) -> int:
        """The pid of one that an earlier agent started here; 0 for none."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return pid if str(self._config) in linux.command(pid) and linux.start_time(pid) else 0

    def _is_as_wanted(self) -> bool:
        """Whether the running one was started as it would be now."""
        given = Path(f"/proc/{self._pid}/environ").read_bytes().split(b"\0")
        proxies = {entry for entry in given if entry.startswith(_PROXIES)}
        wanted = {f"{name}={value}".encode() for name, value in self.place.proxies.environment().items()}
        return proxies == wanted and self._config.read_text() == configuration(self.place)

    def _spawn(self) -> None:
        binary = program()
        if not binary:
            raise RuntimeFailed("containerd is not installed")
        self._bound_log()
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIK8S_")}  # tokens, for one
        environment = {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}
        environment |= self.place.proxies.environment() | {"PATH": _path()}
        try:
            self._pid = os.posix_spawn(
                binary,
                [binary, "--config", str(self._config)],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(output)
        self._pid_file.write_text(str(self._pid))

    async def _answers(self) -> None:
        """Returns when someone listens at the socket."""
        try:
            async with self._clock.hold(), self._clock.timeout(_START_TIMEOUT):
                tries = 0
                while not await _listens(self.place.socket):
                    tries += 1
                    if not linux.start_time(self._pid):
                        raise RuntimeFailed(f"containerd does not start: {self._last_words()}")
                    await self._clock.sleep(_LOOK.delay(tries))
        except TimeoutError:
            raise RuntimeFailed(f"containerd does not answer at {self.place.socket}: {self._last_words()}") from None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


def configuration(place: Place) -> str:
    """config.toml, in the version that containerd 1.6 and all later ones read. It may hold passwords."""
    return f"""version = 2
root = {text(str(place.directory / "root"))}
state = {text(str(place.directory / "state"))}

[grpc]
  address = {text(place.socket)}

[debug]
  level = "error"

[plugins."io.containerd.internal.v1.opt"]
  path = {text(str(place.directory / "opt"))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {text(pause.NAME)}
  restrict_oom_score_adj = {text(not may_lower_oom_scores())}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {text(_plugins() or CNI_BIN_DIRECTORIES[0])}
    conf_dir = {text(str(place.network))}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {text(str(place.hosts))}
{credentials(place.settings)}"""


def may_lower_oom_scores() -> bool:
    """Whether a process here may have an oom_score_adj below its own, as guaranteed pods' have: CAP_SYS_RESOURCE (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_RESOURCE & 1)


async def _listens(socket: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # an earlier agent's


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
