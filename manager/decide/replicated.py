"""Replicated services: so many slots, each anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from manager.decide.slots import Act, Fate, Opening, ServicePicture, Slot, Wanted


def wanted(picture: ServicePicture) -> Wanted:
    """Keep as many slots as there are replicas, and open those that are missing."""
    occupied = [slot for slot in picture.slots if slot.occupant is not None]
    victims = _victims(picture, occupied)
    kept = {slot.number for slot in occupied} - victims
    stays, goes = Fate(Act.SETTLE), Fate(Act.GIVE_UP, "scaled down")
    fates = {slot.number: stays if slot.number in kept else goes for slot in picture.slots}
    return Wanted(fates, tuple(map(Opening, _missing(picture, kept))))


def _victims(picture: ServicePicture, occupied: Sequence[Slot]) -> set[int]:
    """Choose what to scale down: first what does not run, then on the nodes with most, then the highest slot."""
    state = picture.state
    spare = len(occupied) - picture.spec.replicas
    if spare <= 0:
        return set()
    idle = [slot for slot in occupied if not state.is_ready(slot.tasks[0])]
    busy = [slot for slot in occupied if state.is_ready(slot.tasks[0])]
    idle.sort(key=lambda slot: (state.reported_state(slot.tasks[0]).rank, -slot.number))
    victims = [slot.number for slot in idle[:spare]]
    on = Counter(slot.tasks[0].node for slot in busy)
    while len(victims) < spare:
        worst = max(busy, key=lambda slot: (on[slot.tasks[0].node], slot.number))
        busy.remove(worst)
        on[worst.tasks[0].node] -= 1
        victims.append(worst.number)
    return set(victims)


def _missing(picture: ServicePicture, kept: set[int]) -> list[int]:
    """Give the numbers of the slots to be made: the lowest of which nothing runs any more."""
    if len(kept) >= picture.spec.replicas:
        return []
    ended = picture.state.has_ended
    others = (slot for slot in picture.slots if slot.number not in kept)
    taken = kept | {slot.number for slot in others if not all(ended(t) for t in slot.tasks if t.node)}
    missing: list[int] = []
    number = 0
    for _ in range(picture.spec.replicas - len(kept)):
        number += 1
        while number in taken:
            number += 1
        missing.append(number)
    return missing
