"""What the pods' network decides, without a kernel: addresses, routes, the table's text, the CNI configuration (spec 0.4.0)."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minik8s.network.addresses import Addresses, OutOfAddresses
from minik8s.network.cni import write_conflist
from minik8s.network.pods import internal_address, link_name, masquerade, routes

SMALL = IPv4Network("10.42.0.0/29")  # five addresses for pods: .2 to .6


def test_addresses_are_given_in_turn_and_kept(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    given_ = [str(addresses.take(name, SMALL)) for name in "abcde"]
    assert given_ == [f"10.42.0.{n}" for n in range(2, 7)]
    with pytest.raises(OutOfAddresses, match=r"no address left in 10\.42\.0\.0/29"):
        addresses.take("f", SMALL)
    addresses.release(IPv4Address("10.42.0.3"))
    assert addresses.take("f", SMALL) == IPv4Address("10.42.0.3")
    assert addresses.take("a", SMALL) == IPv4Address("10.42.0.2")  # who has one keeps it
    again = Addresses(tmp_path)
    assert again.holders() == addresses.holders()
    assert again.take("c", SMALL) == IPv4Address("10.42.0.4")


def test_an_address_just_let_go_is_not_given_again_at_once(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    first = addresses.take("a", SMALL)
    addresses.release(first)
    assert addresses.take("b", SMALL) == first + 1


def test_a_node_that_got_another_cidr(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    addresses.take("a", SMALL)
    assert addresses.take("a", IPv4Network("10.42.1.0/24")) == IPv4Address("10.42.1.2")
    assert list(addresses.holders().values()) == ["a"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.booleans()), max_size=40))
def test_the_invariants_hold(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool]]) -> None:
    directory = tmp_path_factory.mktemp("addresses")
    addresses = Addresses(directory)
    for name, take in steps:
        if take:
            try:
                addresses.take(name, SMALL)
            except OutOfAddresses:
                assert len(addresses.holders()) == 5
        elif (held := addresses.of(name)) is not None:
            addresses.release(held)
        holders = addresses.holders()
        assert len(set(holders.values())) == len(holders)
        assert {file.name: file.read_text() for file in directory.iterdir()} == {str(a): n for a, n in holders.items()}
        assert all(2 <= int(address) - int(SMALL.network_address) <= 6 for address in holders)


def test_routes_lead_to_other_nodes() -> None:
    nodes = {
        "own": ("10.42.0.0/24", "192.0.2.1"),
        "other": ("10.42.1.0/24", "192.0.2.2"),
        "new": ("", "192.0.2.3"),
        "nowhere": ("10.42.3.0/24", ""),
        "same machine": ("10.42.4.0/24", "192.0.2.1"),
    }
    assert routes(nodes, "own") == {IPv4Network("10.42.1.0/24"): IPv4Address("192.0.2.2")}


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        ([("Hostname", "a"), ("InternalIP", "fd00::1"), ("InternalIP", "192.0.2.1"), ("InternalIP", "192.0.2.2")], "192.0.2.1"),
        ([("ExternalIP", "192.0.2.1")], ""),
        ([], ""),
    ],
)
def test_internal_address(addresses: list[tuple[str, str]], found: str) -> None:
    status = {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}
    assert internal_address({"metadata": {}, "spec": {}, "status": status}) == found


def test_only_what_leaves_the_cluster_is_masqueraded() -> None:
    text = masquerade(IPv4Network("10.42.1.0/24"), IPv4Network("10.42.0.0/16"))
    assert "ip saddr 10.42.1.0/24 ip daddr != { 10.42.0.0/16, 224.0.0.0/4 } masquerade" in text


def test_link_names_fit_the_kernel() -> None:
    names = {link_name(IPv4Address("10.42.0.0") + n) for n in range(1000)}
    assert len(names) == 1000
    assert {len(name) for name in names} == {15}


def test_cni_configuration(tmp_path: Path) -> None:
    written = json.loads(write_conflist(tmp_path / "net.d", "10.42.1.0/24", tmp_path / "leases").read_text())
    assert (written["cniVersion"], [plugin["type"] for plugin in written["plugins"]]) == ("0.4.0", ["ptp"])
    assert written["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.42.1.0/24"}]]
    assert written["plugins"][0]["ipam"]["dataDir"] == str(tmp_path / "leases"), "not the machine's, which outlive the cluster"
    assert [file.name for file in (tmp_path / "net.d").iterdir()] == ["10-minik8s.conflist"]
