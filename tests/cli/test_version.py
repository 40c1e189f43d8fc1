"""`stack version`: what all parts are, and which differ."""

from __future__ import annotations

from importlib.metadata import version as installed

import pytest

from cli.commands.version import Part, skew
from cluster.protocol import VERSION
from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager, until

ALIKE = [
    Part("command", "stack", "0.2.0", 4),
    Part("manager", "n1", "0.2.0", 4),
    Part("agent", "n1", "0.2.0", 4),
    Part("engine", "n1", "20.10.24"),
    Part("etcd", "http://127.0.0.1:2379", "3.4.23"),
]


def test_nothing_is_said_of_parts_that_are_alike() -> None:
    assert skew(ALIKE) == []


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Part("manager", "n2", "0.1.0", 4), ["0.2.0 (command stack, manager n1, agent n1)", "0.1.0 (manager n2)"]),
        (Part("agent", "n2", "0.1.0", 3), ["0.1.0 (agent n2); `stack upgrade` shows"]),
        (
            Part("agent", "n2", "0.2.0", 3),
            ["4 (command stack, manager n1, agent n1), 3 (agent n2); `stack upgrade` shows"],
        ),
        (Part("engine", "n2", "27.5.1"), ["the nodes' engines", "20.10.24 (engine n1), 27.5.1 (engine n2)"]),
        (Part("etcd", "http://127.0.0.2:2379", "3.5.16"), ["the members of etcd", "3.5.16 (etcd http://127.0.0.2"]),
    ],
    ids=str,
)
def test_a_part_that_differs_is_named(part: Part, told: list[str]) -> None:
    (line,) = skew([*ALIKE, part])
    assert line.startswith("warning: ") and all(text in line for text in told), line


def test_what_nobody_knows_differs_from_nothing() -> None:
    assert skew([*ALIKE, Part("manager", "n2", ""), Part("agent", "n2", "", 0), Part("engine", "n2", "")]) == []


async def test_without_a_cluster_it_shows_itself(person: Terminal) -> None:
    said = await person.stack("version", STACK_HOST="/nowhere/manager.sock")
    assert said.code == 3 and "no manager answers" in said.err
    assert [line.split()[:3] for line in said.out.splitlines()[1:]] == [["command", "stack", installed("stackyard")]]
    told = await person.stack("version", "--format", "json", STACK_HOST="/nowhere/manager.sock")
    assert told.code == 3 and [part["kind"] for part in told.json["parts"]] == ["command"]
    assert "no manager answers" in told.json["missing"][0]


@pytest.mark.etcd
async def test_all_parts_are_shown(person: Terminal, manager: RunningManager) -> None:
    await until(lambda: manager.core.state.managers)
    async with obedient(manager, "n1"):
        said = await person.stack("version", "--format", "json")
        assert said.code == 0, said
        parts = {(part["kind"], part["name"]): part for part in said.json["parts"]}
        assert parts["command", "stack"]["release"] == parts["manager", "m1"]["release"] == installed("stackyard")
        assert parts["command", "stack"]["protocol"] == parts["manager", "m1"]["protocol"] == VERSION
        assert ("agent", "n1") in parts and ("engine", "n1") in parts
        (etcd,) = [part for part in said.json["parts"] if part["kind"] == "etcd"]
        assert etcd["release"].startswith("3.")
        # The agent of this test says that it is of another release, and is named for it.
        (warning,) = [text for text in said.json["warnings"] if "of one release" in text]
        assert "(agent n1)" in warning and "`stack upgrade`" in warning
        shown = await person.stack("version")
        assert shown.code == 0 and warning in shown.err


@pytest.mark.etcd
async def test_who_may_not_see_upgrades_sees_the_rest(person: Terminal, manager: RunningManager) -> None:
    reply = await manager.local().ask("POST", "/users", {"name": "eve", "role": "viewer"})
    token = person.folder / "eve.token"
    token.write_text(reply.body["token"])
    async with obedient(manager, "n1"):
        address = manager.base.removeprefix("https://")
        added = await person.stack("context", "add", "seen", "--manager", address, "--token-file", str(token))
        assert added.code == 0, added
        said = await person.stack("version", "--format", "json")
        assert said.code == 0 and "needs the role operator" in said.json["missing"][0]
        kinds = {part["kind"] for part in said.json["parts"]}
        assert kinds == {"command", "manager", "agent", "engine", "etcd"}
