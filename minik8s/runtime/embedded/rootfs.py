"""A container's file system, built by the container's own process in a mount namespace of its own.

Everything mounted here lives in that namespace alone: when the container's last process ends, the kernel takes it all away, and
the host never sees a mount. What comes from outside (volumes, the pod's /dev/shm, devices' numbers) is picked up as detached trees
before the pivot (`gather`) and put in place after it (`furnish`), where no path of the image can lead out of the container.

The specification is a container's `spec` (specs.py). Standard library only, and no import after the pivot: by then the host's
files are gone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from minik8s.runtime.embedded import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
DEVICE_RULES = ("c *:* m", "b *:* m", "c 136:* rwm", "c 5:2 rwm", *(f"c {major}:{minor} rwm" for _, major, minor in _DEVICES))
"""devices.allow of a container without privileges: all may be made, these may be used (as containerd has them)."""

_PROPAGATION = {"private": linux.MS_PRIVATE, "rslave": linux.MS_SLAVE, "rshared": linux.MS_SHARED}
_TTY = 5  # the group of terminals
_HARDENED = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_OWNED = ("/proc", "/sys", "/dev")  # may not be a link of the image: masks would miss what is mounted through it


class Gathered:
    """What `gather` picked up outside: (mount, detached tree, is it a directory) and (path, mode, device number)."""

    def __init__(self) -> None:
        self.mounts: list[tuple[Mapping[str, Any], int, bool]] = []
        self.devices: list[tuple[str, int, int]] = []


def gather(spec: Mapping[str, Any], directory: str, shm: int, users: int) -> Gathered:
    """Before the pivot: detached copies of all that is mounted in; `shm` is the pod's /dev/shm as a detached tree, `users` the pod's user
    namespace (-1: none), to which the ids of volumes and layers are mapped.

    Volumes of the host are copied while this namespace still is the host's peer (so that `rshared` is); only then it is cut off.
    """
    found = Gathered()
    found.mounts.append(({"target": "/dev/shm", "propagation": "private"}, shm, True))  # noqa: S108
    for mount in spec["mounts"]:
        if source := mount.get("source"):
            _see_to_source(source, mount["propagation"])
            tree = linux.open_tree(source)
            if users >= 0:
                linux.map_ids(tree, users, source)
            found.mounts.append((mount, tree, os.path.isdir(source)))
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if users >= 0:
        _map_layers(spec, _layers(spec, directory), users)
    for number, mount in enumerate(spec["mounts"]):
        if layers := mount.get("layers"):
            volume = f"{directory}/volume-{number}"
            os.makedirs(volume, exist_ok=True)
            _mount_layers(_layers(spec, directory), layers, volume)
            found.mounts.append((mount, *_open_part(volume, mount["sub_path"])))
    found.mounts.sort(key=lambda entry: os.path.normpath(entry[0]["target"]).count("/"))
    for path, source, _ in spec["devices"]:
        found.devices.append((path, *_device(source)))
    if spec["privileged"]:
        found.devices += _host_devices()
    return found


def _see_to_source(source: str, propagation: str) -> None:
    """A directory of the host that isn't there is made, and mounts are only passed on where they can be; as containerd has it."""
    if not os.path.lexists(source):
        os.makedirs(source, 0o755)
    wanted = {"rshared": ("shared:",), "rslave": ("shared:", "master:")}.get(propagation)
    if wanted is None:
        return
    point, tags = linux.mount_of(source)
    if not any(tag.startswith(wanted) for tag in tags):
        kinds = "shared" if propagation == "rshared" else "shared or slave"
        raise OSError(f'path "{source}" is mounted on "{point}" but it is not a {kinds} mount')


def mount_root(spec: Mapping[str, Any], directory: str) -> str:
    """Before the pivot: the image's layers with a writable one above; returns where."""
    root = f"{directory}/rootfs"
    os.makedirs(root, exist_ok=True)
    os.chdir(_layers(spec, directory))
    layers, owner = spec["layers"], _owner(spec)
    if spec["host"]:
        layers = ["."] if spec["users"] else ["/"]
    else:
        try:
            _mount_overlay(layers, directory, root, owner)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return root
    # Above / itself, or on a file system that can't be an upper layer (another overlay), it is a tmpfs of this namespace alone.
    memory = f"{directory}/memory"
    os.makedirs(memory, exist_ok=True)
    linux.mount("minik8s", memory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    _mount_overlay(layers, memory, root, owner)
    return root


def furnish(spec: Mapping[str, Any], gathered: Gathered, cgroup_mounts: Mapping[str, str]) -> None:
    """After the pivot: /proc, /sys, /dev, the volumes, the masks."""
    privileged, owner = spec["privileged"], _owner(spec)
    for path in _OWNED:
        _make_directory(path, owner)
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise OSError(f"{path} of the image must be a directory, not a symbolic link")
    linux.mount("proc", "/proc", "proc", _HARDENED)
    linux.mount("sysfs", "/sys", "sysfs", _HARDENED | (0 if privileged else linux.MS_RDONLY))
    _mount_cgroups(cgroup_mounts, readonly=not privileged)
    _mount_dev(gathered.devices, owner)
    for path in spec["hidden"]:
        _hide(path)
    for path in spec["scratch"]:
        _make_directory(path, owner)
        linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=1777,uid={owner},gid={owner}")
    for path in spec["image_volumes"]:
        _make_directory(os.path.normpath(f"/{path}"), owner)
        linux.bind(path, path)  # a mount of its own stays writable where the root is not
    for mount, tree, is_directory in gathered.mounts:
        _attach(mount, tree, is_directory, owner)
    for path in spec["masked_paths"]:
        _hide(path)
    for path in spec["readonly_paths"]:
        if os.path.exists(path):
            linux.bind(path, path, readonly=True)
    _make_working_directory(spec["cwd"], owner)
    if spec["readonly"]:
        linux.remount_readonly("/")


def mount_console(terminal: str) -> None:
    """The container's own terminal also is its /dev/console (containers with `tty`)."""
    os.close(os.open("/dev/console", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    linux.mount(terminal, "/dev/console", "", linux.MS_BIND)


def _owner(spec: Mapping[str, Any]) -> int:
    """Whom the container's root is outside."""
    return spec["users"][0] if spec["users"] else 0


def _layers(spec: Mapping[str, Any], directory: str) -> str:
    """Where the layers are that the container sees."""
    return f"{directory}/layers" if spec["users"] else str(spec["layers_dir"])


def _map_layers(spec: Mapping[str, Any], target: str, users: int) -> None:
    source = "/" if spec["host"] else spec["layers_dir"]
    tree = linux.open_tree(source, alone=True)
    linux.map_ids(tree, users, source)
    os.makedirs(target, exist_ok=True)
    linux.move_mount(tree, target)
    os.close(tree)


def _mount_overlay(layers: Sequence[str], upper: str, root: str, owner: int) -> None:
    for name in ("upper", "work"):
        os.makedirs(f"{upper}/{name}", 0o755, exist_ok=True)
        os.chown(f"{upper}/{name}", owner, owner)
    options = f"lowerdir={':'.join(layers)},upperdir={upper}/upper,workdir={upper}/work"
    linux.mount("overlay", root, "overlay", 0, options)


def _mount_layers(directory: str, layers: Sequence[str], target: str) -> None:
    """An image volume: its layers read-only (a lone layer is bound, overlayfs wants two)."""
    if len(layers) == 1:
        linux.bind(f"{directory}/{layers[0]}", target, readonly=True)
        return
    os.chdir(directory)
    linux.mount("overlay", target, "overlay", linux.MS_RDONLY, f"lowerdir={':'.join(layers)}")


def _open_part(volume: str, path: str) -> tuple[int, bool]:
    """A detached copy of what lies at `path` in an image's volume, and whether that is a directory. No link is followed, as this still
    is the host's side: it could lead out of the image.
    """
    parts = os.path.normpath(path).split("/")
    if parts[0] in ("", ".."):
        raise OSError(errno.EINVAL, "leads out of the image", path)
    place = os.open(volume, os.O_PATH | os.O_CLOEXEC)
    try:
        for part in parts:
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = following
        mode = os.fstat(place).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "is a symbolic link", path)
        return linux.open_tree(f"/proc/self/fd/{place}"), stat.S_ISDIR(mode)
    finally:
        os.close(place)


def _mount_cgroups(mounts: Mapping[str, str], *, readonly: bool) -> None:
    """The container's own groups (this process is in a cgroup namespace whose root they are)."""
    flags = _HARDENED | (linux.MS_RDONLY if readonly else 0)
    if "unified" in mounts:
        linux.mount("cgroup", "/sys/fs/cgroup", "cgroup2", flags)
    elif mounts:
        linux.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", _HARDENED, "mode=755")
        together: dict[str, list[str]] = {}
        for controller, where in mounts.items():
            together.setdefault(where, []).append(controller)
        for controllers in together.values():
            name = ",".join(controllers)
            os.mkdir(f"/sys/fs/cgroup/{name}")
            linux.mount("cgroup", f"/sys/fs/cgroup/{name}", "cgroup", flags, name)
            for controller in controllers if len(controllers) > 1 else ():
                os.symlink(name, f"/sys/fs/cgroup/{controller}")
        linux.mount("", "/sys/fs/cgroup", "", linux.MS_REMOUNT | _HARDENED | linux.MS_RDONLY, "mode=755")


def _mount_dev(devices: Sequence[tuple[str, int, int]], owner: int) -> None:
    """What stands on every machine is the container's root's own; the host's devices stay the host's."""
    options = f"mode=755,size=65536k,uid={owner},gid={owner}"
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID | linux.MS_STRICTATIME, options)
    os.umask(0)
    for name, major, minor in _DEVICES:
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}", 0o755)
    for target, link in _LINKS:
        os.symlink(target, link)
    for entry in os.scandir("/dev"):
        os.chown(entry.path, owner, owner, follow_symlinks=False)
    for path, mode, number in devices:
        _make_directory(os.path.dirname(path), owner)
        if not os.path.lexists(path):
            os.mknod(path, mode, number)
    os.umask(0o022)
    options = f"newinstance,ptmxmode=0666,mode=0620,gid={owner + _TTY}"
    linux.mount("devpts", "/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, options)
    os.chown("/dev/pts/ptmx", owner, owner)
    linux.mount("mqueue", "/dev/mqueue", "mqueue", _HARDENED)


def _attach(mount: Mapping[str, Any], tree: int, is_directory: bool, owner: int) -> None:
    target = os.path.normpath("/" + mount["target"].lstrip("/"))
    if is_directory:
        _make_directory(target, owner)
    elif not os.path.exists(target):
        _make_directory(os.path.dirname(target), owner)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))
        os.chown(target, owner, owner)
    if mount.get("recursive"):
        linux.make_tree_readonly(tree, target)
    linux.move_mount(tree, target)
    os.close(tree)
    linux.mount("", target, "", linux.MS_REC | _PROPAGATION[mount["propagation"]])
    if mount.get("readonly"):
        linux.remount_readonly(target)


def _hide(path: str) -> None:
    """A directory becomes empty, a file /dev/null; what isn't there needs no hiding."""
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return
    if is_directory:
        linux.mount("tmpfs", path, "tmpfs", _HARDENED | linux.MS_RDONLY, "mode=755,size=0,nr_inodes=2")
    else:
        linux.mount("/dev/null", path, "", linux.MS_BIND)


def _make_directory(path: str, owner: int) -> None:
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chown(directory, owner, owner)


def _make_working_directory(path: str, owner: int) -> None:
    try:
        _make_directory(os.path.normpath(path), owner)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"mkdir {path}: not a directory") from None
    except OSError as error:
        raise OSError(error.errno, f"mkdir {path}: {os.strerror(error.errno or 0).lower()}") from None


def _device(path: str) -> tuple[int, int]:
    found = os.stat(path)
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise OSError(f"{path} is not a device")
    return found.st_mode, found.st_rdev


def _host_devices() -> list[tuple[str, int, int]]:
    """All of the host's devices but terminals (containerd's rule for privileged containers)."""
    found = []
    for directory, folders, files in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = f"{directory}/{name}"
            mode = os.lstat(path).st_mode
            if name not in ("console", "ptmx") and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                found.append((path, *_device(path)))
    return found
