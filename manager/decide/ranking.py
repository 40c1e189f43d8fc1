"""In which order nodes get a service's tasks: evenly over its spread preferences, then least used first.

Least used is: untroubled, not failing the service lately, fewest refusals of it, fewest tasks of it, has the image that
was pulled ahead for its update, fewest tasks, by name. Nodes that have nothing to do with the service come sorted from
the roster and are never copied; those that have stand in a heap beside them. So one placement costs little however many
nodes there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from manager.roster import Place, Values

LATELY = 300.0
FAULTY = 5
"""Failures of a service on a node within LATELY seconds that make the node its last choice (SwarmKit's figures)."""


class Rank(NamedTuple):
    troubled: bool
    faulty: bool
    rejected: int
    own: int
    lacks_image: bool
    load: int
    name: str
    node: str


class Leaf:
    """The nodes of one group. `known` are ranked apart, because tasks of the service run or failed there.

    `fits` may only ever turn from true to false for a node.
    """

    def __init__(self, places: Sequence[Place], known: Iterable[Rank], fits: Callable[[str], bool]) -> None:
        self._places = places
        self._heap = sorted(known)
        self._apart = {rank.node for rank in self._heap}
        self._fits = fits
        self._at = 0

    def best(self) -> Rank | None:
        """Give the node that is next, None when no more tasks fit."""
        places, fits = self._places, self._fits
        while self._at < len(places) and (places[self._at].node in self._apart or not fits(places[self._at].node)):
            self._at += 1
        while self._heap and not fits(self._heap[0].node):
            heapq.heappop(self._heap)
        if self._at == len(places):
            return self._heap[0] if self._heap else None
        place = places[self._at]
        new = Rank(place.troubled, False, 0, 0, True, place.load, place.name, place.node)
        return min(new, self._heap[0]) if self._heap else new

    def take(self) -> str | None:
        """Give the node that is next, with one task more on it from now on."""
        rank = self.best()
        if rank is None:
            return None
        after = rank._replace(own=rank.own + 1, load=rank.load + 1)
        if self._heap and rank is self._heap[0]:
            heapq.heapreplace(self._heap, after)
        else:
            self._at += 1
            heapq.heappush(self._heap, after)
        return rank.node


class Branch:
    """Groups by one spread preference: the next task goes to the group that has fewest of the service.

    Of several such, it is the one with the least used node. Otherwise a task that was moved from a busy node could come
    back to it, for ever.
    """

    def __init__(self, children: Iterable[tuple[int, str, Branch | Leaf]]) -> None:
        ranked = ((count, child.best(), value, child) for count, value, child in children)
        self._heap = sorted(((c, r, v, child) for c, r, v, child in ranked if r is not None), key=lambda one: one[:3])

    def best(self) -> Rank | None:
        while self._heap:
            best = self._heap[0][3].best()
            if best is not None:
                return best
            heapq.heappop(self._heap)
        return None

    def take(self) -> str | None:
        while self._heap:
            count, _, value, child = heapq.heappop(self._heap)
            node = child.take()
            if node is not None:
                best = child.best()
                if best is not None:
                    heapq.heappush(self._heap, (count + 1, best, value, child))
                return node
        return None


def tree(
    groups: dict[Values, list[Place]],
    counts: dict[Values, int],
    leaf: Callable[[Values, list[Place]], Leaf],
    depth: int,
    before: Values = (),
) -> Branch | Leaf:
    """Build the order over groups by `depth` spread preferences; `counts` are the service's tasks by values so far."""
    if len(before) == depth:
        return leaf(before, groups.get(before, []))
    below: dict[str, dict[Values, list[Place]]] = {}
    for values, places in groups.items():
        below.setdefault(values[len(before)], {})[values] = places
    children = []
    for value, part in below.items():
        here = (*before, value)
        children.append((counts.get(here, 0), value, tree(part, counts, leaf, depth, here)))
    return Branch(children)
