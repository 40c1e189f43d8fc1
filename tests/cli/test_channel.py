"""The command's end of a channel, and its WebSocket, against an implementation of others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from cli.client import channel as channel_module
from cli.client import websocket
from cli.client.channel import Channel
from cli.client.pump import Pump
from cluster.channel import WINDOW, Kind, failure_frame, frame, number_frame, read_frame
from cluster.errors import NotFound, Unavailable
from tests.patience import PATIENCE

SIZES = st.lists(st.integers(0, 300) | st.sampled_from([125, 126, 65_535, 65_536, 70_000]), max_size=8)


def opened() -> ServerProtocol:
    """A server that has taken our opening."""
    server = ServerProtocol()
    headers = "".join(f"{name}: {value}\r\n" for name, value in websocket.opening().items())
    server.receive_data(f"GET / HTTP/1.1\r\nHost: m\r\n{headers}\r\n".encode())
    [request] = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    server.data_to_send()
    return server


@settings(deadline=None)
@given(SIZES)
def test_what_is_written_is_what_a_server_reads(sizes: list[int]) -> None:
    server, payloads = opened(), [os.urandom(size) for size in sizes]
    for payload in payloads:
        server.receive_data(websocket.written(payload))
    events = server.events_received()
    assert [event.data for event in events if isinstance(event, Frame)] == payloads


@settings(deadline=None)
@given(SIZES, st.integers(1, 40_000))
def test_what_a_server_writes_is_read_however_it_is_cut(sizes: list[int], at: int) -> None:
    server, payloads = opened(), [os.urandom(size) for size in sizes]
    for payload in payloads:
        server.send_binary(payload)
    data = b"".join(server.data_to_send())
    reader = websocket.Reader()
    read = [message for start in range(0, len(data), at) for message in reader.feed(data[start : start + at])]
    assert read == [(websocket.BINARY, payload) for payload in payloads]


@pytest.mark.parametrize("data", [b"\x02\x01a", b"\xc2\x01a", b"\x82\x81aaaaa", b"\x82\x7f" + bytes([255] * 8)])
def test_a_stream_that_is_none_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        list(websocket.Reader().feed(data))


class Manager:
    """The other end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.server = end, opened()
        end.settimeout(PATIENCE)

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.server.send_binary(message)
        self.end.sendall(b"".join(self.server.data_to_send()))

    def hear(self, count: int) -> list[tuple[Kind, bytes]]:
        heard: list[tuple[Kind, bytes]] = []
        while len(heard) < count:
            self.server.receive_data(self.end.recv(2**16))
            events = self.server.events_received()
            heard += [read_frame(bytes(e.data)) for e in events if isinstance(e, Frame) and e.opcode is Opcode.BINARY]
        return heard


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Manager]]:
    mine, theirs = socket.socketpair()
    with closing(Channel(mine, b"", "shop_web.1", "n1")) as channel, closing(theirs):
        yield channel, Manager(theirs)


def test_output_goes_to_its_sinks_and_the_exit_code_comes_back(ends: tuple[Channel, Manager], pipes: Pipes) -> None:
    channel, manager = ends
    manager.say(frame(Kind.START), frame(Kind.OUTPUT, b"one"), frame(Kind.ERROR_OUTPUT, b"two"))
    manager.say(frame(Kind.OUTPUT, b" three"), number_frame(Kind.END, 7))
    (out, out_end), (err, err_end) = pipes.make(), pipes.make()
    assert Pump(channel, None, {Kind.OUTPUT: out_end, Kind.ERROR_OUTPUT: err_end}).run() == 7
    assert os.read(out, 100) == b"one three"
    assert os.read(err, 100) == b"two"


def test_what_was_said_before_a_failure_is_shown_first(ends: tuple[Channel, Manager], pipes: Pipes) -> None:
    channel, manager = ends
    out, out_end = pipes.make()
    manager.say(frame(Kind.OUTPUT, b"one"), failure_frame(NotFound("it went", hint="look")))
    with pytest.raises(NotFound, match="it went"):
        Pump(channel, None, {Kind.OUTPUT: out_end}).run()
    assert os.read(out, 100) == b"one"


def test_a_channel_that_closes_before_its_end_was_cut(ends: tuple[Channel, Manager]) -> None:
    channel, manager = ends
    manager.end.close()
    with pytest.raises(Unavailable, match="cut"):
        Pump(channel, None, {}).run()


def test_input_stops_at_the_window_until_more_is_granted(ends: tuple[Channel, Manager], pipes: Pipes) -> None:
    channel, manager = ends
    sent = 0
    while count := channel.room:
        channel.send(Kind.INPUT, bytes(count))
        sent += count
        channel.flush()
        manager.hear(1)
    assert sent == WINDOW
    manager.say(number_frame(Kind.GRANT, 1000), number_frame(Kind.END, 0))
    channel.receive()
    assert [channel.room] == [1000]


def test_the_end_of_the_input_is_passed_on(ends: tuple[Channel, Manager], pipes: Pipes) -> None:
    channel, manager = ends
    source, typing = pipes.make()
    os.write(typing, b"typed")
    pipes.close(typing)
    manager.say(frame(Kind.OUTPUT, b""))
    ending = Pump(channel, source, {})
    for _ in range(2):
        ending._wait()
    assert manager.hear(2) == [(Kind.INPUT, b"typed"), (Kind.INPUT_END, b"")]


def test_a_manager_that_does_not_answer_is_given_up() -> None:
    mine, theirs = socket.socketpair()
    now = 0.0
    with closing(Channel(mine, b"", "shop_web.1", "n1", lambda: now)) as channel, closing(theirs):
        manager = Manager(theirs)
        now = channel_module.PING_AFTER + 1
        channel.check()
        channel.flush()
        manager.server.receive_data(theirs.recv(100))
        assert [e.opcode for e in manager.server.events_received() if isinstance(e, Frame)] == [Opcode.PING]
        now = channel_module.SILENCE + 1
        with pytest.raises(Unavailable, match="does not answer"):
            channel.check()
        theirs.sendall(b"".join(manager.server.data_to_send()))
        channel.receive()
        channel.check()


class Pipes:
    def __init__(self) -> None:
        self._open: set[int] = set()

    def make(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open |= set(ends)
        return ends

    def close(self, *ends: int) -> None:
        for end in ends:
            self._open.discard(end)
            os.close(end)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    pipes.close(*tuple(pipes._open))
