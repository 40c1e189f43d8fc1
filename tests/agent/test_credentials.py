from __future__ import annotations

import asyncio
import ssl
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.credentials import join, keep_fresh, load, renew
from cluster import pki
from cluster.errors import Conflict, Failed, Forbidden, Unavailable, UserError
from tests.agent.builders import CLUSTER
from tests.agent.toy_manager import ToyManager


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[ToyManager]:
    authority = pki.new_authority(CLUSTER, now=time.time())
    async with ToyManager(tmp_path, authority).serving() as manager:
        yield manager


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "agent"
    made.mkdir()
    return made


def token(manager: ToyManager) -> pki.JoinToken:
    return pki.join_token(manager.authority, CLUSTER, "worker", 1)


async def test_a_token_gets_a_node_its_certificate(manager: ToyManager, folder: Path) -> None:
    assert load(folder) is None
    joined = await join(folder, (manager.url,), str(token(manager)), "n1")
    assert (joined.identity.cluster, joined.identity.kind) == (CLUSTER, "node")
    assert load(folder) == joined
    joined.context()
    for name in ("key.pem", "node.pem", "ca.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    [asked] = manager.asked
    assert (asked.token, asked.name) == (str(token(manager)), "n1")
    assert "PRIVATE" not in asked.csr


async def test_joining_again_with_the_same_key_gives_the_same_node(manager: ToyManager, folder: Path) -> None:
    first = await join(folder, (manager.url,), str(token(manager)), "n1")
    (folder / "node.pem").unlink()
    again = await join(folder, (manager.url,), str(token(manager)), "n1")
    assert again.identity == first.identity


async def test_somebody_who_poses_as_the_manager_is_not_told_the_token(manager: ToyManager, folder: Path) -> None:
    other = pki.new_authority("another", now=time.time())
    honest = pki.join_token(other, "another", "worker", 1)
    with pytest.raises(Forbidden, match="not the one that the join token names"):
        await join(folder, (manager.url,), str(honest), "n1")
    assert manager.asked == []
    # Showing the right CA does not help who does not hold a certificate of it.
    manager.shown_ca = other.certificate
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await join(folder, (manager.url,), str(honest), "n1")
    assert manager.asked == []


async def test_what_the_manager_refuses_is_said_in_its_words(manager: ToyManager, folder: Path) -> None:
    manager.conflict = Conflict("the name n1 is taken", hint="Choose another.")
    with pytest.raises(Conflict, match=r"the name n1 is taken\nChoose another\."):
        await join(folder, (manager.url,), str(token(manager)), "n1")
    assert load(folder) is None


async def test_a_text_that_is_no_token_is_told_from_one_that_is_wrong(folder: Path) -> None:
    with pytest.raises(UserError, match="that is no join token"):
        await join(folder, ("https://127.0.0.1:1",), "SWMTKN-1-abc", "n1")


async def test_managers_are_asked_until_one_answers(manager: ToyManager, folder: Path) -> None:
    joined = await join(folder, ("https://127.0.0.1:1", manager.url), str(token(manager)), "n1")
    assert joined == load(folder)


async def test_where_somebody_waits_it_is_given_up(folder: Path) -> None:
    with pytest.raises(Unavailable, match="no answer from the manager"):
        await join(folder, ("https://127.0.0.1:1",), str(pki.JoinToken("0" * 64, "a" * 32)), "n1", patience=0.1)
    assert load(folder) is None


async def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(manager: ToyManager, folder: Path) -> None:
    manager.age = pki.LEAF_LIFE.total_seconds() * 0.7
    joined = await join(folder, (manager.url,), str(token(manager)), "n1")
    old = (folder / "node.pem").read_text()
    keeping = asyncio.create_task(keep_fresh(joined, lambda: ("https://127.0.0.1:1", manager.url)))
    while (folder / "node.pem").read_text() == old:
        assert not keeping.done()
        await asyncio.sleep(0.01)
    keeping.cancel()
    new = load(folder)
    assert new == joined and new is not None
    # connections that are made from now on show it, by the same context
    await renew(joined, (manager.url,))
    assert manager.shown[0] == ssl.PEM_cert_to_DER_cert(old)
    assert manager.shown[1] not in manager.shown[:1]
    assert len(manager.asked) == 1


async def test_a_young_certificate_stays(manager: ToyManager, folder: Path) -> None:
    joined = await join(folder, (manager.url,), str(token(manager)), "n1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await keep_fresh(joined, lambda: (manager.url,))
    assert manager.shown == []


async def test_a_certificate_that_cannot_be_used_says_what_to_do(manager: ToyManager, folder: Path) -> None:
    await join(folder, (manager.url,), str(token(manager)), "n1")
    (folder / "node.pem").write_text("nonsense")
    with pytest.raises(Failed, match=r"cannot be used.*\nDelete .*node\.pem and start the agent with a join token"):
        load(folder)


def test_a_token_is_checked_whole() -> None:
    text = str(pki.JoinToken("0" * 64, "a" * 32))
    assert pki.parse_token(f" {text}\n") == replace(pki.parse_token(text))
