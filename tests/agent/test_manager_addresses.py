"""Managers that are known by names, as far as containers are to be kept from them."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from agent import manager_addresses
from agent.manager_addresses import ManagerAddresses
from agent.network.egress import doors

URLS = ["https://10.0.0.1:2377", "https://[fd00::1]:2377", "https://manager.example.org:2399"]
LITERAL = set(URLS[:2])


class Names:
    """A name server that answers what it is told to; None is no answer."""

    def __init__(self) -> None:
        self.answer: Collection[str] | None = None
        self.asked: list[str] = []

    async def look_up(self, name: str) -> Collection[str]:
        self.asked.append(name)
        if self.answer is None:
            raise OSError("no answer")
        return self.answer


async def test_names_count_with_each_address_that_they_had_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    managers = ManagerAddresses(lambda: URLS, names.look_up)
    await managers.look()
    assert managers.literal() == LITERAL, "what is not known yet is nowhere"
    names.answer = ["10.0.0.7", "fe80::7%eth0"]
    await managers.look()
    assert managers.literal() == {*LITERAL, "https://10.0.0.7:2399"}
    names.answer = ["10.0.0.8", "fd00::8"]
    await managers.look()
    turned = {*LITERAL, "https://10.0.0.7:2399", "https://10.0.0.8:2399", "https://[fd00::8]:2399"}
    assert managers.literal() == turned, "names take turns with their addresses"
    names.answer = None
    monkeypatch.setattr(manager_addresses, "KEPT", 0.0)
    await managers.look()
    assert managers.literal() == turned, "that nobody answers is no word of another address"
    names.answer = ["10.0.0.9"]
    await managers.look()
    assert managers.literal() == {*LITERAL, "https://10.0.0.9:2399"}
    assert set(names.asked) == {"manager.example.org"}
    assert ("10.0.0.9", 2399) in doors(managers.literal())


async def test_a_name_that_is_no_managers_any_more_is_forgotten() -> None:
    names, urls = Names(), [*URLS]
    names.answer = ["10.0.0.7"]
    managers = ManagerAddresses(lambda: urls, names.look_up)
    await managers.look()
    urls.pop()
    assert managers.literal() == LITERAL
    await managers.look()
    assert len(names.asked) == 1


async def test_this_host_is_asked_for_names() -> None:
    managers = ManagerAddresses(lambda: ["https://localhost:2377"])
    await managers.look()
    assert managers.literal()
    assert managers.literal() <= {"https://127.0.0.1:2377", "https://[::1]:2377"}
