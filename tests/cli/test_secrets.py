"""`stack secret` and `stack configs`: made, listed, used, and removed once nothing uses them."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

APP = """
name: app
services: {web: {image: x, KINDs: [thing]}}
KINDs: {thing: {external: true}}
"""


@pytest.mark.parametrize(("command", "kind"), [("secret", "secret"), ("configs", "config")])
async def test_from_its_making_to_its_end(person: Terminal, manager: RunningManager, command: str, kind: str) -> None:
    person.write("content.txt", "the very words")
    person.write("compose.yml", APP.replace("KIND", kind))
    said = await person.stack(command, "create", "thing", "content.txt", "-l", "team=a")
    assert (said.code, said.out) == (0, "thing is made, of 14 bytes\n")
    assert (await person.stack("deploy", "--detach")).code == 0
    head, row = (await person.stack(command, "ls")).out.splitlines()
    assert head.split() == ["NAME", "SIZE", "STACK", "CREATED", "USED", "BY"]
    assert row.split()[:2] == ["thing", "14"] and row.endswith("app_web")
    said = await person.stack(command, "inspect", "thing")
    assert "team=a" in said.out and " ann " in said.out and "very words" not in said.out
    (found,) = (await person.stack(command, "inspect", "thing", "--format", "json")).json
    assert (found["kind"], found["used_by"], found["labels"]) == (kind, ["app_web"], {"team": "a"})
    said = await person.stack(command, "rm", "thing")
    assert said.code == 2 and "app_web" in said.err
    assert (await person.stack("rm", "app")).code == 0
    said = await person.stack(command, "rm", "thing")
    assert (said.code, said.out) == (0, "removed thing\n")
    assert (await person.stack(command, "ls", "--format", "json")).json == []


async def test_those_of_a_stack_are_listed_with_it_and_go_with_its_file(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", APP.replace("KIND", "secret").replace("{external: true}", "{file: key.txt}"))
    person.write("key.txt", "the very words")
    assert (await person.stack("deploy", "--detach")).code == 0
    _, row = (await person.stack("secret", "ls")).out.splitlines()
    assert row.split()[:3] == ["app_thing", "14", "app"] and row.endswith("app_web")
    said = await person.stack("inspect", "app_thing")
    assert (said.json[0]["kind"], said.json[0]["stack"]) == ("secret", "app") and "very words" not in said.out
    said = await person.stack("secret", "rm", "app_thing")
    assert (said.code, said.err.splitlines()[0]) == (2, "error: the secret app_thing is in the file of the stack app")
    outsider = await manager.user("bob", "deployer", "other")
    assert await outsider.get("/secrets") == [] and await (await manager.user("eve", "viewer", "app")).get("/secrets")
    said = await person.stack("secret", "inspect", "app_thin")
    assert "Did you mean app_thing?" in said.err


async def test_a_content_on_standard_input(person: Terminal, manager: RunningManager) -> None:
    said = await person.stack("secret", "create", "key", "-", stdin=b"abc")
    assert (said.code, said.out) == (0, "key is made, of 3 bytes\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("create", "key", "nowhere.txt"), 1, "nowhere.txt"),
        (("create", "key", "content.txt", "-l", "label"), 2, "'label' is no label"),
        (("create", "there", "other.txt"), 2, "there"),
        (("inspect", "moon"), 2, "moon"),
        (("rm", "moon"), 2, "moon"),
    ],
    ids=["no file", "no label", "another content", "inspect nothing", "remove nothing"],
)
async def test_what_cannot_be(
    person: Terminal, manager: RunningManager, arguments: tuple[str, ...], code: int, told: str
) -> None:
    person.write("content.txt", "one")
    person.write("other.txt", "another")
    assert (await person.stack("secret", "create", "there", "content.txt")).code == 0
    said = await person.stack("secret", *arguments)
    assert (said.code, said.out) == (code, "")
    assert told in said.err


async def test_all_is_sealed_with_a_new_key(person: Terminal, manager: RunningManager) -> None:
    person.write("content.txt", "the very words")
    assert (await person.stack("secret", "create", "thing", "content.txt")).code == 0
    said = await person.stack("secret", "rotate-key")
    assert said.code == 0 and said.out.startswith("sealed 1 contents with the new key "), said
    assert "very words" not in said.out + said.err
