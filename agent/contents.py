"""Fetches what is in secrets and configs from a manager, any of them, over a connection of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import aiohttp

from agent.credentials import Credentials
from agent.secrets import OutOfReach

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=15, connect=3)
AT_ONCE = 8


class Contents:
    """Asks the managers in turn, beginning with the one that answered last."""

    def __init__(self, credentials: Credentials, managers: Callable[[], Iterable[str]]) -> None:
        self._credentials, self._managers = credentials, managers
        self._last = ""
        self._told: list[str] = []
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, stack: str, digest: str) -> bytes:
        """Give a content of a stack. Raises OutOfReach."""
        reasons = []
        async with self._turns, aiohttp.ClientSession(timeout=TIMEOUT) as http:
            for url in sorted(set(self._managers()), key=lambda one: one != self._last):
                try:
                    place = f"{url}/v1/agent/contents/{stack}/{digest}"
                    async with http.get(place, ssl=self._credentials.context()) as answer:
                        if answer.status == 200:
                            self._last = url
                            return await answer.read()
                        reasons.append(f"{url}: {(await answer.text())[:200]}")
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    reasons.append(f"{url}: {error or 'no answer in time'}")
        if reasons != self._told:  # it is tried each second for as long as that takes
            log.info("content %s of stack %s cannot be had: %s", digest, stack, "; ".join(reasons))
            self._told = reasons
        raise OutOfReach("waits for a manager to give its secrets and configs")
