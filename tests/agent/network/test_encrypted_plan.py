"""What a node's kernel should hold of encrypted networks: never the way in clear."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from agent.network.plan import plan
from agent.network.wireguard import Peer, address_of
from cluster.assignments import NetworkItem, PeerItem
from cluster.model.network import Endpoint, Network, TunnelKey

SAFE = Network("safe", "safe", "s", "safe", 0x1234, ("10.1.0.0/16",), encrypted=True)
NEW, OLD = (TunnelKey(base64.b64encode(bytes([n]) * 32).decode(), 24789 + n) for n in (0, 1))


def peer(last: int, node: str, *keys: TunnelKey, network: Network = SAFE) -> PeerItem:
    end = Endpoint("", (f"10.1.0.{last}",))
    return PeerItem(network.id, f"t{last}", node, f"192.0.2.{last}", end.addresses, end.mac, True, tunnels=keys)


def test_endpoints_elsewhere_are_sent_to_by_the_first_key_of_their_node() -> None:
    found = plan("n1", "192.0.2.1", 1500, [NetworkItem(SAFE), peer(1, "n1", OLD), peer(2, "n2", NEW, OLD)])
    overlay = found.overlays["safe"]
    assert overlay.encrypted and overlay.vtep == "" and found.encrypts
    assert overlay.remote == {"02:42:0a:01:00:02": address_of(NEW.public)}
    assert found.tunnels == {
        NEW.public: Peer("192.0.2.2", NEW.port),
        OLD.public: Peer("192.0.2.2", OLD.port, preferred=False),
    }


@pytest.mark.parametrize("keys", [(), (TunnelKey("no key", 24789),)], ids=["none", "one that is none"])
def test_a_node_without_a_key_is_not_sent_to_at_all(keys: tuple[TunnelKey, ...]) -> None:
    found = plan("n1", "192.0.2.1", 1500, [NetworkItem(SAFE), peer(2, "n2", *keys)])
    assert not found.overlays["safe"].remote and not found.overlays["safe"].neighbours and not found.tunnels


def test_nodes_of_other_networks_are_no_peers() -> None:
    clear = replace(SAFE, id="clear", encrypted=False)
    found = plan("n1", "192.0.2.1", 1500, [NetworkItem(clear), peer(2, "n2", NEW, network=clear)])
    assert found.overlays["clear"].remote == {"02:42:0a:01:00:02": "192.0.2.2"}
    assert not found.encrypts and not found.tunnels


@pytest.mark.parametrize(
    ("vtep", "expected"), [("192.0.2.1", 1500 - 60 - 16 - 70), ("2001:db8::1", 1500 - 80 - 16 - 70)]
)
def test_the_mtu_leaves_room_for_tunnels(vtep: str, expected: int) -> None:
    assert plan("n1", vtep, 1500, [NetworkItem(SAFE)]).overlays["safe"].mtu == expected
