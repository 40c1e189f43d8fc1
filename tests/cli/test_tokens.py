"""`stack token`, by a manager's own socket."""

from __future__ import annotations

import pytest

from cluster import pki
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd


async def test_tokens_are_shown_made_listed_rotated_and_revoked(person: Terminal, manager: RunningManager) -> None:
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    standing = await person.stack("token", "show")
    assert pki.parse_token(standing.out).ca_digest == pki.ca_digest(manager.ca)
    assert (await person.stack("token", "show", "manager")).out != standing.out

    made = await person.stack("token", "create", "--role", "manager", "--expires", "90m", "--once")
    assert made.code == 0 and str(pki.parse_token(made.out)) == made.out.strip()
    listed = await person.stack("token", "ls", "--format", "json")
    [one] = [token for token in listed.json if not token["standing"]]
    assert (one["role"], one["once"], one["expires_at"] - one["created_at"]) == ("manager", True, 5400)
    table = await person.stack("token", "ls")
    assert "one node, until 2" in table.out and "until it is rotated" in table.out

    rotated = await person.stack("token", "rotate", "worker")
    assert rotated.out != standing.out and rotated.out == (await person.stack("token", "show")).out
    assert (await person.stack("token", "revoke", one["id"])).out == f"revoked {one['id']}\n"
    again = await person.stack("token", "revoke", one["id"])
    assert again.code == 2 and "there is no join token" in again.err


@pytest.mark.parametrize("time", ["", "soon", "5", "0h", "-1h", "1w"])
async def test_times_that_are_none(person: Terminal, time: str) -> None:
    said = await person.stack("token", "create", "--expires", time, STACK_HOST="/nowhere")
    assert said.code == 2 and "is no time" in said.err and "30m" in said.err


async def test_only_root_on_a_managers_host_may_ask(person: Terminal, manager: RunningManager) -> None:
    said = await person.stack("--context", "c", "token", "ls")
    assert said.code == 2 and "UNIX socket" in said.err
