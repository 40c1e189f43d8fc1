"""How many connections there may be at once, and which of them makes way. Pure.

Those of agents and other managers are none of these: the cluster lives by them. All others are so many at most, and so
many from one address. One more takes the place of the one that has rested longest, with no request under way; while all
are at work, it is turned away.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

from manager.tries import place_of

MOST = 2048
"""Connections: some 70 KB each."""
MOST_EACH = 512
"""Of one address: there may be a whole office, or a robot for each of its projects."""

Who = TypeVar("Who")


class Crowd(Generic[Who]):
    """The connections of one server."""

    def __init__(self, most: int = MOST, each: int = MOST_EACH) -> None:
        self._most, self._each = most, each
        self._place: dict[Who, str] = {}
        self._here: Counter[str] = Counter()
        self._resting: OrderedDict[Who, None] = OrderedDict()  # the one that has rested longest is the first
        self._resting_at: dict[str, OrderedDict[Who, None]] = {}

    def __len__(self) -> int:
        return len(self._place)

    def enter(self, who: Who, address: str) -> Who | None:
        """Take one in, at rest. Gives who is to go for that, which may be the newcomer."""
        place = place_of(address)
        out = None
        if self._here[place] >= self._each:
            out = next(iter(self._resting_at.get(place, ())), who)
        elif len(self._place) >= self._most:
            out = next(iter(self._resting), who)
        if out is not None:
            self.leave(out)
        if out is not who:
            self._place[who] = place
            self._here[place] += 1
            self.rest(who)
        return out

    def work(self, who: Who) -> None:
        """A request of this one is under way; of one that left, nothing is noted."""
        if who in self._resting:
            del self._resting[who], self._resting_at[self._place[who]][who]

    def rest(self, who: Who) -> None:
        """No request of this one is under way any more."""
        if who in self._place:
            self.work(who)
            self._resting[who] = None
            self._resting_at.setdefault(self._place[who], OrderedDict())[who] = None

    def leave(self, who: Who) -> None:
        """Forget one; no error if it left before."""
        self.work(who)
        place = self._place.pop(who, None)
        if place is None:
            return
        self._here[place] -= 1
        if not self._here[place]:
            del self._here[place]
            self._resting_at.pop(place, None)
