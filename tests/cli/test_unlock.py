"""`stack autolock`, `unlock` and `unlock-key`, by a manager's own socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.unlock import new_unlock_key, parse_unlock_key
from tests.cli.terminal import Terminal
from tests.etcd_server import Servers
from tests.manager.managers import RunningManager, emptied, running_manager

pytestmark = pytest.mark.etcd


async def test_managers_are_locked_unlocked_and_given_another_key(
    person: Terminal, servers: Servers, tmp_path: Path
) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        person.environment["STACK_HOST"] = str(manager.settings.socket)
        none = await person.stack("unlock-key")
        assert none.code == 2 and "start unlocked" in none.err and "autolock on" in none.err
        made = await person.stack("autolock", "on")
        first = parse_unlock_key(made.out.splitlines()[0])
        assert made.code == 0 and (await person.stack("unlock-key")).out == f"{first}\n"
        assert "already" in (await person.stack("autolock", "on")).out
        rotated = await person.stack("unlock-key", "--rotate")
        second = parse_unlock_key(rotated.out)
        assert second != first and (await person.stack("unlock-key")).out == rotated.out

    async with running_manager(servers, tmp_path) as again:
        person.environment["STACK_HOST"] = str(again.settings.socket)
        locked = await person.stack("node", "ls")
        assert (locked.code, locked.out) == (3, "") and "is locked" in locked.err and "stack unlock" in locked.err
        wrong = await person.stack("unlock", stdin=f"{new_unlock_key()}\n".encode())
        assert wrong.code == 2 and "not the unlock key" in wrong.err
        nothing = await person.stack("unlock")
        assert nothing.code == 2 and "--unlock-key FILE" in nothing.err
        none_such = await person.stack("unlock", stdin=b"sesame")
        assert none_such.code == 2 and "SYUNLOCK-1-" in none_such.err
        person.write("key", f"{second}\n")
        assert (await person.stack("unlock", "--unlock-key", "key")).out == "this manager is unlocked\n"
        assert (await person.stack("node", "ls")).code == 0
        assert (await person.stack("autolock", "off")).out == "managers start unlocked from now on\n"

    async with running_manager(servers, tmp_path) as open_again:
        person.environment["STACK_HOST"] = str(open_again.settings.socket)
        assert (await person.stack("node", "ls")).code == 0


async def test_the_key_is_roots(person: Terminal, manager: RunningManager) -> None:
    said = await person.stack("--context", "c", "unlock-key")
    assert said.code == 2 and "UNIX socket" in said.err
