"""How often an address may try a wrong token. Pure: the time is given.

Each address has so many tries at once, and gets them back one after another. Whoever proved itself from there before
is not kept waiting by what others at the same address do: behind one address there may be a whole office.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

AT_ONCE = 10
EACH = 6.0
"""Seconds after which an address has one more try."""

REMEMBERED = 4096
"""Addresses, and credentials that were right, of which something is known; the rest is forgotten."""


class Tries:
    """The wrong tries of late, by address."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, float] = OrderedDict()  # by address: when its tries are all back
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, address: str, credential: str, now: float) -> float:
        """Tell for how many seconds no token from this address is looked at; 0 if this one is."""
        if (place_of(address), credential) in self._right:
            return 0.0
        return max(0.0, self._wrong.get(place_of(address), 0.0) - now - (AT_ONCE - 1) * EACH)

    def wrong(self, address: str, now: float) -> None:
        """Count a wrong try."""
        place = place_of(address)
        self._wrong[place] = max(self._wrong.pop(place, 0.0), now) + EACH
        if len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)

    def right(self, address: str, credential: str) -> None:
        """Take note that a credential was right."""
        who = place_of(address), credential
        self._right[who] = None
        self._right.move_to_end(who)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)


def place_of(address: str) -> str:
    """Take the networks of 64 bits that IPv6 gives to anyone as one address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)).network_address)
