"""What an engine gives of a program's two outputs is taken apart, however it comes."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as some

from agent.demultiplexer import Demultiplexer
from cluster.protocol import STDERR, STDOUT

WRITES = some.lists(some.tuples(some.sampled_from((STDOUT, STDERR)), some.binary(max_size=40)), max_size=12)
NUMBERS = {STDOUT: b"\1", STDERR: b"\2"}


def stream(writes: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(NUMBERS[source] + bytes(3) + len(data).to_bytes(4, "big") + data for source, data in writes)


def joined(parts: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Put together what follows each other of one source."""
    full = [part for part in parts if part[1]]
    return [(source, b"".join(data for _, data in run)) for source, run in groupby(full, lambda part: part[0])]


@given(WRITES, some.lists(some.integers(1, 30)))
def test_all_comes_in_its_order_wherever_the_stream_is_cut(writes: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data, frames, found = stream(writes), Demultiplexer(), []
    for length in cuts:
        found += frames.feed(data[:length])
        data = data[length:]
    found += frames.feed(data)
    assert joined(found) == joined(writes)


@given(WRITES)
def test_what_comes_together_of_one_source_is_given_together(writes: list[tuple[bytes, bytes]]) -> None:
    assert Demultiplexer().feed(stream(writes)) == joined(writes)
