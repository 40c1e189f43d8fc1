"""How an agent asks again: at once where nobody was reached, ever more rarely where it is refused."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent import session
from agent.credentials import Credentials
from tests.agent.test_session import Agent, authority, credentials
from tests.hosts import refusing_host, silent_host
from tests.patience import PATIENCE

__all__ = ["authority", "credentials"]  # fixtures


@pytest.mark.parametrize(("host", "grows"), [(silent_host, False), (refusing_host, True)])
async def test_pauses(credentials: Credentials, monkeypatch: pytest.MonkeyPatch, host: object, grows: bool) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    def at_most(_: float, most: float) -> float:
        pauses.append(most)
        if len(pauses) == 4:
            enough.set()
        return 0.0

    monkeypatch.setattr(random, "uniform", at_most)
    monkeypatch.setattr(session, "REACH_TIMEOUT", 0.1)
    assert callable(host)
    with host() as url:
        async with Agent(credentials, url).running():
            async with asyncio.timeout(PATIENCE):
                await enough.wait()
    if grows:
        assert pauses[:4] == sorted(set(pauses[:4]))
    else:
        assert set(pauses) == {session.SOON}
