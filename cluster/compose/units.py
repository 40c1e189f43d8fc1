"""Quantities with units: byte sizes, durations and parts of a core."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from cluster.compose import values
from cluster.compose.tree import Node, Scalar

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([bkmgtp]?)(i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_LARGEST = 2**63 - 1


def size(node: Node) -> int:
    """Read a byte size such as `512m`, `1.5g`, `64kib` or a plain number; units are powers of 1024."""
    if isinstance(node, Scalar) and isinstance(node.value, int | float):
        return values.integer(node, least=0, most=_LARGEST)
    written = values.text(node).strip()
    found = _SIZE.fullmatch(written)
    if found is None or len(written) > 40 or (found.group(2).lower() == "b" and found.group(3)):
        raise node.where.error(f"{written[:40]!r} is not a byte size", hint="Write it like 512m, 1.5g or 1048576.")
    amount = int(Decimal(found.group(1)) * 1024 ** _POWERS[found.group(2).lower()])
    if amount > _LARGEST:
        raise node.where.error(f"{written} is more than any machine has")
    return amount


def duration(node: Node) -> float:
    """Read a duration such as `90s`, `1m30s` or `500ms`, as seconds."""
    if isinstance(node, Scalar) and isinstance(node.value, int | float):
        hint = f'Write it like "{values.loose_text(node)}s" or "1m30s".'
        raise node.where.error("a duration needs a unit", hint=hint)
    written = values.text(node).strip()
    if written == "0":
        return 0.0
    total, at = Decimal(0), 0
    while at < len(written) <= 100 and (part := _DURATION_PART.match(written, at)):
        total += Decimal(part.group(1)) * _SECONDS[part.group(2)]
        at = part.end()
    if not written or at < len(written):
        raise node.where.error(f"{written[:40]!r} is not a duration", hint="Write it like 90s, 1m30s or 500ms.")
    if total > 10**9:
        raise node.where.error(f"{written} is too long a time")
    return float(total)


def nano_cpus(node: Node) -> int:
    """Read a number of cores such as `0.5` or `"2"`, in billionths of a core."""
    written = values.loose_text(node) or ""
    try:
        cores = Decimal(written)
    except InvalidOperation:
        cores = Decimal("NaN")
    if not cores.is_finite() or cores < 0 or cores > 10**6:
        raise node.where.error(f"{written[:40]!r} is not a number of cores", hint='Write it like "0.5" or "2".')
    if 0 < cores < Decimal("0.001"):
        raise node.where.error("less than a thousandth of a core cannot be given")
    return int(cores * 10**9)
