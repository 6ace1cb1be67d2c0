"""The codec against dnspython (RFC 1035, RFC 6891)."""

from __future__ import annotations

from ipaddress import IPv6Address

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minik8s.dns import wire
from minik8s.dns.wire import Record, Response

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
RECORD = st.one_of(
    st.builds(lambda n, a: Record(n, wire.A, 5, str(a)), NAME, st.ip_addresses(v=4)),
    st.builds(lambda n, a: Record(n, wire.AAAA, 5, str(a)), NAME, st.integers(1 << 112, (1 << 128) - 1).map(IPv6Address)),
    st.builds(lambda n, t: Record(n, wire.SRV, 5, (0, 100, 8080, t)), NAME, NAME),
    st.builds(lambda n, t: Record(n, wire.PTR, 5, t), NAME, NAME),
    st.builds(lambda n, t: Record(n, wire.CNAME, 5, t), NAME, NAME),
    st.builds(lambda n: Record(n, wire.TXT, 5, "1.1.0"), NAME),
    st.builds(lambda n, m: Record(n, wire.SOA, 5, (m, n, 1, 2, 3, 4, 5)), NAME, NAME),
)


def _text(record: Record) -> str:
    data = record.data
    if isinstance(data, tuple):
        return " ".join(f"{part}." if isinstance(part, str) else str(part) for part in data)
    if record.type in (wire.A, wire.AAAA):
        return data
    return f'"{data}"' if record.type == wire.TXT else f"{data}."


@settings(max_examples=60)
@given(NAME, st.lists(RECORD, max_size=6), st.booleans())
def test_what_we_write_dnspython_reads(name: str, records: list[Record], edns: bool) -> None:
    asked = dns.message.make_query(name, "A", use_edns=0 if edns else -1, payload=4096)
    query = wire.parse(asked.to_wire())
    assert (query.name, query.type, query.edns, query.size) == (name, wire.A, edns, 4096 if edns else 512)
    built = dns.message.from_wire(wire.build(query, Response(answers=records), limit=65535), one_rr_per_rrset=True)
    assert asked.is_response(built)
    shown = [
        (one.name.to_text(omit_final_dot=True), int(one.rdtype), one.ttl, rdata.to_text())
        for one in built.answer
        for rdata in one
    ]
    wanted = [(record.name, record.type, 5, _text(record)) for record in records]
    assert shown == wanted


@given(st.binary(max_size=60))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        wire.parse(data)
    except wire.Malformed:
        return


def test_a_long_answer_is_cut_and_says_so() -> None:
    """RFC 2181 9: whole records only; the asker's EDNS size counts, up to what every path takes."""
    records = [Record("a.b", wire.A, 5, f"10.0.{n // 250}.{n % 250}") for n in range(500)]
    for payload, longest in ((-1, 512), (4096, 1232)):
        asked = dns.message.make_query("a.b", "A", use_edns=payload > 0 and 0, payload=max(payload, 0))
        built = wire.build(wire.parse(asked.to_wire()), Response(answers=records))
        assert longest - 16 < len(built) <= longest
        assert dns.message.from_wire(built, ignore_trailing=False).flags & dns.flags.TC


def test_the_question_goes_back_as_it_was_asked() -> None:
    """Askers that mix the letters' case look whether it comes back (dns0x20)."""
    asked = dns.message.make_query("WeB.Default.svc.cluster.local", "A")
    query = wire.parse(asked.to_wire())
    built = dns.message.from_wire(wire.build(query, Response(answers=[Record(query.name, wire.A, 5, "10.0.0.1")])))
    assert built.question[0].name.to_text() == "WeB.Default.svc.cluster.local."


@pytest.mark.parametrize(
    "message", [b"", bytes(12), b"\0\0\x80\0\0\1" + bytes(11), b"\0\0\0\0\0\1" + bytes(6) + b"\xc0\x0c\0\1\0\1"]
)
def test_what_is_no_query(message: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse(message)
