"""`stack upgrade`, against a real manager."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.codec import encode, key_of
from cluster.protocol import VERSION
from manager.etcd import put
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager, until

pytestmark = pytest.mark.etcd


async def test_an_upgrade_is_shown_and_finished(person: Terminal, manager: RunningManager) -> None:
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    core = manager.core
    assert core.state.cluster is not None
    was = replace(core.state.cluster, version=VERSION - 1)
    await core.etcd.txn((), [put(key_of(was), encode(was))])
    await until(lambda: core.state.cluster == was)

    await until(lambda: core.state.managers)
    shown = await person.stack("upgrade")
    assert "m1" in shown.out and "`stack upgrade --finish` ends the upgrade" in shown.out
    finished = await person.stack("upgrade", "--finish")
    assert finished.code == 0 and "no upgrade is under way" in finished.out
    view = (await person.stack("upgrade", "--format", "json")).json
    assert (view["version"], view["newest"]) == (VERSION, VERSION)


async def test_two_options_that_are_two_things(person: Terminal) -> None:
    said = await person.stack("upgrade", "--status", "--finish", STACK_HOST="/nowhere")
    assert said.code == 2 and "two things" in said.err
