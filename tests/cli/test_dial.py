"""Whichever manager answers first is asked, and one that is frozen or whose host is off holds nobody up."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from cli.client import dial, transport
from cli.client.contexts import Context, chosen
from cli.client.dial import Race, race
from cluster import pki
from tests.cli.terminal import Terminal
from tests.hosts import frozen_host, refusing_host, silent_host
from tests.manager.managers import RunningManager
from tests.patience import PATIENCE

AUTHORITY = pki.new_authority("test", now=time.time())
CLIENT = pki.client_context(AUTHORITY.certificate)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a manager of AUTHORITY's cluster serves with."""
    return server_context(tmp_path_factory.mktemp("served"), AUTHORITY)


def server_context(folder: Path, authority: pki.Authority) -> ssl.SSLContext:
    key = pki.new_key()
    whose = pki.Identity("test", "manager", "m1", "manager")
    certificate = pki.issue(authority, pki.new_csr(key), whose, now=time.time(), hosts=("127.0.0.1",))
    (folder / "key.pem").write_text(key)
    (folder / "cert.pem").write_text(certificate)
    return pki.server_context(str(folder / "cert.pem"), str(folder / "key.pem"), authority.certificate)


@contextmanager
def answering_host(served: ssl.SSLContext) -> Iterator[str]:
    """A host that shakes hands with everybody, until its listener is closed."""
    with ExitStack() as taken, socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    with suppress(ssl.SSLError):
                        taken.enter_context(served.wrap_socket(connection, server_side=True))

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield f"https://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            taking.join()


@pytest.fixture
def hosts() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def raced(*urls: str, timeout: float = PATIENCE) -> Race:
    found = race(urls, timeout, CLIENT)
    if found.connection is not None:
        port = found.connection.getpeername()[1]
        assert found.winner.endswith(f":{port}")
        assert found.connection.gettimeout() == timeout
        assert found.connection.version() == "TLSv1.3", "nobody has shaken hands"
        found.connection.close()
    return found


@pytest.mark.parametrize("gone", [silent_host, frozen_host])
def test_a_manager_that_is_frozen_or_whose_host_is_off_is_not_waited_for(
    hosts: ExitStack, served: ssl.SSLContext, gone: Callable[[], AbstractContextManager[str]]
) -> None:
    off, on = hosts.enter_context(gone()), hosts.enter_context(answering_host(served))
    found = raced(off, on)
    assert found.winner == on
    assert found.failures == {}, "it was given up, not outrun"


def test_who_is_asked_first_has_a_head_start(
    hosts: ExitStack, served: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "HEAD_START", PATIENCE)
    first, second = (hosts.enter_context(answering_host(served)) for _ in range(2))
    assert raced(first, second).winner == first


def test_the_next_is_dialled_at_once_when_one_refuses(
    hosts: ExitStack, served: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "HEAD_START", math.inf)
    gone, on = hosts.enter_context(refusing_host()), hosts.enter_context(answering_host(served))
    off = hosts.enter_context(silent_host())
    found = raced(gone, on, off)
    assert found.winner == on
    assert isinstance(found.failures.pop(gone), ConnectionRefusedError)
    assert not found.failures


def test_the_next_is_dialled_at_once_when_one_is_of_another_cluster(
    hosts: ExitStack, served: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dial, "HEAD_START", math.inf)
    foreign = server_context(tmp_path, pki.new_authority("other", now=time.time()))
    other, on = hosts.enter_context(answering_host(foreign)), hosts.enter_context(answering_host(served))
    found = raced(other, on)
    assert found.winner == on
    assert isinstance(found.failures.pop(other), ssl.SSLCertVerificationError)
    assert not found.failures


def test_it_is_told_of_each_why_nobody_was_reached(hosts: ExitStack) -> None:
    off, gone, frozen = (hosts.enter_context(host()) for host in (silent_host, refusing_host, frozen_host))
    found = raced(off, "https://nobody.invalid:1", gone, frozen, timeout=0.4)
    assert found.connection is None
    assert isinstance(found.failures[off], TimeoutError)
    assert isinstance(found.failures["https://nobody.invalid:1"], socket.gaierror)
    assert isinstance(found.failures[gone], ConnectionRefusedError)
    assert isinstance(found.failures[frozen], TimeoutError)


def test_all_addresses_of_a_name_are_tried(
    hosts: ExitStack, served: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, on = hosts.enter_context(refusing_host()), hosts.enter_context(answering_host(served))
    where = [("127.0.0.1", int(url.rpartition(":")[2])) for url in (gone, on)]
    kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **named: [(*kind, address) for address in where])
    found = race([url := "https://twice.example:2377"], PATIENCE, CLIENT)
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

    def seen(urls: list[str], timeout: float, tls: ssl.SSLContext) -> Race:
        order.append(tuple(urls))
        results.append(race(urls, PATIENCE, tls))
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


def test_a_stream_of_a_manager_that_falls_silent_ends_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SILENCE", 0.1)
    told: list[tuple[str, float]] = []
    path = str(tmp_path / "manager.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\none\ntwo\n")
                connection.recv(4096)  # until the other side hangs up

        answering = threading.Thread(target=answer)
        answering.start()
        with closing(transport.Transport(Context(socket=path), waiting=lambda *words: told.append(words))) as asking:
            assert list(asking.lines("/v1/events")) == [b"one", b"two"]
        answering.join()
    [(why, seconds)] = told
    assert f"the manager at {path} has been silent" in why and seconds == 0
