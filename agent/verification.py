"""Asks for names where containers do, in their sandboxes, and compares with what the assignments say.

What differs is looked at again before it counts, for assignments change at any time. What was found wrong is made anew
from the assignments, which is what a restart of the agent would do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from agent import dns
from agent.names import NetworkNames, Verdict, resolve
from agent.network import lookups
from agent.resolver import Resolver
from cluster.assignments import Item
from cluster.errors import StackyardError
from cluster.examination import Astray

log = logging.getLogger(__name__)

MOST_NAMES = 10_000
"""Names that are asked for at a time; of more it is some, drawn anew each time."""
MOST_SANDBOXES = 100
"""Those whose tables are read at a time."""
MOST_TOLD = 20
SILENCE = f"no answer from {lookups.RESOLVER}"
SETTLING = 1.0
"""Seconds after which what differed is looked at again."""

_TIMEOUT, _TRIES = 1.0, 3
_CODES = {0: "no address", 2: "a failure (SERVFAIL)", 3: "no such name (NXDOMAIN)"}


class Sandboxes(Protocol):
    """What is asked of the wiring."""

    def in_sandbox(self, task: str, work: Callable[[], socket.socket]) -> Awaitable[socket.socket]: ...
    def sandboxes(self) -> frozenset[str]: ...
    async def verify(self, task: str) -> tuple[int, list[str]]: ...


@dataclass(frozen=True, slots=True)
class Verified:
    """How many names and virtual addresses were looked at, and those that lead elsewhere than they should."""

    names: int = 0
    vips: int = 0
    astray: tuple[Astray, ...] = ()


class Verification:
    """Compares what is answered by `resolver` with the assignments that `items` gives."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        resolver: Resolver,
        another: Callable[[], Resolver],
        items: Callable[[], Collection[Item]],
    ) -> None:
        """`another` makes a resolver that knows nothing yet, and opens nothing."""
        self._sandboxes, self._resolver, self._another, self._items = sandboxes, resolver, another, items
        self._random = random.Random()

    async def verify(self, most_names: int = MOST_NAMES, most_sandboxes: int = MOST_SANDBOXES) -> Verified:
        """Look at all names, in one sandbox of those that are alike, and at the tables of all; mend what is wrong."""
        vips, led = await self._follow(most_sandboxes)  # first: the way to the resolver is in the same tables
        chosen = self._chosen()
        names = 0
        suspect: dict[str, list[str]] = {}
        for task, (networks, stack) in chosen.items():
            known = sorted(set().union(*(network.names() for network in networks)))
            known = self._random.sample(known, min(most_names, len(known)))
            most_names -= len(known)
            if wrong := await self._look_up(task, networks, stack, known):
                suspect[task] = [one.name for one in wrong]
            names += len(known)
        astray = await self._settled(suspect)
        return Verified(names, vips, (*led, *astray)[:MOST_TOLD])

    def _chosen(self) -> dict[str, tuple[tuple[NetworkNames, ...], str]]:
        """Draw one sandbox of those that may ask about the same networks for the same stack."""
        fresh = self._fresh()
        here = [task for task in self._sandboxes.sandboxes() if fresh.get(task, ((), ""))[0]]
        self._random.shuffle(here)
        alike = {(tuple(map(id, fresh[task][0])), fresh[task][1]): task for task in here}
        return {task: fresh[task] for task in alike.values()}

    def _fresh(self) -> dict[str, tuple[tuple[NetworkNames, ...], str]]:
        """Work out from nothing what each task may ask about, as a resolver does that has just begun."""
        resolver = self._another()
        resolver.update(self._items())
        return resolver.scopes()

    async def _settled(self, suspect: dict[str, list[str]]) -> list[Astray]:
        if not suspect:
            return []
        await asyncio.sleep(SETTLING)
        found = await self._again(suspect)
        if not found:
            return []
        log.warning("%d names lead elsewhere than they should; making them anew", len(found))
        self._resolver.forget()
        self._resolver.update(self._items())
        for task in {one.task for one in found if one.told == SILENCE}:
            with suppress(StackyardError, OSError):
                await self._resolver.open(task)
        left = {(one.task, one.name) for one in await self._again(suspect)}
        return [replace(one, mended=(one.task, one.name) not in left) for one in found]

    async def _again(self, suspect: dict[str, list[str]]) -> list[Astray]:
        fresh = self._fresh()
        here = self._sandboxes.sandboxes()
        found: list[Astray] = []
        for task, names in suspect.items():
            if task in fresh and task in here:
                found += await self._look_up(task, *fresh[task], names)
        return found

    async def _look_up(
        self, task: str, networks: tuple[NetworkNames, ...], stack: str, names: Iterable[str]
    ) -> list[Astray]:
        """Ask for names in a sandbox; gives those that lead elsewhere. No answer at all is told for the first only."""
        try:
            asking = await self._sandboxes.in_sandbox(task, _open)
        except (StackyardError, OSError):
            return []  # it has gone meanwhile
        found = []
        try:
            for name in names:
                meant = resolve(name, dns.ANY, networks, stack)
                if meant.verdict is not Verdict.ANSWER:
                    continue
                told = await self._ask(asking, name)
                if told is None:
                    found.append(Astray(task, name, SILENCE, _shown(meant.addresses)))
                    break
                there = {str(ipaddress.ip_address(address)) for address in meant.addresses}
                if told.code or (not told.addresses <= there if told.cut else told.addresses != there):
                    says = _shown(told.addresses) if told.addresses else _CODES.get(told.code, str(told.code))
                    found.append(Astray(task, name, says, _shown(meant.addresses)))
        finally:
            asking.close()
        return found

    async def _ask(self, asking: socket.socket, name: str) -> dns.Told | None:
        loop = asyncio.get_running_loop()
        for _ in range(_TRIES):
            query = dns.write_query(self._random.getrandbits(16), name, dns.ANY)
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await loop.sock_sendall(asking, query)
                    while (told := dns.read_told(await loop.sock_recv(asking, dns.MAX_MESSAGE), query)) is None:
                        pass
                    return told
            except (TimeoutError, OSError):
                continue
        return None

    async def _follow(self, most: int) -> tuple[int, list[Astray]]:
        """Read where virtual addresses lead in sandboxes."""
        count = 0
        found: list[Astray] = []
        here = list(self._sandboxes.sandboxes())
        for task in self._random.sample(here, min(most, len(here))):
            try:
                vips, wrong = await self._sandboxes.verify(task)
            except (StackyardError, OSError) as error:
                found.append(Astray(task, "its virtual addresses", str(error), "a table in its sandbox"))
                continue
            count += vips
            found += [Astray(task, address, "elsewhere", "the service's endpoints", mended=True) for address in wrong]
        return count, found


def _open() -> socket.socket:
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    asking.connect((lookups.RESOLVER, lookups.PORT))
    return asking


def _shown(addresses: Iterable[str]) -> str:
    some = sorted(addresses)
    return ", ".join(some[:4]) + (f" and {len(some) - 4} more" if len(some) > 4 else "") or "no address"
