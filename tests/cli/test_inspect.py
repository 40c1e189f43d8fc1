"""`stack inspect`: whatever has a name."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

APP = """
name: app
services: {db: {image: postgres, volumes: ["data:/data"], networks: [back], secrets: [key]}}
networks: {back: {}}
volumes: {data: {}}
secrets: {key: {file: key.txt}}
"""


async def test_whatever_has_a_name_is_told(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", APP)
    person.write("key.txt", "the very words")
    person.write("same.yml", "name: n1\nservices: {db: {image: x}}")
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        (task,) = manager.core.state.tasks
        names = ("app", "app_db", "app_db.1", task[:8], "n1", "app_back", "app_data")
        said = await person.stack("inspect", *names)
        assert said.code == 0, said
        stack, service, named, by_id, *others = said.json
        assert (
            stack["kind"] == "stack" and stack["revision"] == 1 and stack["head"]["spec"]["services"].keys() == {"db"}
        )
        assert (service["kind"], service["spec"]["container"]["image"]) == ("service", "postgres")
        assert named == by_id and (named["id"], named["node"]) == (task, "n1")
        assert [one["kind"] for one in others] == ["node", "network", "volume"]
        assert "very words" not in said.out
        assert (await person.stack("deploy", "-f", "same.yml", "--detach")).code == 0
        said = await person.stack("inspect", "n1")
        assert (said.code, said.out) == (2, "")
        assert "n1 can mean several things: node and stack" in said.err and "--type" in said.err
        assert (await person.stack("inspect", "n1", "--type", "node")).json[0]["kind"] == "node"
    said = await person.stack("inspect", "app", "moon")
    assert (said.code, said.out) == (2, "")
    assert "there is no such thing as moon" in said.err
    said = await person.stack("inspect", "app_bd")
    assert said.err == "error: there is no such thing as app_bd\nDid you mean app_db?\n"


async def test_a_template_asks_for_what_is_below(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", APP)
    person.write("key.txt", "the very words")
    assert (await person.stack("deploy", "--detach")).code == 0

    async def told(template: str) -> str:
        said = await person.stack("inspect", "app_db", "--format", template)
        return said.out or said.err

    assert await told("{{.Name}}: {{.spec.container.image}}") == "app_db: postgres\n"
    assert await told("{{json .spec.container.image}} {{.spec.replicas}}") == '"postgres" 1\n'
    assert (await told("{{.spec.colour}}")).startswith("error: {{.spec.colour}}: there is no colour\nThere are: ")
    assert "{{range .}} is no field" in await told("{{range .}}")
    assert "neither json nor a template" in await told("yaml")
