"""Whose the kubelet's directory is, and how it is mounted. Source: mount_namespaces(7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minik8s.kubelet import rootdir
from minik8s.kubelet.volumes import mounting
from minik8s.runtime.embedded import linux


def test_one_agent_s_alone(tmp_path: Path) -> None:
    root, data = tmp_path / "kubelet", tmp_path / "data"
    assert rootdir.default(data, usual=True) == Path("/var/lib/kubelet")
    rootdir.claim(root, data, may_mount=False)
    assert rootdir.place(data).resolve() == root
    assert rootdir.elsewhere(data) == root
    assert {oct((root / name).stat().st_mode & 0o777) for name in rootdir.DIRECTORIES} == {"0o750"}
    (root / "pods/uid").mkdir()
    rootdir.claim(root, data, may_mount=False)  # again
    with pytest.raises(rootdir.Occupied, match=rf"holds the pods of {data}: give it another directory"):
        rootdir.claim(root, tmp_path / "other", may_mount=False)
    (root / rootdir.OWNER).unlink()
    with pytest.raises(rootdir.Occupied, match="holds the pods of another kubelet"):
        rootdir.claim(root, data, may_mount=False)


def test_its_usual_place_is_in_the_data_directory(tmp_path: Path) -> None:
    root = rootdir.default(tmp_path, usual=False)
    rootdir.claim(root, tmp_path, may_mount=False)
    assert root.is_dir()
    assert not root.is_symlink()
    assert rootdir.elsewhere(tmp_path) is None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_mounts_made_in_it_are_seen_outside(tmp_path: Path) -> None:
    """Once, and until no pod is left."""
    root, was_shared = tmp_path / "kubelet", mounting.is_shared(tmp_path)
    for _ in range(2):
        rootdir.claim(root, tmp_path, may_mount=True)
        assert mounting.is_shared(root)
    mounts = linux.mounts_below(root)
    assert mounts == [] if was_shared else [str(root)]
    (root / "pods/uid").mkdir()
    rootdir.let_go(root)
    assert linux.mounts_below(root) == mounts
    (root / "pods/uid").rmdir()
    mounting.share(root)  # an agent was killed between its two calls, and the next one mounted it again
    with (root / rootdir.OWNER).open():  # somebody looks into it just now
        rootdir.let_go(root)
    assert linux.mounts_below(root) == []
