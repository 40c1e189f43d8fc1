"""How etcd's members fare, and what makes room in them.

These calls go to one member each, whichever the connection uses for all others.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from aetcd import rpc

from manager.etcd.endpoints import READ_TIMEOUT, WRITE_TIMEOUT, Endpoint, Endpoints

log = logging.getLogger(__name__)

DEFRAGMENT_TIMEOUT = 600.0
"""Seconds; etcd copies its file, of which a disk takes some tens of MiB a second."""

_ALARM = re.compile(r"memberID:(\d+) alarm:(\w+)")


@dataclass(frozen=True, slots=True)
class Look:
    """What one member says of itself. `serves` tells whether it could also read, `seconds` how long all that took.

    `size` and `used` are of its file, in bytes. `alarms` are those of any member that it knows of: kind by member id.
    """

    member: int
    endpoint: str
    leads: bool
    size: int
    used: int
    revision: int
    serves: bool
    seconds: float
    alarms: Mapping[int, str] = field(default_factory=dict)


class Maintenance:
    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def look(self) -> tuple[Look, ...]:
        """Ask all endpoints at once; those that do not answer are missing."""
        answers = await asyncio.gather(*(self._look(endpoint) for endpoint in self._endpoints.all))
        return tuple(answer for answer in answers if answer is not None)

    async def _look(self, endpoint: Endpoint) -> Look | None:
        began = time.monotonic()
        if not await endpoint.connected(READ_TIMEOUT):
            return None
        try:
            metadata = await self._endpoints.metadata(endpoint)
            status = await endpoint.maintenance.Status(rpc.StatusRequest(), timeout=READ_TIMEOUT, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            log.debug("etcd at %s does not say how it fares: %s", endpoint.url, error.details())
            return None
        try:
            await endpoint.read(metadata)
            serves = True
        except grpc.aio.AioRpcError as error:
            log.debug("etcd at %s reads nothing: %s", endpoint.url, error.details())
            serves = False
        return Look(
            member=status.header.member_id,
            endpoint=endpoint.url,
            leads=status.leader == status.header.member_id,
            size=status.dbSize,
            used=status.dbSizeInUse,
            revision=status.header.revision,
            serves=serves,
            seconds=time.monotonic() - began,
            alarms={int(ident): kind for text in status.errors for ident, kind in _ALARM.findall(text)},
        )

    async def defragment(self, url: str) -> None:
        """Have the member at an endpoint make its file as small as it can be; it serves nobody until then.

        Raises UnknownOutcome when it is not done in time, and what every call to etcd may.
        """
        endpoint = next(one for one in self._endpoints.all if one.url == url)
        self._endpoints.leave(endpoint, "it is being defragmented", logging.INFO)
        await self._endpoints.call(
            lambda _: endpoint.maintenance.Defragment,
            rpc.DefragmentRequest(),
            repeatable=False,
            timeout=DEFRAGMENT_TIMEOUT,
            of_member=True,
        )

    async def disarm(self, member: int) -> None:
        """Say that a member's quota is not used up any more."""
        request: Any = rpc.AlarmRequest(
            action=rpc.AlarmRequest.AlarmAction.Value("DEACTIVATE"), memberID=member, alarm=rpc.AlarmType.NOSPACE
        )
        await self._endpoints.call(
            lambda endpoint: endpoint.maintenance.Alarm, request, repeatable=True, timeout=WRITE_TIMEOUT
        )
