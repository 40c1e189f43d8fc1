"""`stack support-bundle`: all that helps, and nothing that is secret."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli import redact
from cluster.model.task import IT_SAID, TaskState
from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager, until

APP = """
name: app
services:
  web:
    image: box:1
    command: [serve, --token=tok-9f8e7d]
    entrypoint: [sh, -c, run with-a-word]
    environment: {PASSWORD: GIVEN, DATABASE: "postgres://ann:dB-pa55@db/shop"}
    labels: {auth: "ann:hash-of-it"}
    healthcheck: {test: [CMD, check, --key=health-key]}
    logging: {driver: fluentd, options: {shared-key: flu-3nt}}
    deploy: {labels: {middleware: basic-auth-pw}}
    secrets: [key]
    volumes: ["share:/share"]
volumes:
  share: {driver_opts: {type: cifs, o: "password=cifs-pw", device: //host/share}}
secrets: {key: {file: key.txt}}
"""
SECRET = (
    "older-word", "correct-horse", "tok-9f8e7d", "with-a-word", "dB-pa55", "hash-of-it", "health-key", "flu-3nt",
    "basic-auth-pw", "cifs-pw", "battery-staple", "said at the end",
)  # fmt: skip


def contents(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.removeprefix("stackyard-support/")] = file.read()
        return found


def of(files: dict[str, bytes], name: str) -> Any:
    return msgspec.json.decode(files[name])


@pytest.mark.etcd
async def test_what_helps_is_in_it_and_nothing_secret(person: Terminal, manager: RunningManager) -> None:
    person.write("key.txt", "battery-staple")
    user = await manager.local().ask("POST", "/users", {"name": "eve", "role": "viewer"})
    tokens = await manager.local().get("/join-tokens")
    async with obedient(manager, "n1", lambda task: TaskState.FAILED) as agent:
        agent.complaint = f"cannot run: {' and '.join(SECRET[:-2])} are of no use"
        agent.last_words = ("first line", "said at the end")
        for word in SECRET[:2]:
            person.write("compose.yml", APP.replace("GIVEN", word))
            assert (await person.stack("deploy", "--detach")).code == 0
        await until(lambda: has_failed(manager, version=2))
        said = await person.stack("support-bundle", "b.tar.gz")
    assert said.code == 0, said
    assert (person.folder / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    files = contents(person.folder / "b.tar.gz")
    everything = b"\n".join(files.values()).decode()
    for word in SECRET:
        assert word not in everything, word
    for token in (user.body["token"], *tokens.values()):
        assert token not in everything
    assert "PRIVATE KEY" not in everything
    for key in manager.directory.rglob("*key*"):
        if key.is_file():
            assert key.read_bytes().strip() not in everything.encode(), key

    assert all(name in said.out for name in files)
    assert {
        "version.json", "cluster.json", "nodes.json", "stacks.json", "services.json", "tasks.json", "networks.json",
        "volumes.json", "events.json", "doctor.json", "convergence.json", "metrics.txt", "specs/app.json",
        "revisions/app.json", "explain/app_web.json", "notes.txt",
    } == files.keys()  # fmt: skip
    container = of(files, "specs/app.json")["spec"]["services"]["web"]["container"]
    assert container["environment"] == {"PASSWORD": redact.MASK, "DATABASE": redact.MASK}
    assert container["image"] == "box:1" and container["command"] == [redact.MASK] * 2
    failed = [task for task in of(files, "tasks.json") if task["state"] == "failed"]
    assert failed and all(task["message"].startswith("cannot run: ***") for task in failed)
    assert all(task["log"] == ["(2 lines left out)"] for task in failed)
    assert any("cannot run: ***" in event["message"] for event in of(files, "events.json"))
    assert of(files, "explain/app_web.json")["wanted"] == 1
    assert b"Nothing is missing." in files["notes.txt"] and b"stackyard_" in files["metrics.txt"]


def has_failed(manager: RunningManager, version: int) -> bool:
    state = manager.core.state
    return any(task.version == version and state.state_of(task) is TaskState.FAILED for task in state.tasks.values())


@pytest.mark.etcd
async def test_what_a_person_may_not_have_is_missing(person: Terminal, manager: RunningManager) -> None:
    reply = await manager.local().ask("POST", "/users", {"name": "eve", "role": "viewer"})
    person.write("eve.token", reply.body["token"])
    address = manager.base.removeprefix("https://")
    added = await person.stack("context", "add", "seen", "--manager", address, "--token-file", "eve.token")
    assert added.code == 0, added
    said = await person.stack("support-bundle", "b.tar.gz")
    assert said.code == 0 and "not in it: doctor.json: " in said.err, said
    files = contents(person.folder / "b.tar.gz")
    assert "doctor.json" not in files and "nodes.json" in files
    assert b"- doctor.json: " in files["notes.txt"] and b"needs the role operator" in files["notes.txt"]


async def test_without_a_manager_it_says_so(person: Terminal) -> None:
    said = await person.stack("support-bundle", "b.tar.gz", STACK_HOST="/nowhere/manager.sock")
    assert said.code == 3 and "no manager answers" in said.err
    files = contents(person.folder / "b.tar.gz")
    assert files.keys() == {"version.json", "notes.txt"}
    assert of(files, "version.json")["parts"][0]["kind"] == "command"
    said = await person.stack("support-bundle", "b.tar.gz", STACK_HOST="/nowhere/manager.sock")
    assert said.code == 2 and "b.tar.gz is there already" in said.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the word hunter2 is wrong", "the word *** is wrong"),
        ("the word hunter22 is wrong", "the word hunter22 is wrong"),
        ('exec: "--pw=hunter2": not found', 'exec: "--pw=***": not found'),
        ("hunter2", "hunter2"),
        ("https://ann:pw@host/x", "https://***@host/x"),
        (f"exited with code 3, {IT_SAID}whatever it was", f"exited with code 3, {IT_SAID}***"),
    ],
)
def test_sentences(text: str, shown: str) -> None:
    assert redact.Redactor(["hunter2", "is"]).text(text) == shown


def test_no_sentence_stays_where_the_secrets_are_not_known() -> None:
    redactor = redact.Redactor(None)
    assert redactor.told({"name": "app_web", "message": "it is x"}) == {"name": "app_web", "message": redact.MASK}


@pytest.mark.parametrize("name", ["labels", "test", "log", "options"])
def test_things_may_be_called_like_fields(name: str) -> None:
    told = {"services": {name: {"image": "box", "replicas": 2, "environment": {"A": "hunter2"}}}}
    shown = {"services": {name: {"image": "box", "replicas": 2, "environment": {"A": redact.MASK}}}}
    assert redact.spec(told) == shown and set(redact.values(told)) == {"hunter2"}
    assert redact.Redactor([]).told({"behind": {name: 1.5}}) == {"behind": {name: 1.5}}
