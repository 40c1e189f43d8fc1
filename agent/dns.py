"""DNS messages as bytes, and back: what a resolver of a few record types needs. Pure.

Decoded by hand: an answer takes microseconds where a general library takes fifty, and every container's look-ups run
through the agent's one event loop. Numbers are those of RFC 1035, 3596 and 6891.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

A, PTR, AAAA, ANY = 1, 12, 28, 255
_IN, _OPT = 1, 41
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_WANTED, _RECURSION_HERE = 0x8000, 0x400, 0x200, 0x100, 0x80
_OPCODES = 0x7800
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
PLAIN_LIMIT, _OUR_LIMIT = 512, 4096
MAX_MESSAGE = 65535


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    BADVERS = 16
    """A newer EDNS is spoken; its upper bits go where only EDNS has room for them."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question. `question` is its section as it came, for the answer repeats it; `limit` is the largest UDP answer.

    `name` is in lower case, without the last dot. `problem` is the code to refuse it with.
    """

    id: int
    flags: int
    name: str = ""
    kind: int = 0
    question: bytes = b""
    limit: int = PLAIN_LIMIT
    edns: bool = False
    problem: Rcode | None = None


def read_query(data: bytes) -> Query | None:
    """Read a query; None for what is none and gets no answer. Never raises, whatever the bytes."""
    if len(data) < _HEADER.size:
        return None
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODES:
        return Query(ident, flags, problem=Rcode.NOTIMP)
    read = _read_name(data, _HEADER.size)
    if questions != 1 or answers or authorities or read is None or read[1] + 4 > len(data):
        return Query(ident, flags, problem=Rcode.FORMERR)
    name, end = read
    kind, klass = struct.unpack_from("!HH", data, end)
    question = data[_HEADER.size : end + 4]
    limit, edns = PLAIN_LIMIT, False
    problem = None if klass in (_IN, ANY) else Rcode.NOTIMP
    if additional and len(data) >= end + 15 and data[end + 4] == 0:  # the root's name, as an OPT record has
        record, size = struct.unpack_from("!HH", data, end + 5)
        if record == _OPT:
            limit, edns = min(max(size, PLAIN_LIMIT), _OUR_LIMIT), True
            problem = Rcode.BADVERS if data[end + 10] else problem
    return Query(ident, flags, name, kind, question, limit, edns, problem)


@dataclass(frozen=True, slots=True)
class Answer:
    """What everybody is told who sends the same bytes: all of it but the query's number and the records' order.

    `count` of the records have room, whichever they are.
    """

    head: bytes
    records: tuple[bytes, ...]
    count: int
    tail: bytes

    def message(self, ident: bytes, order: Callable[[list[bytes]], None] | None = None) -> bytes:
        """Answer the query with this number, with the records put into order by `order`."""
        records = self.records
        if order is not None and len(records) > 1:
            order(mixed := list(records))
            records = tuple(mixed)
        return ident + self.head + b"".join(records[: self.count]) + self.tail


def prepare(
    query: Query, *, addresses: tuple[str, ...] = (), pointer: str = "", rcode: Rcode = Rcode.NOERROR, ttl: int = 0,
    limit: int | None = None,
) -> Answer:  # fmt: skip
    """Answer a query with as many records as `limit` (None: the query's own) has room for, marked if not with all."""
    room = (query.limit if limit is None else limit) - _HEADER.size - len(query.question) - (11 if query.edns else 0)
    records = tuple(_address(address, ttl) for address in addresses)
    if pointer:
        records += (_record(PTR, _write_name(pointer), ttl),)
    sizes = [len(record) for record in records]
    count = len(records) if sum(sizes) <= room else room // max(sizes)
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_HERE | query.flags & (_OPCODES | _RECURSION_WANTED) | rcode & 0xF
    if count < len(records):
        flags |= _TRUNCATED
    header = _HEADER.pack(query.id, flags, bool(query.question), count, 0, query.edns)
    options = b"\0" + struct.pack("!HHIH", _OPT, _OUR_LIMIT, rcode >> 4 << 24, 0) if query.edns else b""
    return Answer(header[2:] + query.question, records, count, options)


def answer(
    query: Query, *, addresses: tuple[str, ...] = (), rcode: Rcode = Rcode.NOERROR, ttl: int = 0
) -> bytes:  # fmt: skip
    """Answer one query, with the records in the order that is given."""
    return prepare(query, addresses=addresses, rcode=rcode, ttl=ttl).message(query.id.to_bytes(2, "big"))


def with_id(message: bytes, ident: int) -> bytes:
    return ident.to_bytes(2, "big") + message[2:]


def answers_to(message: bytes, ident: int, question: bytes) -> bool:
    """Tell whether a message is the answer to what was asked, and not one that somebody made up."""
    if len(message) < _HEADER.size + len(question):
        return False
    found, flags, questions = struct.unpack_from("!HHH", message)
    asked = message[_HEADER.size : _HEADER.size + len(question)]
    return found == ident and bool(flags & _RESPONSE) and questions == 1 and asked.lower() == question.lower()


def failed(message: bytes) -> bool:
    """Tell whether an answer says that its server could or would not help, so that another may be asked."""
    return message[3] & 0xF not in (Rcode.NOERROR, Rcode.NXDOMAIN)


def address_of(name: str) -> str:
    """The address that a reverse name asks for; "" if it is not a whole one."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            return str(ipaddress.IPv6Address(int("".join(reversed(labels[:32])), 16)))
    except ValueError:
        return ""
    return ""


def write_query(ident: int, name: str, kind: int) -> bytes:
    """Ask for a name, with room for a long answer."""
    question = _write_name(name) + struct.pack("!HH", kind, _IN)
    options = b"\0" + struct.pack("!HHIH", _OPT, _OUR_LIMIT, 0, 0)
    return _HEADER.pack(ident, _RECURSION_WANTED, 1, 0, 0, 1) + question + options


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer of ours says; one that is `cut` has not all of the addresses."""

    code: int
    addresses: frozenset[str]
    cut: bool


def read_told(message: bytes, query: bytes) -> Told | None:
    """Read the answer of our own resolver, whose records name the question; None if it is not the one to the query."""
    question = query[_HEADER.size : -11]
    if not answers_to(message, int.from_bytes(query[:2], "big"), question):
        return None
    _, flags, _, count, _, _ = _HEADER.unpack_from(message)
    offset, found = _HEADER.size + len(question), set()
    for _ in range(count):
        if offset + 12 > len(message):
            break
        kind, _, _, size = _RECORD.unpack_from(message, offset + 2)
        raw = message[offset + 12 : offset + 12 + size]
        if kind in (A, AAAA) and len(raw) in (4, 16):
            found.add(str(ipaddress.ip_address(raw)))
        offset += 12 + size
    return Told(flags & 0xF, frozenset(found), bool(flags & _TRUNCATED))


def _read_name(data: bytes, offset: int) -> tuple[str, int] | None:
    """Read a name that is not compressed, as no first question is; returns it with the offset behind it."""
    labels: list[str] = []
    start = offset
    while offset < len(data) and offset - start < 255:
        length = data[offset]
        offset += 1
        if length == 0:
            return ".".join(labels).lower(), offset
        if length > 63 or offset + length > len(data):
            return None
        labels.append(data[offset : offset + length].decode("ascii", "backslashreplace"))
        offset += length
    return None


def _write_name(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in name.encode().split(b".")) + b"\0"


def _record(kind: int, data: bytes, ttl: int) -> bytes:
    return b"\xc0\x0c" + _RECORD.pack(kind, _IN, ttl, len(data)) + data


@lru_cache(maxsize=4096)
def _address(address: str, ttl: int) -> bytes:
    """A record that all answers share which have it."""
    raw = ipaddress.ip_address(address).packed
    return _record(A if len(raw) == 4 else AAAA, raw, ttl)
