"""Looks after this node's share of the network by itself: every few minutes a little of what an examination does.

What it finds is told with the beats, as conditions of the node, and for no longer than it is so. Only what is found
twice counts. Of many other nodes some are probed, drawn anew each time, and always those with which something is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from agent.network.survey import Survey
from agent.verification import Verified
from cluster.assignments import Item, NetworkItem, PeerItem
from cluster.errors import StackyardError
from cluster.examination import CLOCK_TOLERANCE, WAY, Probed, Target

log = logging.getLogger(__name__)

EVERY, WORRIED, CONFIRM = 120.0, 20.0, 10.0
"""Seconds from one time to the next, while something is wrong, and until what was found is looked at again."""
SPREAD = 0.2
"""The share by which these vary, so that agents that were started together do not stay together."""
MOST_TARGETS, MOST_NAMES, MOST_SANDBOXES = 16, 100, 3
MOST_TROUBLES = 8


class Ways(Protocol):
    """What is asked of the probes (agent.network.probes.Probes)."""

    deaf: str

    async def send(self, targets: Iterable[Target], needed: int) -> list[Probed]: ...


class Kernel(Protocol):
    """What is asked of the wiring."""

    async def survey(self, tasks: Collection[str]) -> Survey: ...


class Names(Protocol):
    """What is asked of the verification."""

    async def verify(self, most_names: int, most_sandboxes: int) -> Verified: ...


class Tasks(Protocol):
    """What is asked of the runner."""

    @property
    def items(self) -> Collection[Item]: ...


class Checkup:
    """`run` is its life; `troubles` are what is wrong now, by name, a sentence each."""

    def __init__(self, node: str, ways: Ways, kernel: Kernel, tasks: Tasks, names: Names) -> None:
        self._node, self._ways, self._kernel, self._tasks, self._names = node, ways, kernel, tasks, names
        self._random = random.Random()
        self.troubles: Mapping[str, str] = {}

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._pause(WORRIED if self.troubles else EVERY)
            try:
                await self.look()
            except (StackyardError, OSError) as error:
                log.info("the node's networks could not be looked at: %s", error)

    async def look(self) -> None:
        """Look once, and again if there is something new."""
        found = await self._found(self._drawn())
        if new := found.keys() - self.troubles.keys():
            await self._pause(CONFIRM)
            again = await self._found(self._drawn(new))
            found = {name: text for name, text in again.items() if name in found}
        for name in found.keys() - self.troubles.keys():
            log.warning("found: %s", found[name])
        for name in self.troubles.keys() - found.keys():
            log.info("it is well again: %s", self.troubles[name])
        self.troubles = found

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._random.uniform(1 - SPREAD, 1 + SPREAD))

    def _drawn(self, besides: Iterable[str] = ()) -> list[Target]:
        """Draw other nodes that this one sends overlays' packets to in clear, and take those in trouble."""
        items = self._tasks.items
        hidden = {item.network.id for item in items if isinstance(item, NetworkItem) and item.network.encrypted}
        peers = (item for item in items if isinstance(item, PeerItem) and item.network not in hidden)
        others = {peer.node: peer.vtep for peer in peers}
        others.pop(self._node, None)
        sure = {name.removeprefix(WAY) for name in (*self.troubles, *besides)} & others.keys()
        rest = sorted(others.keys() - sure)
        chosen = [*sorted(sure), *self._random.sample(rest, min(MOST_TARGETS, len(rest)))][:MOST_TARGETS]
        return [Target(node, others[node]) for node in chosen]

    async def _found(self, targets: list[Target]) -> dict[str, str]:
        survey = await self._kernel.survey(())
        probed = await self._ways.send(targets, survey.needed)
        verified = await self._names.verify(MOST_NAMES, MOST_SANDBOXES)
        found = dict(_of_ways(probed, survey.needed))
        found = dict(sorted(found.items())[:MOST_TROUBLES])
        if clock := _of_clock(probed):
            found["clock"] = clock
        if self._ways.deaf:
            found["probes"] = f"other nodes' probes are not answered: {self._ways.deaf}"
        if 0 < survey.mtu < survey.needed:
            found["mtu"] = f"its link {survey.link} takes {survey.mtu} bytes, its networks send up to {survey.needed}"
        astray = [one for one in verified.astray if not one.mended]
        if astray:
            first = astray[0]
            more = f", and {len(astray) - 1} more" if len(astray) > 1 else ""
            found["names"] = f"{first.name} leads to {first.told} in task {first.task}{more}"
        return found


def _of_ways(probed: Iterable[Probed], needed: int) -> Iterator[tuple[str, str]]:
    for one in probed:
        address = one.target.address
        if one.answerer not in ("", one.target.node):
            yield WAY + one.target.node, f"{address} is answered by another node, {one.answerer}"
        elif one.refused:
            yield WAY + one.target.node, f"packets to UDP port 4789 of {address} are refused here: {one.refused}"
        elif not one.passed:
            yield WAY + one.target.node, f"packets to UDP port 4789 of {address} are not answered"
        elif one.passed < needed:
            yield WAY + one.target.node, f"only packets of up to {one.passed} bytes pass to {address}, not {needed}"
        elif one.spoilt:
            yield WAY + one.target.node, f"packets with checksums of the network card do not arrive at {address}"


def _of_clock(probed: Iterable[Probed]) -> str:
    """Say it when this clock is not that of most others: then it is this one that is wrong."""
    heard = [one for one in probed if one.passed]
    apart = sorted(one.ahead for one in heard if abs(one.ahead) > CLOCK_TOLERANCE + one.give)
    if not apart or 2 * len(apart) <= len(heard):
        return ""
    ahead = apart[len(apart) // 2]
    return f"its clock is {abs(ahead):.1f} s {'behind' if ahead > 0 else 'ahead of'} that of other nodes"
