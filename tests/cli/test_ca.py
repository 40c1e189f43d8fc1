"""`stack ca`, against a real manager."""

from __future__ import annotations

import pytest

from cluster.model.cluster import TrustPhase
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager, until

pytestmark = pytest.mark.etcd


async def test_a_rotation_is_shown_waits_for_a_certificate_and_is_finished_by_force(
    person: Terminal, manager: RunningManager
) -> None:
    await until(lambda: manager.core.presence.leading)
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    before = await person.stack("ca")
    old, token = manager.core.authority.digest, (await person.stack("token", "show")).out
    assert old in before.out and "no rotation is under way" in before.out

    waits = await person.stack("ca", "rotate")
    assert waits.code == 1 and "1 of 1 managers" in waits.out
    assert "the old root stays trusted" in waits.err and "it is of the old root" in waits.err
    shown = (await person.stack("ca", "--format", "json")).json
    assert (shown["phase"], len(shown["roots"]), shown["managers"]) == ("renewing", 2, 1)
    assert "certificate" in (await person.stack("ca")).out

    refused = await person.stack("ca", "finish")
    assert refused.code == 2 and "some still need the old root" in refused.err and "--force" in refused.err
    finished = await person.stack("ca", "finish", "--force")
    assert finished.code == 0 and "no rotation is under way" in finished.out
    await until(lambda: manager.core.authority.trust.phase is TrustPhase.SETTLED)
    after = await person.stack("ca")
    assert old not in after.out and manager.core.authority.digest in after.out
    assert (await person.stack("token", "show")).out != token
    assert "One root is trusted" in (await person.stack("ca", "finish")).out


async def test_a_rotation_that_nobody_holds_up_comes_to_its_end(person: Terminal, manager: RunningManager) -> None:
    await until(lambda: manager.core.presence.leading)
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    for user in tuple(manager.core.state.users):
        assert (await person.stack("user", "rm", user)).code == 0
    done = await person.stack("ca", "rotate")
    assert done.code == 0 and "is made known" in done.out and "One root is trusted" in done.out, done
    assert "Join tokens have changed" in done.out
    begun = await person.stack("ca", "rotate", "--detach")
    assert begun.code == 0 and "goes on by itself" in begun.out
