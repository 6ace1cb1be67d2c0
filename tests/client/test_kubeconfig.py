"""https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/"""

import stat
from pathlib import Path

import pytest

from minik8s.client.kubeconfig import Access, BadKubeconfig, load, write

FULL = Access("https://127.0.0.1:6443", b"CA", b"CERT", b"KEY", "secret", tls_server_name="minik8s", namespace="shop")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "admin.kubeconfig"
    write(path, FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == FULL
    write(path, Access("https://h", insecure=True))
    assert load(path) == Access("https://h", insecure=True)


FILES = """
apiVersion: v1
kind: Config
current-context: two
clusters:
- {name: c, cluster: {server: 'https://h:1/', certificate-authority: ca.pem}}
users:
- {name: files, user: {client-certificate: u.pem, client-key: u.key, tokenFile: token}}
- {name: plugin, user: {exec: {command: aws}}}
contexts:
- {name: one, context: {cluster: c, user: plugin}}
- {name: two, context: {cluster: c, user: files}}
- {name: three, context: {cluster: c}}
- {name: four, context: {cluster: nowhere}}
"""


def test_files_are_named_relative_to_it(tmp_path: Path) -> None:
    for name in ("ca.pem", "u.pem", "u.key", "token"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "config").write_text(FILES)
    assert load(tmp_path / "config") == Access("https://h:1", b"ca.pem\n", b"u.pem\n", b"u.key\n", "token")
    assert load(tmp_path / "config", "three") == Access("https://h:1", b"ca.pem\n")


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        (FILES, "one", "user 'plugin' needs 'exec'"),
        (FILES, "four", "no cluster named 'nowhere'"),
        (FILES, "five", "no context named 'five'"),
        ("- a\n", "", "not a kubeconfig"),
        ("a: [", "", "not YAML"),
        ("{}", "", "no context named ''"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, context: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(BadKubeconfig, match=words) as caught:
        load(path, context)
    assert str(path) in str(caught.value)
