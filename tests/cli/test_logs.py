"""`stack logs` against a whole manager, with an agent whose tasks print what the test says."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient, stamped
from tests.manager.managers import RunningManager, running_manager
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

WEB = "name: shop\nservices: {web: {image: x}}"


async def heard(process: asyncio.subprocess.Process, count: int) -> list[str]:
    """So many lines of what a command prints, without who printed them."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return [(await process.stdout.readline()).decode().partition(" | ")[2].strip() for _ in range(count)]


async def test_following_goes_on_over_a_restart_of_the_manager_and_ends_with_the_service(
    person: Terminal, servers: Servers, manager: RunningManager, tmp_path: Path
) -> None:
    person.write("compose.yml", WEB)
    joined = await manager.join("n1")
    async with running_manager(servers, tmp_path, "m2") as second:
        async with obedient(second, joined=joined) as agent:
            agent.log = stamped(1, "one") + stamped(1, "one more")
            assert (await person.stack("deploy")).code == 0
            process = await person.start("logs", "-f", "web", environment={"STACK_HOST": str(second.settings.socket)})
            assert await heard(process, 2) == ["one", "one more"]
    async with running_manager(servers, tmp_path, "m2") as second, obedient(second, joined=joined) as agent:
        agent.log = stamped(1, "one") + stamped(1, "one more") + stamped(2, "two")
        assert await heard(process, 1) == ["two"]
        assert (await person.stack("rm", "shop")).code == 0
        said = await person.end(process)
    assert (said.code, said.out) == (0, "")


async def test_instants_notes_and_what_is_no_instant(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", WEB)
    async with obedient(manager) as agent:
        agent.log = stamped(7, "seven")
        assert (await person.stack("deploy")).code == 0
        said = await person.stack("logs", "-t", "shop_web")
        assert said.out.endswith("@n1 | 2026-01-31T12:00:07.123456789Z seven\n")
        assert (await person.stack("logs", "--since", "2026-01-31T12:00:08Z", "web")).out == ""
        said = await person.stack("logs", "--since", "soon", "web")
        assert (said.code, said.out) == (2, "")
        assert "'soon' is no instant" in said.err
        agent.log += stamped(8, "eight") + stamped(9, "nine")
        assert (await person.stack("logs", "shop", "--grep", "^[n-s]", "--no-log-prefix")).out == "seven\nnine\n"
        until = ("--until", "2026-01-31T12:00:08.5Z", "--tail", "1")  # an engine would look at `nine`, and drop it
        assert (await person.stack("logs", "shop", *until, "--no-log-prefix")).out == "eight\n"
        assert (await person.stack("logs", "shop", "-n", "all", "--since", "1h30m")).out == ""
        assert (await person.stack("scale", "shop_web=2")).code == 0
        words = (await person.stack("logs", "shop", "--no-log-prefix")).out.split()
        assert words == ["seven", "seven", "eight", "eight", "nine", "nine"], "tasks' lines are sorted by their time"
        said = await person.stack("logs", "web", "--grep", "(")
        assert (said.code, said.out) == (2, "") and "--grep (: missing )" in said.err
        said = await person.stack("logs", "web", "-f", "--until", "5m")
        assert (said.code, said.out) == (2, "") and "do not go together" in said.err
    said = await person.stack("logs", "web")
    assert (said.code, said.out) == (3, "") and "a part of the log of web could not be had" in said.err
    assert "@n1 | no log of shop_web.1 on n1: " in said.err


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
async def test_tasks_have_colours_on_a_terminal_that_is_to_have_them(
    person: Terminal, manager: RunningManager, environment: dict[str, str], coloured: bool
) -> None:
    person.write("compose.yml", WEB)
    screen, terminal = os.openpty()
    try:
        async with obedient(manager) as agent:
            agent.log = stamped(1, "one")
            assert (await person.stack("deploy")).code == 0
            process = await person.start("logs", "web", environment=environment, stdout=terminal)
            assert (await person.end(process)).code == 0
        drawn = os.read(screen, 65536)
    finally:
        os.close(screen)
        os.close(terminal)
    assert b" | one" in drawn and (b"\x1b[" in drawn) == coloured
