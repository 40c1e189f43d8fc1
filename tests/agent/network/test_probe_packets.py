from __future__ import annotations

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.network.probe_packets import (
    SMALLEST,
    Answer,
    Ask,
    mac_of,
    overhead,
    packet,
    read_answer,
    read_ask,
    read_summed,
    sizes_between,
    write_answer,
    write_ask,
    write_unsummed,
)

IDENTS = st.binary(min_size=8, max_size=8)
PORTS = st.integers(1, 65535)
V4, V6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)


@given(IDENTS, st.integers(SMALLEST, 9000), V4 | V6, PORTS, V4 | V6)
def test_a_probe_is_read_as_it_was_written_and_has_its_size(
    ident: bytes, size: int, address: str, port: int, target: str
) -> None:
    ask = Ask(ident, size, address, port)
    written = write_ask(ask, target)
    assert len(written) + overhead(target) == size
    assert read_ask(written[8:]) == ask, "the kernel takes the eight bytes of VXLAN off"


@given(st.binary(max_size=200))
def test_what_is_no_probe_and_no_answer_is_passed_over(data: bytes) -> None:
    assert read_ask(data) is None
    assert read_summed(data) is None
    assert read_answer(data) is None


def test_probes_that_are_no_larger_than_their_answers_are_not_answered() -> None:
    small = write_ask(Ask(b"12345678", SMALLEST - 1, "10.0.0.1", 5), "10.0.0.2")
    assert read_ask(small[8:]) is None
    answer = write_answer(Answer(b"12345678", SMALLEST, "n" * 80, 1.0, 2.0))
    assert len(packet("::1", "::2", 5, answer)) <= SMALLEST


@given(IDENTS, st.integers(0, 65535), st.text("abc0123", max_size=30), st.floats(0, 2e9))
def test_an_answer_is_read_as_it_was_written(ident: bytes, size: int, node: str, at: float) -> None:
    for checks in (False, True):
        answer = Answer(ident, size, node, at, at + 1, checks)
        assert read_answer(write_answer(answer)) == answer
    assert read_answer(write_answer(answer)[:-1]) == Answer(ident, size, node, at, at + 1), "of an agent before that"


@given(IDENTS, V4 | V6, PORTS, V4 | V6, st.integers(42, 42 + SMALLEST - 1), st.integers(1, 255))
def test_a_probe_of_checksums_is_taken_if_they_are_right_or_never_were_computed(
    ident: bytes, address: str, port: int, target: str, where: int, spoilt: int
) -> None:
    ask = Ask(ident, SMALLEST, address, port)
    written = write_unsummed(ask, target)
    assert written[10:16].hex(":") == mac_of(target)
    assert read_summed(written) == ask, "it never left the machine"
    udp = written[44:]
    total = sum(struct.unpack(f"!{len(udp) // 2}H", udp))  # with that of the pseudo header, which it begins with
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    summed = bytes(10) + written[10:50] + (~total & 0xFFFF).to_bytes(2, "big") + written[52:]
    assert read_summed(summed) == ask
    assert read_summed(summed[: 10 + where] + bytes((summed[10 + where] ^ spoilt,)) + summed[11 + where :]) is None
    assert read_ask(written[10:]) is None and read_summed(write_ask(ask, target)) is None


@given(V4, V4, PORTS, st.binary(max_size=99))
def test_a_packet_leaves_from_the_port_of_overlays(here: str, there: str, port: int, payload: bytes) -> None:
    written = packet(here, there, port, payload)
    assert written[:2] == b"\x45\0" and len(written) == 28 + len(payload)
    assert written[12:20] == ipaddress.ip_address(here).packed + ipaddress.ip_address(there).packed
    assert struct.unpack("!HHHH", written[20:28]) == (4789, port, 8 + len(payload), 0)


@given(V6, V6, PORTS, st.binary(max_size=99))
def test_the_checksum_is_right_where_there_has_to_be_one(here: str, there: str, port: int, payload: bytes) -> None:
    written = packet(here, there, port, payload)
    udp = written[40:]
    covered = written[8:40] + len(udp).to_bytes(4, "big") + (17).to_bytes(4, "big") + udp
    covered += b"\0" * (len(covered) % 2)
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    assert (total % 0xFFFF) == 0 and udp[6:8] != b"\0\0"


@given(st.integers(SMALLEST, 9000), st.integers(1, 9000))
def test_sizes_between_come_to_the_very_size_in_few_rounds(passed: int, more: int) -> None:
    failed, real = passed + more, passed + more // 3
    for _ in range(4):
        sizes = sizes_between(passed, failed)
        assert all(passed < size < failed for size in sizes) and len(sizes) <= 50
        passed = max([passed, *(size for size in sizes if size <= real)])
        failed = min([failed, *(size for size in sizes if size > real)])
    assert (passed, failed) == (real, real + 1)
