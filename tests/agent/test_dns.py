"""DNS messages against an independent library, and against anything at all."""

from __future__ import annotations

import ipaddress
import random

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import dns
from agent.dns import Query, Rcode


def ask(name: str = "web", kind: str = "A", **edns: int) -> bytes:
    record = dnslib.DNSRecord.question(name, kind)
    if edns:
        record.add_ar(dnslib.EDNS0(**edns))
    return bytes(record.pack())


def read(data: bytes) -> Query:
    query = dns.read_query(data)
    assert query is not None
    return query


@pytest.mark.parametrize(
    ("data", "name", "kind", "limit"),
    [
        pytest.param(ask("Web"), "web", dns.A, 512, id="names are in lower case"),
        pytest.param(ask("tasks.web.", "AAAA"), "tasks.web", dns.AAAA, 512, id="without the last dot"),
        pytest.param(ask("web", udp_len=1232), "web", dns.A, 1232, id="with the room that EDNS offers"),
        pytest.param(ask("web", udp_len=65000), "web", dns.A, 4096, id="with no more room than we use"),
        pytest.param(ask("web", udp_len=100), "web", dns.A, 512, id="with no less room than plain DNS has"),
        pytest.param(ask("."), "", dns.A, 512, id="the root"),
    ],
)
def test_a_query_is_read(data: bytes, name: str, kind: int, limit: int) -> None:
    query = read(data)
    assert (query.name, query.kind, query.limit, query.problem) == (name, kind, limit, None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(ask()[:2] + b"\x28\x00" + ask()[4:], Rcode.NOTIMP, id="an update"),
        pytest.param(ask()[:4] + b"\x00\x02" + ask()[6:], Rcode.FORMERR, id="two questions"),
        pytest.param(ask()[:-3], Rcode.FORMERR, id="a question that ends too early"),
        pytest.param(ask()[:12] + b"\xc0\x0c\x00\x01\x00\x01", Rcode.FORMERR, id="a compressed question"),
        pytest.param(ask()[:-2] + b"\x00\x03", Rcode.NOTIMP, id="another class"),
    ],
)
def test_what_is_not_a_plain_query_is_refused(data: bytes, problem: Rcode) -> None:
    query = read(data)
    assert query.problem is problem
    assert dnslib.DNSRecord.parse(dns.answer(query, rcode=problem)).header.rcode == problem


def test_a_newer_edns_is_refused_as_such() -> None:
    assert read(ask(version=0)).problem is None
    query = read(ask(version=1))
    assert query.problem is Rcode.BADVERS
    told = dnslib.DNSRecord.parse(dns.answer(query, rcode=Rcode.BADVERS))
    [edns] = told.ar
    assert (told.header.rcode, edns.edns_rcode, edns.edns_ver) == (0, 1, 0)


@pytest.mark.parametrize(
    "data", [b"", b"short", ask()[:2] + b"\x81\x80" + ask()[4:]], ids=["nothing", "short", "answer"]
)
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    assert dns.read_query(data) is None


HEAD = ask()[:12]


@given(st.binary(max_size=600) | st.binary(max_size=80).map(lambda tail: HEAD + tail))
def test_no_bytes_raise_and_every_answer_can_be_read(data: bytes) -> None:
    query = dns.read_query(data)
    if query is not None:
        dns.answer(query, addresses=("10.0.0.1",))


def test_an_answer_holds_its_records() -> None:
    query = read(ask("web", "ANY", udp_len=1232))
    answer = dnslib.DNSRecord.parse(dns.answer(query, addresses=("10.0.0.1", "fd00::1"), ttl=1))
    assert answer.header.id == query.id and answer.header.rcode == 0 and answer.header.ra and answer.header.rd
    assert [(str(rr.rname), rr.rtype, str(rr.rdata), rr.ttl) for rr in answer.rr] == [
        ("web.", 1, "10.0.0.1", 1),
        ("web.", 28, "fd00::1", 1),
    ]
    assert len(answer.ar) == 1


def test_a_pointer_is_a_name() -> None:
    query = read(ask("1.0.0.10.in-addr.arpa", "PTR"))
    assert (
        str(dnslib.DNSRecord.parse(dns.prepare(query, pointer="shop_web.1").message(b"id")).rr[0].rdata)
        == "shop_web.1."
    )


@given(st.integers(0, 400), st.integers(0, 200), st.sampled_from([512, 1232, 4096]), st.randoms())
def test_an_answer_never_exceeds_its_room_and_says_when_it_is_cut(
    count: int, longer: int, room: int, mixed: random.Random
) -> None:
    query = read(ask("web", "ANY", udp_len=room))
    addresses = [f"10.0.{n >> 8}.{n & 255}" for n in range(count)] + [f"fd00::{n + 1:x}" for n in range(longer)]
    prepared = dns.prepare(query, addresses=tuple(addresses))
    for number in (b"\0\1", b"\0\2"):
        data = prepared.message(number, mixed.shuffle)
        parsed = dnslib.DNSRecord.parse(data)
        told = [str(rr.rdata) for rr in parsed.rr]
        assert len(data) <= room and data[:2] == number
        assert len(set(told)) == len(told) and set(told) <= set(addresses)
        assert bool(parsed.header.tc) == (len(told) < len(addresses))


def test_only_the_answer_to_the_question_counts() -> None:
    query = read(ask("example.org"))
    good = dns.answer(query, addresses=("192.0.2.1",))
    assert dns.answers_to(good, query.id, query.question)
    assert not dns.answers_to(good, query.id ^ 1, query.question)
    assert not dns.answers_to(good, query.id, read(ask("example.com")).question)
    assert not dns.answers_to(ask("example.org"), query.id, query.question)
    assert not dns.answers_to(b"", query.id, query.question)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.10.in-addr.arpa", "10.2.3.4"),
        (ipaddress.ip_address("fd00:2::1").reverse_pointer, "fd00:2::1"),
        ("3.2.10.in-addr.arpa", ""),
        ("x.3.2.10.in-addr.arpa", ""),
        ("web", ""),
    ],
)
def test_reverse_names(name: str, address: str) -> None:
    assert dns.address_of(name) == address


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), max_size=200, unique=True), st.integers(0, 65535))
def test_what_our_resolver_tells_is_read(addresses: list[object], ident: int) -> None:
    asked = dns.write_query(ident, "tasks.web", dns.ANY)
    query = dns.read_query(asked)
    assert query is not None and (query.name, query.kind, query.limit, query.edns) == ("tasks.web", dns.ANY, 4096, True)
    told = dns.read_told(dns.answer(query, addresses=tuple(map(str, addresses)), ttl=1), asked)
    assert told is not None and told.code == 0 and told.addresses <= set(map(str, addresses))
    assert told.cut or told.addresses == set(map(str, addresses))
    refused = dns.read_told(dns.answer(query, rcode=dns.Rcode.NXDOMAIN), asked)
    assert refused == dns.Told(3, frozenset(), cut=False)
    other = dns.write_query((ident + 1) % 65536, "tasks.web", dns.ANY)
    assert dns.read_told(dns.answer(query), other) is None
