"""This node's keys for tunnels between nodes: made here, kept here, exchanged for new ones as time goes by.

There are up to two, the first of which is sent by. A new key takes the place of the other one; it is announced, and is
sent by once every node that is sent to has answered to it, so that no packet is lost. The one before it is still
listened to until the next exchange. All nodes do so by themselves; managers only hand on what they announce.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.network.wireguard import PORTS, OwnKey
from agent.network.wiring import Wiring
from cluster.errors import StackyardError
from cluster.files import write_private
from cluster.model.network import TunnelKey

log = logging.getLogger(__name__)

LIFE = 24 * 3600.0
"""Seconds until a key that is sent by gets a successor."""
PATIENCE = 3600.0
"""Seconds after which a key is sent by although not every node has answered to it."""
CHECK_INTERVAL = 15.0


SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A key, and when it was made."""

    key: OwnKey
    made_at: float


class _File(msgspec.Struct, frozen=True):
    schema: int
    keys: tuple[Kept, ...]


def turn(kept: tuple[Kept, ...], now: float, *, met: bool, make: Callable[[int], OwnKey]) -> tuple[Kept, ...]:
    """Take the next step; `met` tells whether all have answered to the newest key. Pure but for what `make` does."""
    if not kept:
        return (Kept(make(PORTS[0]), now),)
    first, newest = kept[0], max(kept, key=lambda one: one.made_at)
    if newest is not first and (met or now - newest.made_at >= PATIENCE):
        return newest, first
    if newest is first and now - first.made_at >= LIFE:
        return first, Kept(make(next(port for port in PORTS if port != first.key.port)), now)
    return kept


class TunnelKeys:
    """The keys in a file that only root may read. `keys` are to be had at once, `run` exchanges them."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._kept: tuple[Kept, ...] = ()
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_File)
            self._kept = file.keys if file.schema == SCHEMA else ()
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the keys in %s cannot be read, there will be new ones: %s", path, error)
        if not self._kept:
            self._keep(turn((), clock(), met=False, make=new_key))

    @property
    def keys(self) -> tuple[OwnKey, ...]:
        return tuple(kept.key for kept in self._kept)

    @property
    def announced(self) -> tuple[TunnelKey, ...]:
        """What other nodes are told."""
        return tuple(TunnelKey(key.public, key.port) for key in self.keys)

    async def run(self, wiring: Wiring) -> NoReturn:
        """Exchange keys when it is time, for ever."""
        while True:
            try:
                await self.exchange(wiring)
            except (StackyardError, OSError) as error:
                log.warning("the keys of tunnels between nodes cannot be exchanged, it is tried again: %s", error)
            await asyncio.sleep(CHECK_INTERVAL)

    async def exchange(self, wiring: Wiring) -> None:
        """Take the next step, if there is one to be taken."""
        newest = max(self._kept, key=lambda one: one.made_at)
        met = newest is not self._kept[0] and await wiring.in_turn(partial(wiring.tunnels.is_met, newest.key))
        after = turn(self._kept, self._clock(), met=met, make=new_key)
        if after == self._kept:
            return
        self._keep(after)
        if newest is after[0]:
            log.info("tunnels between nodes go by a new key%s", "" if met else ", though not all nodes know it yet")
        else:
            log.info("made a new key for tunnels between nodes")
        await wiring.in_turn(partial(wiring.tunnels.use, self.keys))

    def _keep(self, kept: tuple[Kept, ...]) -> None:
        write_private(self._path, msgspec.json.encode(_File(SCHEMA, kept)))
        self._kept = kept


def new_key(port: int) -> OwnKey:
    private = X25519PrivateKey.generate()
    return OwnKey(_text(private.private_bytes_raw()), _text(private.public_key().public_bytes_raw()), port)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
