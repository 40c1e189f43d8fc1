"""What the routes work with, and the dependencies that hand it to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from cluster.codec import PREFIX, Record, encode, key_of
from cluster.errors import Conflict, UserError
from manager import audit
from manager.api.show import TaskRows
from manager.authority import Authority
from manager.etcd import Etcd, KeyValue, Operation, UnknownOutcome, get, put, unchanged
from manager.etcd_server import Own
from manager.events import EventLog
from manager.follow import Follower
from manager.picture import ClusterState
from manager.presence import Presence
from manager.secrets import Vault
from manager.sessions.registry import Sessions
from manager.tls import Others
from manager.tries import Tries
from manager.upkeep import Upkeep
from manager.versions import check_records

CATCH_UP = 2.0
"""Seconds that a request waits for the picture to show what it wrote."""

TRIES = 10
LARGEST_RECORD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Core:
    """One manager's parts.

    `clock` gives cluster time; `stopping` is set when open streams are to end; `others` calls other managers.
    """

    etcd: Etcd
    follower: Follower
    sessions: Sessions
    authority: Authority
    presence: Presence
    clock: Callable[[], float]
    stopping: asyncio.Event
    others: Others
    vault: Vault
    audit: audit.Audit
    events: EventLog
    upkeep: Upkeep
    own_etcd: Own | None = None
    rows: TaskRows = field(default_factory=TaskRows)
    tries: Tries = field(default_factory=Tries)

    @property
    def state(self) -> ClusterState:
        return self.follower.state

    async def caught_up(self, revision: int) -> None:
        """Wait, but not for long, until the picture shows a revision."""
        try:
            async with asyncio.timeout(CATCH_UP):
                await self.follower.reached(revision)
        except TimeoutError:
            return  # whoever reads next sees it later; it is stored

    async def write(self, records: Sequence[Record], guards: dict[str, int], extra: Sequence[Operation] = ()) -> bool:
        """Store records if the keys in `guards` are as they were at those revisions (0: absent).

        Returns False, with the picture caught up, when they are not and when the outcome is unknown: look again, then
        decide again. Since each write changes a key that guards it, of two that are the same only one gets through.
        With the records goes the entry in the audit log of the request that asks for this. Raises Conflict for records
        that not all managers need to know yet.
        """
        check_records(self.state, records)
        puts = [put(key_of(record), _encoded(record)) for record in records]
        compares = [unchanged(key, revision) for key, revision in guards.items()]
        stored: Sequence[Any]
        try:
            result = await self.etcd.txn(compares, [*puts, *extra, *audit.operations()], [get(key) for key in guards])
        except UnknownOutcome:
            stored = [await self.etcd.get(key) for key in guards]
        else:
            if result.succeeded:
                await self.caught_up(result.revision)
                return True
            stored = result.responses
        shown = [kv.mod_revision for kv in stored if isinstance(kv, KeyValue) and kv.key.startswith(PREFIX)]
        await self.caught_up(max(shown, default=0))
        return False


def _encoded(record: Record) -> bytes:
    value = encode(record)
    if len(value) > LARGEST_RECORD:
        raise UserError(
            f"that makes a record of {len(value)} bytes; {LARGEST_RECORD} is the most that is stored as one",
            hint="Split the stack into several.",
        )
    return value


async def core_of(connection: HTTPConnection) -> Core:
    core = connection.app.state.core
    assert isinstance(core, Core)
    return core


async def _ready(core: Annotated[Core, Depends(core_of)]) -> Core:
    core.presence.require()
    return core


AnyCore = Annotated[Core, Depends(core_of)]
"""For routes that answer also while etcd is out of reach."""

ReadyCore = Annotated[Core, Depends(_ready)]
"""For all others: without etcd nobody knows how old the picture is."""


def busy(what: str) -> Conflict:
    """Say that something changed each time anew while it was to be written."""
    return Conflict(f"{what} is being changed by others again and again", hint="Ask again.")
