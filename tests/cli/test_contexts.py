"""Contexts: what is wrong with their file, which of them is talked to, and managers that the environment names."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cli.client import contexts
from cluster.errors import NotFound, UserError
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager

TWO = '{"current": "a",\n"contexts": {"b": {"socket": "/b"},\n"a": %s}}'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STACK_HOST", "STACK_CONTEXT", "STACK_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "stackyard").mkdir()
    return contexts.path()


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "truncated"),
        ('{"current": "a",\n"contexts": {,}}', 2, "malformed"),
        ("[]", 1, "Expected `object`, got `array`"),
        ('{"curent": "a"}', 1, "unknown field `curent`"),
        ('{"contexts": {},\n"current": 1}', 2, "Expected `str`, got `int`"),
        ('{"current": "a",\n"contexts": []}', 2, "Expected `object`, got `array`"),
        (TWO % '{\n"endpoint": "x"}', 4, "context a: Object contains unknown field `endpoint`"),
        (TWO % '{\n\n"endpoints": "x"}', 5, "context a: Expected `array`, got `str`"),
        (TWO % "7", 3, "context a: Expected `object`, got `int`"),
        (TWO % "{}", 3, "context a: it is to have one of"),
        (TWO % '{"socket": "/a",\n"ssh": "ssh://a"}', 3, "context a: it is to have one of"),
        (TWO % '{\n"ssh": "a"}', 4, "context a: `ssh`: 'a' does not begin with ssh://"),
        (TWO % '{"ca": "/ca",\n"endpoints": ["m1:2377"]}', 4, "'m1:2377' is not of the form https://HOST:PORT"),
        (TWO % '{"endpoints": ["https://m1:2377"]}', 3, "`ca` is missing"),
        (TWO % '{"endpoints": ["https://m1:2377"], "ca": "/ca"}', 3, "it is to have `token`, or `cert` and `key`"),
        (TWO % '{"endpoints": ["https://m1:2377"], "ca": "/ca", "cert": "/c"}', 3, "`cert` and `key` go together"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(file: Path, text: str, line: int, told: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError) as error:
        contexts.chosen()
    assert error.value.message.startswith(f"{file}:{line}: ")
    assert told in error.value.message


def test_a_fault_of_another_context_does_no_harm(file: Path) -> None:
    file.write_text(TWO % "{}")
    assert contexts.chosen("b").socket == "/b"


def test_which_context_is_talked_to(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(TWO % '{"socket": "/a"}')
    assert contexts.chosen().socket == "/a"
    monkeypatch.setenv("STACK_CONTEXT", "b")
    assert contexts.chosen().socket == "/b"
    monkeypatch.setenv("STACK_HOST", "unix:///h")
    assert contexts.chosen().socket == "/h"
    assert contexts.chosen("a").socket == "/a"
    with pytest.raises(NotFound, match="there is no context c"):
        contexts.chosen("c")


@pytest.mark.parametrize("host", ["m1", "unix://", "http://m1:2377", "ftp://m1", "https://m1/path"])
def test_what_is_no_host_is_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    (tmp_path / "token").touch()
    monkeypatch.setenv("STACK_CERT_PATH", str(tmp_path))
    monkeypatch.setenv("STACK_HOST", host)
    with pytest.raises(UserError):
        contexts.chosen()


@pytest.mark.etcd
async def test_a_manager_is_named_by_the_environment_alone(
    person: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    url = manager.base
    said = await person.stack("ls", STACK_HOST=url)
    assert said.code == 2 and "STACK_CERT_PATH is to be a folder with ca.pem" in said.err
    empty = tmp_path / "empty"
    empty.mkdir()
    said = await person.stack("ls", STACK_HOST=url, STACK_CERT_PATH=str(empty))
    assert said.code == 2 and "neither a token nor cert.pem and key.pem" in said.err
    token = (await manager.local().ask("POST", "/users", {"name": "ci", "role": "viewer", "stacks": ["*"]})).body[
        "token"
    ]
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "ca.pem").write_text(manager.ca)
    (folder / "token").write_text(token)
    for host in (url, url.replace("https", "tcp"), f"https://127.0.0.1:1,{url}", url.removesuffix(":2377")):
        said = await person.stack("node", "ls", STACK_HOST=host, STACK_CERT_PATH=str(folder))
        assert (said.code, said.err) == (0, "")


async def test_the_context_in_force_is_shown(person: Terminal) -> None:
    for name in ("one", "two"):
        assert (await person.stack("context", "add", name, f"unix:///{name}")).code == 0
    assert (await person.stack("context", "show")).out == "two\n"
    assert (await person.stack("context", "show", STACK_CONTEXT="one")).out == "one\n"
    assert (await person.stack("context", "show", STACK_HOST="unix:///x")).out == "unix:///x\n"
    [shown] = msgspec.json.decode((await person.stack("context", "inspect")).out)
    assert (shown["name"], shown["current"], shown["where"]) == ("two", True, "/two")
    assert (await person.stack("context", "inspect", "three")).code == 2
    said = await person.stack("context", "use", "one", STACK_HOST="unix:///x")
    assert (said.code, "STACK_HOST is set here" in said.err) == (0, True)
    assert (await person.stack("context", "ls", "-q")).out == "one\ntwo\n"
    assert "STACK_HOST is set" in (await person.stack("context", "ls", STACK_HOST="unix:///x")).err
    said = await person.stack("context", "rm", "one")
    assert (said.code, "no context is the current one now: `stack context use` one of two" in said.err) == (0, True)
    said = await person.stack("ls")
    assert said.code == 2 and "no context is the current one" in said.err


def test_a_context_forgets_the_address_of_a_manager_that_was_taken_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = ["https://192.0.2.1:2377", "https://[2001:db8::1]:2377"]
    file.write_text(TWO % msgspec.json.encode({"endpoints": urls, "ca": "/ca", "token": "/token"}).decode())
    assert contexts.forget_manager(None, "192.0.2.9") == []
    assert contexts.forget_manager("b", "192.0.2.1") == []
    with monkeypatch.context() as patched:
        patched.setenv("STACK_HOST", "unix:///h")
        assert contexts.forget_manager(None, "192.0.2.1") == [], "the context was not the one that was asked"
    assert contexts.forget_manager(None, "2001:db8::1") == urls[1:]
    assert contexts.chosen().endpoints == ("https://192.0.2.1:2377",)
    assert contexts.forget_manager(None, "192.0.2.1") == [], "there is no other"
    assert contexts.chosen("b").socket == "/b"
