"""Where managers are that are known by names: looked up again and again, so that containers are kept from these, too.

A name may have other addresses from one look to the next, and a name server may not answer: an address counts until its
name has been without it for a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

PAUSE = 15.0
TIMEOUT = 10.0
KEPT = 300.0
"""Seconds that an address counts after the last answer that had it."""

LookUp = Callable[[str], Awaitable[Collection[str]]]


async def look_up(name: str) -> Collection[str]:
    """Ask as any program of this host would. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class ManagerAddresses:
    """Knows addresses for `urls`. `run` is its life; `literal` may be called from any thread."""

    def __init__(self, urls: Callable[[], Iterable[str]], look_up: LookUp = look_up) -> None:
        self._urls, self._look_up = urls, look_up
        self._found: dict[str, dict[str, float]] = {}

    def literal(self) -> frozenset[str]:
        """The URLs, with addresses in place of names; none of a name that nobody has answered for yet."""
        found, given = self._found, set()
        for url in self._urls():
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 443
            for address in (host,) if _is_address(host) else found.get(host, ()):
                given.add(f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}")
        return frozenset(given)

    async def run(self) -> None:
        """Look the names up, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PAUSE)

    async def look(self) -> None:
        """Look all names up once."""
        hosts = {urlsplit(url).hostname or "" for url in self._urls()}
        names = sorted(host for host in hosts if host and not _is_address(host))
        answers = await asyncio.gather(*map(self._ask, names))
        now = asyncio.get_running_loop().time()
        found: dict[str, dict[str, float]] = {}
        for name, told in zip(names, answers, strict=True):
            before = self._found.get(name, {})
            kept = {address: at for address, at in before.items() if not told or now - at < KEPT}
            found[name] = kept | dict.fromkeys(told, now)
        self._found = found

    async def _ask(self, name: str) -> list[str]:
        try:
            async with asyncio.timeout(TIMEOUT):
                told = await self._look_up(name)
        except (OSError, TimeoutError) as error:
            log.log(
                logging.DEBUG if name in self._found else logging.WARNING,
                "the manager %s is not found by its name, so its ports are open to containers: %s", name, error,
            )  # fmt: skip
            return []
        return [address for address in told if _is_address(address)]


def _is_address(text: str) -> bool:
    """Tell whether it is one that means the same on every link."""
    try:
        return not ipaddress.ip_address(text).is_link_local
    except ValueError:
        return False
