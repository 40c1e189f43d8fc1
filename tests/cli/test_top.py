"""`stack top` and `stack df`, piped and on a terminal, against a whole manager."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios

import pytest

from cli.commands.top import screen
from cli.listing import Columns
from cli.output import size
from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager
from tests.patience import PATIENCE

APP = "name: shop\nservices: {web: {image: x, deploy: {replicas: 2}}, db: {image: y}}\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0K"), (1536, "1.5K"), (2**20 - 1, "1.0M"), (20 * 2**20, "20.0M"),
     (2**60, "1.0E"), (2**63, "8.0E")],
)  # fmt: skip
def test_sizes(number: int, said: str) -> None:
    assert size(number) == said


COLUMNS: Columns = {"NAME": lambda row: row, "LENGTH": lambda row: str(len(row))}


@pytest.mark.parametrize(
    ("rows", "notes", "height", "shown"),
    [
        pytest.param(["a", "bb"], [], 5, ["NAME  LENGTH", "a     1", "bb    2"], id="all"),
        pytest.param(["a"], ["n1: gone"], 5, ["NAME  LENGTH", "a     1", "no figures of n1: gone"], id="a note"),
        pytest.param(
            ["a", "b", "c"], [], 3,
            ["NAME  LENGTH", "a     1", "and 2 lines more: name a stack, a service or a --node"], id="too many",
        ),
    ],
)  # fmt: skip
def test_a_screen_is_filled_and_no_more(rows: list[str], notes: list[str], height: int, shown: list[str]) -> None:
    said = screen(rows, COLUMNS, notes, (), 80, height)  # type: ignore[arg-type]
    assert said.startswith("\x1b[H") and said.endswith("\x1b[K\x1b[J")
    assert said.removeprefix("\x1b[H").removesuffix("\x1b[J").replace("\x1b[K", "").split("\n") == shown


@pytest.mark.etcd
async def test_what_tasks_use_is_shown_once_where_there_is_no_terminal(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", APP)
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        said = await person.stack("top")
        assert (said.code, said.err) == (0, "")
        head, *rows = (line.split() for line in said.out.splitlines())
        assert head == ["NAME", "NODE", "CPU", "MEMORY", "LIMIT", "NET", "IN", "NET", "OUT", "READ", "WRITTEN", "PIDS"]
        figures = ["n1", "50.0%", "1.0M", "1.0G", "1.0K/s", "2.0K/s", "10B/s", "20B/s", "3"]
        assert rows == [[name, *figures] for name in ("shop_db.1", "shop_web.1", "shop_web.2")]
        said = await person.stack("stats", "web", "--format", "{{.Name}} {{.CPU}} {{.written}}")
        assert said.out == "shop_web.1 50.0% 20B/s\nshop_web.2 50.0% 20B/s\n"
        said = await person.stack("top", "shop", "--by", "service", "--format", "json")
        assert [(row["name"], row["tasks"], row["cpu"]) for row in said.json] == [
            ("shop_db", 1, 50.0), ("shop_web", 2, 100.0)
        ]  # fmt: skip
        said = await person.stack("top", "--by", "node", "--no-stream", "--node", "n1")
        assert said.out.splitlines()[1].split()[:3] == ["n1", "3", "150.0%"]
        said = await person.stack("top", "moon")
        assert said.code == 2 and "there is no stack or service moon" in said.err


@pytest.mark.etcd
@pytest.mark.parametrize("environment", [{"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}])
@pytest.mark.parametrize("key", [b"", b"q"], ids=["Ctrl-C", "q"])
async def test_on_a_terminal_it_goes_on_until_ctrl_c_or_q(
    person: Terminal, manager: RunningManager, environment: dict[str, str], key: bytes
) -> None:
    person.write("compose.yml", APP)
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        view, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        try:
            process = await person.start("top", "shop", environment=environment, stdin=terminal, stdout=terminal)
            shown = b""
            async with asyncio.timeout(PATIENCE):
                while shown.count(b"shop_web.2") < 3:
                    shown += await asyncio.to_thread(os.read, view, 4096)
            if key:
                os.write(view, key)
            else:
                process.send_signal(signal.SIGINT)
            said = await person.end(process)
            async with asyncio.timeout(PATIENCE):
                while not shown.endswith(b"\x1b[?1049l"):
                    shown += await asyncio.to_thread(os.read, view, 4096)
        finally:
            os.close(view)
            os.close(terminal)
    assert (said.code, said.err) == (0, "")
    assert shown.startswith(b"\x1b[?1049h\x1b[H")
    first, second, *_ = shown.decode().split("\x1b[H")[1:]
    assert "shop_db.1   n1    -" in first and "shop_db.1   n1    50.0%" in second


@pytest.mark.etcd
async def test_disks_are_shown_and_who_is_away_is_told(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        await manager.join("n2")
        said = await person.stack("df")
        assert (said.code, said.err) == (0, "no figures of n2: its agent is not connected\n")
        assert said.out == (
            "NODE  TYPE     TOTAL  ACTIVE  SIZE  RECLAIMABLE\n"
            "n1    images   3      1       3.0G  1.0G\n"
            "n1    volumes  1      1       5B    0B\n"
        )
        said = await person.stack("df", "--node", "n1", "--format", "json")
        assert (said.json[0]["reclaimable"], said.err) == (2**30, "")
