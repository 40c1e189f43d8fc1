"""What programs of the host listen on, as its kernel tells."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from agent.network.wiring import Wiring
from tests.agent.network.test_wiring import socket_in
from tests.agent.network.underlay import SUBNET, host

pytestmark = pytest.mark.root


async def test_ports_are_known_while_somebody_listens(wirings: dict[str, Wiring]) -> None:
    here = wirings["h1"]
    assert not here.listening, "and nothing of the cluster's own"
    with ExitStack() as opened:
        tcp, there = (opened.enter_context(socket_in(host(name), socket.SOCK_STREAM)) for name in ("h1", "h2"))
        tcp.bind(("127.0.0.1", 5432))
        tcp.listen()
        there.bind(("", 22))
        there.listen()
        udp, client, connected = (opened.enter_context(socket_in(host("h1"), socket.SOCK_DGRAM)) for _ in range(3))
        udp.bind(("", 514))
        client.bind(("", 40000))
        connected.bind((f"{SUBNET}.1", 123))
        connected.connect((f"{SUBNET}.1", 9))
        await here.audit()
        assert here.listening == ("udp/514", "tcp/5432")
        assert here.listening != wirings["h2"].listening
    await here.audit()
    assert not here.listening
