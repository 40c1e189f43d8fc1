"""What agents are told of encrypted networks: who knows of them gets the other nodes' keys, who does not nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import codec
from cluster.assignments import NetworkItem, PeerItem
from cluster.codec import Record
from cluster.model.network import Network, TunnelKey
from cluster.model.node import Node, Session, SessionState
from cluster.protocol import TUNNELS
from manager.picture import ClusterState, Event
from manager.sessions.assignments import assignments
from tests.manager.managers import description
from tests.manager.sessions.stage import service, shop, task

KEYS = (TunnelKey("a" * 44, 24790), TunnelKey("b" * 44, 24789))


def told(*, encrypted: bool, version: int = TUNNELS) -> list[object]:
    """What of networks and of a task's endpoint its node is told."""
    told = replace(description("alpha", "10.0.0.1"), tunnels=KEYS)
    records: tuple[Record, ...] = (
        Node("id-1", "alpha", "worker", 1.0),
        Session("id-1", 1, "m1", SessionState.OPEN, 1.0, told, version=version),
        *(replace(one, encrypted=encrypted) if isinstance(one, Network) else one for one in shop(service())),
        task(1, "id-1"),
    )
    state = ClusterState()
    state.apply([Event(codec.key_of(r), codec.encode(r), 1) for r in records], 1)
    return [item for item in assignments(state, "id-1").values() if isinstance(item, NetworkItem | PeerItem)]


@pytest.mark.parametrize(("encrypted", "keys"), [(True, KEYS), (False, ())], ids=["encrypted", "clear"])
def test_endpoints_of_encrypted_networks_come_with_the_keys_of_their_nodes(
    encrypted: bool, keys: tuple[TunnelKey, ...]
) -> None:
    found = told(encrypted=encrypted)
    assert [item.tunnels for item in found if isinstance(item, PeerItem)] == [keys]
    assert [item.network.encrypted for item in found if isinstance(item, NetworkItem)] == [encrypted]


def test_an_agent_that_would_send_in_clear_is_told_of_no_encrypted_network() -> None:
    assert told(encrypted=True, version=TUNNELS - 1) == []
    assert len(told(encrypted=False, version=TUNNELS - 1)) == 2
