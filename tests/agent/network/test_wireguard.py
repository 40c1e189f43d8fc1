"""How WireGuard devices are told and asked, by both ways, without any device."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pyroute2.netlink.generic.wireguard import wgmsg

from agent.network import wireguard, wireguard_kernel
from agent.network.wireguard import Change, Held, OwnKey, Peer, address_of
from cluster.errors import Failed

KEY, OTHER, THIRD = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
OWN = OwnKey(base64.b64encode(bytes(range(32))).decode(), KEY, 24789)
NEAR, FAR = Peer("10.0.0.2", 24789), Peer("fd00::2", 24790, called=True)


def test_addresses_inside_belong_to_keys() -> None:
    assert address_of(KEY) == address_of(KEY) != address_of(OTHER)
    assert address_of(KEY).startswith("fd")


@pytest.mark.parametrize("text", ["", "k" * 44, base64.b64encode(bytes(31)).decode(), "päpä", KEY + "\n"], ids=repr)
def test_what_is_no_key(text: str) -> None:
    assert wireguard.is_key(KEY)
    assert not wireguard.is_key(text)


def held(**fields: Any) -> Held:
    peers = {public: frozenset((address_of(public),)) for public in (OTHER, THIRD)}
    told: dict[str, Any] = {"public": KEY, "port": 24789, "peers": peers, "met": frozenset()}
    return Held(**told | fields)


@pytest.mark.parametrize(
    ("found", "wanted", "prune", "expected"),
    [
        pytest.param(held(), {OTHER: NEAR, THIRD: FAR}, True, Change(), id="all is as it should be"),
        pytest.param(None, {OTHER: NEAR}, True, Change(OWN, True, {OTHER: NEAR}), id="a new device"),
        pytest.param(held(public=THIRD), {OTHER: NEAR}, True, Change(OWN, True, {OTHER: NEAR}), id="another key"),
        pytest.param(held(port=1), {OTHER: NEAR}, True, Change(OWN, True, {OTHER: NEAR}), id="another port"),
        pytest.param(held(), {OTHER: NEAR}, True, Change(drop=frozenset((THIRD,))), id="one too many"),
        pytest.param(held(), {OTHER: NEAR}, False, Change(), id="one too many, perhaps"),
        pytest.param(held(), {OTHER: FAR, THIRD: FAR}, True, Change(put={OTHER: FAR}), id="one that has moved"),
        pytest.param(
            held(peers={OTHER: frozenset((address_of(OTHER), "::/0")), THIRD: frozenset((address_of(THIRD),))}),
            {OTHER: NEAR, THIRD: FAR}, True, Change(put={OTHER: NEAR}), id="one that may say too much",
        ),
    ],
)  # fmt: skip
def test_only_what_differs_is_said(found: Held | None, wanted: dict[str, Peer], prune: bool, expected: Change) -> None:
    said = wireguard.change(found, {OTHER: NEAR, THIRD: FAR}, OWN, wanted, prune)
    assert said == expected
    assert said.is_nothing == (expected == Change())


def test_the_command_for_the_program() -> None:
    said = Change(OWN, True, {OTHER: NEAR, THIRD: FAR}, frozenset((KEY,)))
    assert wireguard.command(said).splitlines() == [
        "set=1",
        f"private_key={bytes(range(32)).hex()}",
        "listen_port=24789",
        "replace_peers=true",
        f"public_key={'01' * 32}",
        "remove=true",
        f"public_key={'02' * 32}",
        "endpoint=10.0.0.2:24789",
        "persistent_keepalive_interval=0",
        "replace_allowed_ips=true",
        f"allowed_ip={address_of(OTHER)}/128",
        f"public_key={'03' * 32}",
        "endpoint=[fd00::2]:24790",
        f"persistent_keepalive_interval={wireguard.CALL_INTERVAL}",
        "replace_allowed_ips=true",
        f"allowed_ip={address_of(THIRD)}/128",
        "",
    ]


def test_the_answer_of_the_program() -> None:
    text = (
        f"private_key={bytes(range(32)).hex()}\nlisten_port=24789\n"
        f"public_key={'02' * 32}\npreshared_key={'00' * 32}\nendpoint=10.0.0.2:24789\n"
        f"last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=0\nallowed_ip={address_of(OTHER)}/128\n"
        f"public_key={'03' * 32}\nlast_handshake_time_sec=0\nallowed_ip={address_of(THIRD)}/128\nerrno=0\n\n"
    )
    assert wireguard.answer(text, {OWN.private: OWN.public}) == held(met=frozenset((OTHER,)))
    assert wireguard.answer(text, {}).public == ""


@pytest.mark.parametrize("text", ["errno=-98\n\n", ""], ids=["refused", "cut short"])
def test_a_refusal_of_the_program(text: str) -> None:
    with pytest.raises(Failed, match="WireGuard refused"):
        wireguard.answer(text, {})


def read_by_another(body: bytes) -> Any:
    """What an independent library reads in a message to the kernel; it wants the netlink header before it."""
    message = wgmsg((16 + len(body)).to_bytes(4, "little") + bytes(12) + body)
    message.decode()
    return message


def test_messages_to_the_kernel_are_read_so_by_others() -> None:
    [request] = wireguard_kernel.set_device(40, "wg0", Change(OWN, True, {OTHER: NEAR, THIRD: FAR}, frozenset((KEY,))))
    read = read_by_another(request.body)
    assert request.kind == 40 and read["cmd"] == 1
    assert read.get_attr("WGDEVICE_A_IFNAME") == "wg0"
    assert read.get_attr("WGDEVICE_A_LISTEN_PORT") == 24789
    assert read.get_attr("WGDEVICE_A_FLAGS") == 1
    gone, near, far = read.get_attr("WGDEVICE_A_PEERS")
    assert gone.get_attr("WGPEER_A_FLAGS") == 1
    assert near.get_attr("WGPEER_A_FLAGS") == far.get_attr("WGPEER_A_FLAGS") == 2
    assert near.get_attr("WGPEER_A_PUBLIC_KEY") == OTHER.encode()
    assert near.get_attr("WGPEER_A_ENDPOINT")["addr"] == "10.0.0.2"
    assert near.get_attr("WGPEER_A_ENDPOINT")["port"] == 24789
    assert far.get_attr("WGPEER_A_ENDPOINT")["addr"] == "fd00::2"
    assert far.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == wireguard.CALL_INTERVAL
    [allowed] = near.get_attr("WGPEER_A_ALLOWEDIPS")
    assert allowed.get_attr("WGALLOWEDIP_A_CIDR_MASK") == 128


def test_what_is_said_to_the_kernel_is_what_is_heard_of_it() -> None:
    """The kernel tells a device in the form in which it is told one."""
    peers = {base64.b64encode(bytes([n]) * 32).decode(): NEAR for n in range(10, 200)}
    requests = list(wireguard_kernel.set_device(40, "wg0", Change(OWN, True, peers)))
    assert len(requests) == 4
    found = wireguard_kernel.held(iter([request.body for request in requests]))
    assert found.port == 24789
    assert found.peers == {public: frozenset((address_of(public),)) for public in peers}
