"""Options: flag before environment before file before default; wrong ones named in one line."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from minik8s import config

ROOT = Path(__file__).parent.parent


def load(*flags: str, command: str = config.SERVER, **environment: str) -> Any:
    parser = argparse.ArgumentParser()
    config.add_arguments(parser, command)
    return config.load(command, parser.parse_args(flags), environment)


@pytest.mark.parametrize("command", [config.SERVER, config.AGENT])
def test_the_written_reference_is_true(command: str) -> None:
    """`python -m minik8s.config COMMAND > config/COMMAND.yaml` makes it anew."""
    file = ROOT / f"config/{command}.yaml"
    assert file.read_text() == config.reference(command)
    assert load("--config", str(file), command=command) == load(command=command)


def test_a_server_is_a_url() -> None:
    assert load("--server", "https://[fd00::1]:6443", command=config.AGENT).server == "https://[fd00::1]:6443"
    for wrong in ("10.0.0.1:6443", "ssh://h", "https://"):
        with pytest.raises(config.ConfigError, match="is no URL"):
            load("--server", wrong, command=config.AGENT)


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("log-level: error\nhttps-listen-port: 7443\ndisable: [scheduler]\nnode-label: a=1,b=2\n")
    found = load("--config", str(file), "--log-level", "debug", MINIK8S_LOG_LEVEL="warning", MINIK8S_HTTPS_LISTEN_PORT="8443")
    assert (found.log_level, found.https_listen_port, found.disable) == ("debug", 8443, ("scheduler",))
    assert found.node_label == ("a=1", "b=2")
    assert load(MINIK8S_CONFIG=str(file)).https_listen_port == 7443
    assert load(MINIK8S_TOKEN="").token == ""


def test_values() -> None:
    found = load(
        "--disable", "scheduler,kube-proxy", "--disable", "coredns", "--node-monitor-grace-period", "1m30s", "--disable-agent"
    )
    assert found.disable == ("scheduler", "kube-proxy", "coredns")
    assert (found.node_monitor_grace_period, found.disable_agent) == (90.0, True)
    assert load("--node-monitor-grace-period", "5").node_monitor_grace_period == 5
    assert load("--service-cidr", "10.1.0.0/16, fd00::/112").service_cidr == "10.1.0.0/16,fd00::/112"
    assert load("--data-dir", "here").data_dir == Path.cwd() / "here"
    assert load("--node-taint", "gpu:NoSchedule").node_taint == ("gpu:NoSchedule",)


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("https-listen-port", "http", "'http' is no whole number"),
        ("https-listen-port", "70000", "'70000' is no port (1 to 65535)"),
        ("simulated-nodes", "-1", "'-1' is no whole number"),
        ("node-monitor-grace-period", "soon", "not a duration: 'soon'"),
        ("bind-address", "localhost", "'localhost' does not appear to be an IPv4 or IPv6 address"),
        ("cluster-cidr", "10.42.0.1/16", "10.42.0.1/16 has host bits set"),
        (
            "disable",
            "etcd",
            "'etcd' is none of cloud-controller, scheduler, controller-manager, coredns, kube-proxy, local-storage, "
            "metrics-server",
        ),
        ("log-level", "loud", "'loud' is none of debug, info, warning, error"),
        ("node-label", "ssd", "'ssd' is no label (KEY=VALUE)"),
        ("node-taint", "a=b:Never", "'a=b:Never' is no taint"),
    ],
)
def test_wrong_values_are_named_with_where_they_stand(flag: str, value: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"{flag}: {value!r}\n")
    variable = "MINIK8S_" + flag.upper().replace("-", "_")
    for found, source in (
        (lambda: load(f"--{flag}={value}"), f"--{flag}: "),
        (lambda: load(**{variable: value}), f"{variable}: "),
        (lambda: load("--config", str(file)), f"{flag} in {file}: "),
    ):
        with pytest.raises(config.ConfigError) as caught:
            found()
        assert str(caught.value).startswith(source + told)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokn: x", "unknown option 'tokn', meant is perhaps 'token'"),
        ("server: https://h", "unknown option 'server'"),
        ("[1]", "must hold keys and values"),
        ("a: [", "is not YAML"),
        ("https-listen-port: true", "'True' is no whole number"),
        ("log-level: [debug, info]", "one value is wanted"),
        ("disable-agent: perhaps", "'perhaps' is neither true nor false"),
    ],
)
def test_wrong_files(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        load("--config", str(file))
    assert told.replace("'True'", "True") in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(config.ConfigError, match=r"cannot read .*: No such file"):
        load("--config", str(tmp_path / "none"))


def test_arguments_of_the_kubelet_keep_their_commas_and_are_checked_together() -> None:
    soft = (
        "eviction-soft=memory.available<1Gi,nodefs.available<20%",
        "eviction-soft-grace-period=memory.available=1m,nodefs.available=1m",
    )
    found = load("--kubelet-arg", soft[0], "--kubelet-arg", soft[1], command=config.AGENT)
    assert found.kubelet_arg == soft
    for arguments, told in ((soft[:1], "grace period must be specified"), (("evict=1",), "the kubelet knows no 'evict' here")):
        with pytest.raises(config.ConfigError, match=f"^--kubelet-arg: {told}"):
            load(*(f"--kubelet-arg={each}" for each in arguments))
