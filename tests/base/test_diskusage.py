"""What a directory takes of its disk, as du(1) counts: compared with du itself."""

import os
import subprocess
from pathlib import Path

from minik8s.base.diskusage import tree


def test_as_du_counts(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 10_000)
    (tmp_path / "a/b/two").write_bytes(b"x" * 5)
    os.link(tmp_path / "a/one", tmp_path / "a/same")
    (tmp_path / "a/link").symlink_to("/usr")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)

    def du(*flags: str) -> int:
        text = subprocess.run(["du", "-s", *flags, str(tmp_path)], check=True, capture_output=True, text=True).stdout
        return int(text.split()[0])

    assert tree(tmp_path) == (du("--block-size=1"), du("--inodes"))
    assert tree(tmp_path / "none") == (0, 0)
