"""Whichever manager takes a connection first is asked, and one whose host is off holds nobody up."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import msgspec
import pytest

from cli.client import dial, transport
from cli.client.contexts import chosen
from cli.client.dial import Race, race
from tests.cli.terminal import Terminal
from tests.hosts import refusing_host, silent_host
from tests.manager.managers import RunningManager
from tests.patience import PATIENCE


@contextmanager
def taking_host() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hosts() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def raced(*urls: str, timeout: float = PATIENCE) -> Race:
    found = race(urls, timeout)
    if found.connection is not None:
        port = found.connection.getpeername()[1]
        assert found.winner.endswith(f":{port}")
        assert found.connection.gettimeout() == timeout
        found.connection.close()
    return found


def test_a_host_that_is_off_is_not_waited_for(hosts: ExitStack) -> None:
    off, on = hosts.enter_context(silent_host()), hosts.enter_context(taking_host())
    found = raced(off, on)
    assert found.winner == on
    assert found.failures == {}, "it was given up, not outrun"


def test_who_is_asked_first_has_a_head_start(hosts: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HEAD_START", PATIENCE)
    first, second = hosts.enter_context(taking_host()), hosts.enter_context(taking_host())
    assert raced(first, second).winner == first


def test_the_next_is_dialled_at_once_when_one_refuses(hosts: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HEAD_START", math.inf)
    gone, on = hosts.enter_context(refusing_host()), hosts.enter_context(taking_host())
    off = hosts.enter_context(silent_host())
    found = raced(gone, on, off)
    assert found.winner == on
    assert isinstance(found.failures.pop(gone), ConnectionRefusedError)
    assert not found.failures


def test_it_is_told_of_each_why_nobody_was_reached(hosts: ExitStack) -> None:
    off, gone = hosts.enter_context(silent_host()), hosts.enter_context(refusing_host())
    found = raced(off, "https://nobody.invalid:1", gone, timeout=0.4)
    assert found.connection is None
    assert isinstance(found.failures[off], TimeoutError)
    assert isinstance(found.failures["https://nobody.invalid:1"], socket.gaierror)
    assert isinstance(found.failures[gone], ConnectionRefusedError)


def test_all_addresses_of_a_name_are_tried(hosts: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, on = hosts.enter_context(refusing_host()), hosts.enter_context(taking_host())
    where = [("127.0.0.1", int(url.rpartition(":")[2])) for url in (gone, on)]
    kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **named: [(*kind, address) for address in where])
    found = race([url := "https://twice.example:2377"], PATIENCE)
    assert found.connection is not None
    assert found.connection.getpeername() == where[1]
    assert (found.winner, found.failures) == (url, {})
    found.connection.close()


async def test_a_request_goes_to_a_manager_that_is_there(
    hosts: ExitStack, manager: RunningManager, person: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = hosts.enter_context(silent_host())
    await person.know_manager(manager, off, manager.base)
    monkeypatch.setenv("XDG_CONFIG_HOME", person.environment["XDG_CONFIG_HOME"])
    order: list[tuple[str, ...]] = []
    results: list[Race] = []

    def seen(urls: list[str], timeout: float) -> Race:
        order.append(tuple(urls))
        results.append(race(urls, PATIENCE))
        return results[-1]

    monkeypatch.setattr(transport, "race", seen)
    with closing(transport.Transport(chosen())) as asking:
        for _ in range(2):
            answer = await asyncio.to_thread(asking.call, "GET", "/v1/cluster")
            assert [one["url"] for one in msgspec.json.decode(answer)["managers"]] == [manager.base]
        assert len(results) == 1, "the second request goes the same way"
        asking.close()
        await asyncio.to_thread(asking.call, "GET", "/v1/cluster")
    assert order == [(off, manager.base), (manager.base, off)], "who took it is dialled first from then on"
    assert [(one.winner, one.failures) for one in results] == [(manager.base, {})] * 2
