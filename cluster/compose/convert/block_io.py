"""Shares and limits of block devices."""

from __future__ import annotations

from cluster.compose.convert.field import LARGEST, Field
from cluster.model.container import BlockIO

_LEAST, _MOST = 10, 1000


def convert(field: Field) -> BlockIO | None:
    if not field.given:
        return None
    return BlockIO(
        weight=field["weight"].integer(least=0, most=_MOST) or None,
        device_weights=_by_path(field["weight_device"], "weight", _LEAST, _MOST),
        read_bytes=_by_path(field["device_read_bps"], "rate", 0, LARGEST),
        write_bytes=_by_path(field["device_write_bps"], "rate", 0, LARGEST),
        read_calls=_by_path(field["device_read_iops"], "rate", 0, LARGEST),
        write_calls=_by_path(field["device_write_iops"], "rate", 0, LARGEST),
    )


def _by_path(field: Field, key: str, least: int, most: int) -> dict[str, int]:
    """Read a list of devices; Docker prints the keys of its items with capital letters."""
    found: dict[str, int] = {}
    for item in field.items():
        path = item["Path"] if item["Path"].given else item["path"]
        amount = item[key.title()] if item[key.title()].given else item[key]
        number = amount.integer(least=least, most=most)
        if not path.text().startswith("/") or number is None:
            raise item.error(f"the device has no path or no {key}", hint=f"Write path: /dev/sda and {key}: NUMBER.")
        found[path.text()] = number
    return found
