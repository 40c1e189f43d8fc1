"""Devices: files of the node, CDI's qualified names, and those that a driver of the engine gives (GPUs)."""

from __future__ import annotations

import re

from cluster.compose.convert.field import Field
from cluster.model.container import DeviceMapping, DeviceRequest

_PERMISSIONS = re.compile(r"[rwm]{1,3}")


def mappings(field: Field) -> tuple[DeviceMapping, ...]:
    """Read `devices`; a source like `vendor.com/gpu=all` is a name that the engine looks up (CDI)."""
    found = []
    for item in field.items():
        source = item["source"].text()
        permissions = item["permissions"].text("rwm")
        if not source:
            raise item.error("the device has no source", hint="Write it like /dev/ttyUSB0.")
        if not _PERMISSIONS.fullmatch(permissions):
            raise item["permissions"].error(f"{permissions[:20]!r} are no permissions of r, w and m")
        found.append(DeviceMapping(source, item["target"].text() or source, permissions))
    return tuple(found)


def requests(service: Field) -> tuple[DeviceRequest, ...]:
    """Give what `gpus` and `deploy.resources.reservations.devices` ask for."""
    found = [_request(item, ("gpu",)) for item in service["gpus"].items()]
    found += [_request(item, ()) for item in service["deploy"]["resources"]["reservations"]["devices"].items()]
    return tuple(found)


def _request(item: Field, more: tuple[str, ...]) -> DeviceRequest:
    capabilities = tuple(dict.fromkeys((*item["capabilities"].texts(), *more)))
    if not capabilities:
        raise item.error("the device has no capabilities", hint="Write capabilities: [gpu].")
    ids = item["device_ids"].texts()
    count_field = item["count"]
    count = -1 if count_field.value == "all" else count_field.integer(least=-1, most=10_000)
    if ids and count:
        raise count_field.error("count and device_ids exclude each other")
    return DeviceRequest(
        driver=item["driver"].text(),
        count=0 if ids else -1 if count is None else count,
        device_ids=ids,
        capabilities=capabilities,
        options=item["options"].pairs(),
    )
