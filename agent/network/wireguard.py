"""What a node's WireGuard devices should be, and how `wireguard-go` is told and asked. Pure.

Each key has an address of its own, a digest of it, that packets from its holder must bear; so two keys of one node can
be in use side by side, and no address need be given out. The addresses are only seen inside the tunnels.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.errors import Failed

PORTS = (24789, 24790)
"""UDP ports that nodes send to each other by, one for each of a node's two keys."""

_PREFIX = bytes((0xFD,))
"""Of the unique local addresses (RFC 4193)."""


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key of this node; both halves in base64. The private one goes nowhere but to the device."""

    private: str = field(repr=False)
    public: str
    port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the holder of a public key is listened to: an address of the network between the nodes, and a UDP port.

    A `preferred` key is the one of its node's to send to. One that is `called` hears of us without being sent anything,
    so that it comes to be known who knows our key.
    """

    address: str
    port: int
    preferred: bool = True
    called: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What a device is, as it tells: its public key, its port, and for each peer its addresses inside.

    `met` are peers that it has exchanged keys with since they were added.
    """

    public: str
    port: int
    peers: dict[str, frozenset[str]]
    met: frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be said to a device. `key` None leaves its key and port; with `anew` it forgets all other peers."""

    key: OwnKey | None = None
    anew: bool = False
    put: Mapping[str, Peer] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()

    @property
    def is_nothing(self) -> bool:
        return self.key is None and not self.put and not self.drop


CALL_INTERVAL = 5
"""Seconds between two signs of life to a peer that is called."""


class Gone(Failed):
    """A device is not there any more."""


def is_key(public: str) -> bool:
    """Tell whether a text is a public key; what another node says is of its own making."""
    try:
        return len(base64.b64decode(public, validate=True)) == 32
    except ValueError:
        return False


def address_of(public: str) -> str:
    """The address inside the tunnels of whoever holds a key."""
    digest = hashlib.blake2b(base64.b64decode(public), digest_size=15).digest()
    return str(ipaddress.IPv6Address(_PREFIX + digest))


def change(
    held: Held | None, known: Mapping[str, Peer], key: OwnKey, wanted: Mapping[str, Peer], prune: bool
) -> Change:
    """Compare a device (None: it has just been made) with what it should be.

    `known` is what it was told before: peers that move are followed by WireGuard itself, so that what the device says
    of their whereabouts is no guide.
    """
    if held is None or held.public != key.public or held.port != key.port:
        return Change(key, True, dict(wanted))
    put = {
        public: peer
        for public, peer in wanted.items()
        if known.get(public) != peer or held.peers.get(public) != frozenset((address_of(public),))
    }
    return Change(None, False, put, frozenset(held.peers.keys() - wanted.keys()) if prune else frozenset())


def command(said: Change) -> str:
    """Write a change as the cross-platform interface of WireGuard has it (wireguard.com/xplatform)."""
    lines = ["set=1"]
    if said.key is not None:
        lines += [f"private_key={_hex(said.key.private)}", f"listen_port={said.key.port}"]
    if said.anew:
        lines.append("replace_peers=true")
    for public in sorted(said.drop):
        lines += [f"public_key={_hex(public)}", "remove=true"]
    for public, peer in sorted(said.put.items()):
        host = f"[{peer.address}]" if ":" in peer.address else peer.address
        lines += [
            f"public_key={_hex(public)}",
            f"endpoint={host}:{peer.port}",
            f"persistent_keepalive_interval={CALL_INTERVAL if peer.called else 0}",
            "replace_allowed_ips=true",
            f"allowed_ip={address_of(public)}/128",
        ]
    return "\n".join(lines) + "\n\n"


QUESTION = "get=1\n\n"


def answer(text: str, public_of: Mapping[str, str]) -> Held:
    """Read what a device says of itself; `public_of` gives the public halves of private keys that may be its own.

    Raises Failed for a refusal.
    """
    private, port, peer = "", 0, ""
    peers: dict[str, set[str]] = {}
    met: set[str] = set()
    for name, value in pairs(text):
        match name:
            case "private_key":
                private = _base64(value)
            case "listen_port":
                port = int(value)
            case "public_key":
                peer = _base64(value)
                peers[peer] = set()
            case "allowed_ip":
                peers[peer].add(value.removesuffix("/128"))
            case "last_handshake_time_sec" if value != "0":
                met.add(peer)
            case _:
                pass
    allowed = {public: frozenset(addresses) for public, addresses in peers.items()}
    return Held(public_of.get(private, ""), port, allowed, frozenset(met))


def pairs(text: str) -> Iterable[tuple[str, str]]:
    """Split an answer. Raises Failed for a refusal."""
    found = [(name, value) for name, _, value in (line.partition("=") for line in text.splitlines() if line)]
    errors = [value for name, value in found if name == "errno"]
    if errors != ["0"]:
        raise Failed(f"WireGuard refused what it was told (errno {', '.join(errors) or 'missing'})")
    return found


def _hex(key: str) -> str:
    return base64.b64decode(key).hex()


def _base64(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()
