"""nf_tables messages as bytes: tables, chains, rules and maps of sandboxes. Pure.

By hand because a sandbox gets its table while its container waits, and because what is said once can then be sent to
every sandbox as it is: libnftables takes a millisecond and 700 KB for each. Numbers are those of
linux/netfilter/nf_tables.h; all of them go in network byte order.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator

from agent.network.netlink import CREATE, DUMP, NESTED, Request, attribute, attributes

INET, NETDEV, BRIDGE = 1, 5, 7
IPV4, IPV6 = 2, 10
APPEND = 0x800

PREROUTING, INPUT, OUTPUT = 0, 1, 3
EGRESS = 1  # of the family NETDEV

REG_VERDICT, REG_1, REG_2, REG32_01, REG32_03 = 0, 1, 2, 9, 11
"""Register 1 is the first 16 bytes, REG32_01 its second word: what follows an IPv4 address in a key."""

DROP, ACCEPT = 0, 1
CT_STATE, CT_MARK = 0, 3

META_MARK, META_IIF, META_OIF, META_IIFNAME, META_NFPROTO, META_L4PROTO = 3, 4, 5, 6, 15, 16
TYPE_IPV4, TYPE_IPV6, TYPE_MARK, TYPE_VERDICT = 7, 8, 19, 0xFFFFFF00
"""nft's own numbers for types, by which it shows maps that it did not make."""

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
(
    _NEWTABLE, _, _DELTABLE, _NEWCHAIN, _, _, _NEWRULE, _, _DELRULE, _NEWSET, _, _, _NEWSETELEM, _GETSETELEM,
    _DELSETELEM, _NEWGEN, _GETGEN,
) = range(17)  # fmt: skip
_SET_MAP, _SET_TIMEOUT = 0x8, 0x10
_SET_KEYS = 0
_GOTO = (-4).to_bytes(4, "big", signed=True)
_GENERIC = struct.Struct("!BBH")
_ELEMENTS_AT_ONCE = 500

Expression = bytes


def batch(*requests: Request) -> tuple[Request, ...]:
    """Wrap messages so that the kernel does all of them or none."""
    frame = _GENERIC.pack(0, 0, _SUBSYSTEM)
    return (
        Request(_BATCH_BEGIN, 0, frame, "the rules of a sandbox"),
        *requests,
        Request(_BATCH_END, 0, frame, "the rules of a sandbox"),
    )


def get_generation() -> Request:
    return Request(_kind(_GETGEN), 0, _GENERIC.pack(0, 0, 0), "the generation of the rules")


def read_generation(body: bytes) -> int:
    """Read the number that grows by one with each transaction in the namespace."""
    return int.from_bytes(attributes(body, _GENERIC.size).get(1, b""), "big")


def fresh_table(family: int, name: str) -> tuple[Request, ...]:
    """Make a table that is empty, whether or not there was one."""
    made, gone = no_table(family, name)
    return made, gone, made


def emptied_table(family: int, name: str) -> tuple[Request, Request]:
    """Make a table, and take the rules out of the chains of one that is there; its chains, sets and maps stay."""
    about = f"table {name}"
    return (
        _request(_NEWTABLE, family, CREATE, _text(1, name), about),
        _request(_DELRULE, family, 0, _text(1, name), about),
    )


def no_table(family: int, name: str) -> tuple[Request, Request]:
    """Take a table away, whether or not there is one."""
    about = f"table {name}"
    return (
        _request(_NEWTABLE, family, CREATE, _text(1, name), about),
        _request(_DELTABLE, family, 0, _text(1, name), about),
    )


def chain(family: int, table: str, name: str, *rules: tuple[Expression, ...]) -> tuple[Request, ...]:
    """Make a chain that is only gone to, with its rules."""
    made = _request(_NEWCHAIN, family, CREATE, _text(1, table) + _text(3, name), f"chain {name}")
    return made, *(_rule(family, table, name, rule) for rule in rules)


def base_chain(
    family: int, table: str, name: str, kind: str, hook: int, priority: int, *rules: tuple[Expression, ...],
    device: str = "", policy: int = ACCEPT,
) -> tuple[Request, ...]:  # fmt: skip
    """Make a chain that packets come to at a hook, with its rules; what no rule decides goes by the policy."""
    where = _number(1, hook) + attribute(2, priority.to_bytes(4, "big", signed=True))
    where += _text(3, device) if device else b""
    body = _text(1, table) + _text(3, name) + _nested(4, where) + _number(5, policy) + _text(7, kind)
    made = _request(_NEWCHAIN, family, CREATE, body, f"chain {name}")
    return made, *(_rule(family, table, name, rule) for rule in rules)


def _rule(family: int, table: str, name: str, expressions: tuple[Expression, ...]) -> Request:
    body = _text(1, table) + _text(2, name) + _nested(4, b"".join(_nested(1, each) for each in expressions))
    return _request(_NEWRULE, family, CREATE | APPEND, body, f"a rule of chain {name}")


def make_map(
    family: int, table: str, name: str, number: int, key: tuple[int, int], value: tuple[int, int], *,
    seconds: int = 0,
) -> Request:  # fmt: skip
    """Make a map; key and value are (nft's type, length in bytes), `number` tells it from others of the batch.

    Its elements go after so many `seconds` (0: never).
    """
    body = (
        _text(1, table) + _text(2, name) + _number(3, _SET_MAP | (_SET_TIMEOUT if seconds else 0))
        + _number(4, key[0]) + _number(5, key[1]) + _number(6, value[0]) + _number(7, value[1]) + _number(10, number)
        + (attribute(11, (1000 * seconds).to_bytes(8, "big")) if seconds else b"")
    )  # fmt: skip
    return _request(_NEWSET, family, CREATE, body, f"map {name}")


def emptied_map(family: int, table: str, name: str) -> Request:
    """Take all elements out of a map."""
    return _request(_DELSETELEM, family, 0, _text(1, table) + _text(2, name), f"map {name}")


def make_set(family: int, table: str, name: str, number: int, key: tuple[int, int]) -> Request:
    """Make a set of keys, as `make_map` makes a map."""
    body = (
        _text(1, table) + _text(2, name) + _number(3, _SET_KEYS) + _number(4, key[0]) + _number(5, key[1])
        + _number(10, number)
    )  # fmt: skip
    return _request(_NEWSET, family, CREATE, body, f"set {name}")


def add_keys(family: int, table: str, name: str, keys: Iterable[bytes]) -> list[Request]:
    """Add keys to a set; those that are in it stay."""
    encoded = [_nested(1, _nested(1, attribute(1, key))) for key in keys]
    return _elements(_NEWSETELEM, family, table, name, encoded, CREATE)


def add_elements(family: int, table: str, name: str, elements: Iterable[tuple[bytes, bytes | str]]) -> list[Request]:
    """Add keys with their values: bytes, or the name of the chain to go to."""
    encoded = [_nested(1, _nested(1, attribute(1, key)) + _value(value)) for key, value in elements]
    return _elements(_NEWSETELEM, family, table, name, encoded, CREATE)


def delete_elements(family: int, table: str, name: str, keys: Iterable[bytes]) -> list[Request]:
    encoded = [_nested(1, _nested(1, attribute(1, key))) for key in keys]
    return _elements(_DELSETELEM, family, table, name, encoded, 0)


def _elements(kind: int, family: int, table: str, name: str, encoded: list[bytes], flags: int) -> list[Request]:
    head = _text(1, table) + _text(2, name)
    return [
        _request(kind, family, flags, head + _nested(3, b"".join(encoded[i : i + _ELEMENTS_AT_ONCE])), f"map {name}")
        for i in range(0, len(encoded), _ELEMENTS_AT_ONCE)
    ]


def _value(value: bytes | str) -> bytes:
    if isinstance(value, bytes):
        return _nested(2, attribute(1, value))
    return _nested(2, _nested(2, attribute(1, _GOTO) + _text(2, value)))


def list_elements(family: int, table: str, name: str) -> Request:
    """Ask for all elements of a map."""
    head = _text(1, table) + _text(2, name)
    return Request(_kind(_GETSETELEM), DUMP, _GENERIC.pack(family, 0, 0) + head, f"the elements of map {name}")


def read_elements(body: bytes) -> Iterator[tuple[bytes, bytes | str]]:
    """Read a part of the answer to that: keys with their values, as `add_elements` takes them."""
    for element in _each(attributes(body, _GENERIC.size).get(3, b"")):
        found = attributes(element)
        key, value = attributes(found.get(1, b"")).get(1, b""), attributes(found.get(2, b""))
        chain_name = attributes(value[2]).get(2, b"").rstrip(b"\0").decode() if 2 in value else ""
        yield key, value[1] if 1 in value else chain_name


def _each(data: bytes) -> Iterator[bytes]:
    """Cut a list apart, whose parts all have the same number."""
    offset = 0
    while offset + 4 <= len(data):
        length = int.from_bytes(data[offset : offset + 2], sys.byteorder)
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


# Expressions


def load(header: str, offset: int, length: int, register: int = REG_1) -> Expression:
    """Load bytes of a packet; `header` is link, network or transport."""
    base = ("link", "network", "transport").index(header)
    return _expression("payload", (1, register), (2, base), (3, offset), (4, length))


def destination(family: int, register: int = REG_1) -> Expression:
    return load("network", *((16, 4) if family == IPV4 else (24, 16)), register)


def source(family: int, register: int = REG_1) -> Expression:
    return load("network", *((12, 4) if family == IPV4 else (8, 16)), register)


def meta(key: int, register: int = REG_1) -> Expression:
    return _expression("meta", (1, register), (2, key))


def equals(value: bytes, register: int = REG_1) -> Expression:
    return _expression("cmp", (1, register), (2, 0), more=_nested(3, attribute(1, value)))


def differs(value: bytes, register: int = REG_1) -> Expression:
    return _expression("cmp", (1, register), (2, 1), more=_nested(3, attribute(1, value)))


def store(header: str, offset: int, length: int, register: int = REG_1, checksum: int | None = None) -> Expression:
    """Write bytes into a packet, and mend the internet checksum at an offset in the same header (None: leave it)."""
    base = ("link", "network", "transport").index(header)
    mend = (6, int(checksum is not None)), (7, checksum or 0), (8, 0)
    return _expression("payload", (5, register), (2, base), (3, offset), (4, length), *mend)


def set_meta(key: int, register: int = REG_1) -> Expression:
    return _expression("meta", (2, key), (3, register))


def connection(key: int, register: int = REG_1) -> Expression:
    """Load what is tracked of the packet's connection."""
    return _expression("ct", (1, register), (2, key))


def set_connection(key: int, register: int = REG_1) -> Expression:
    return _expression("ct", (2, key), (4, register))


def is_family(family: int) -> tuple[Expression, Expression]:
    return meta(META_NFPROTO), equals(bytes((family,)))


def is_protocol(protocol: int) -> tuple[Expression, Expression]:
    return meta(META_L4PROTO), equals(bytes((protocol,)))


def look_up(name: str, register: int = REG_1, to: int = REG_1) -> Expression:
    """Replace a key by its value in a map; to REG_VERDICT: go where it says. What is in no map ends the rule."""
    return _expression("lookup", (2, register), (3, to), more=_text(1, name))


def is_in(name: str, register: int = REG_1) -> Expression:
    """End the rule for what is not in a set."""
    return _expression("lookup", (2, register), more=_text(1, name))


def masked(mask: bytes, register: int = REG_1) -> Expression:
    data = _nested(4, attribute(1, mask)) + _nested(5, attribute(1, bytes(len(mask))))
    return _expression("bitwise", (1, register), (2, register), (3, len(mask)), more=data)


def verdict(what: int) -> Expression:
    """Let a packet pass, or drop it."""
    return _expression("immediate", (1, REG_VERDICT), more=_nested(2, _nested(2, _number(1, what))))


def draw(below: int, register: int) -> Expression:
    """Draw a random number."""
    return _expression("numgen", (1, register), (2, below), (3, 1))


def digest(of: int, length: int, below: int, register: int) -> Expression:
    """Reduce a register to a number that is the same each time."""
    return _expression("hash", (1, of), (2, register), (3, length), (4, below), (5, 0x5379), (7, 0))


def translate(family: int, address: int = REG_1, port: int | None = None) -> Expression:
    """Change where the connection goes to what the registers hold."""
    ports = () if port is None else ((5, port), (7, 0x2))
    return _expression("nat", (1, 1), (2, family), (3, address), *ports)


def immediate(value: bytes, register: int = REG_1) -> Expression:
    return _expression("immediate", (1, register), more=_nested(2, attribute(1, value)))


def untracked() -> Expression:
    """Keep a packet out of the tracking of connections, and so from being translated."""
    return _expression("notrack")


def refuse_tcp() -> Expression:
    return _expression("reject", (1, 1), more=attribute(2, b"\0"))


def refuse() -> Expression:
    """Answer that the port is not reachable."""
    return _expression("reject", (1, 2), more=attribute(2, b"\1"))


def _expression(name: str, *numbers: tuple[int, int], more: bytes = b"") -> Expression:
    data = b"".join(_number(kind, value) for kind, value in numbers)
    return _text(1, name) + _nested(2, more + data)


def _kind(message: int) -> int:
    return _SUBSYSTEM << 8 | message


def _request(message: int, family: int, flags: int, body: bytes, about: str) -> Request:
    return Request(_kind(message), flags, _GENERIC.pack(family, 0, 0) + body, about)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "big"))


def _nested(kind: int, body: bytes) -> bytes:
    return attribute(kind | NESTED, body)
