"""`stack user`, `stack audit`, and contexts with tokens: an admin and somebody else, each at a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.people import parse_user_token
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd


@pytest.fixture
def tina(tmp_path: Path) -> Terminal:
    folder = tmp_path / "tina"
    folder.mkdir()
    return Terminal(folder)


async def given(person: Terminal, tmp_path: Path, *options: str) -> Path:
    """A file with the token of a new user tina."""
    made = await person.stack("user", "create", "tina", "--role", "deployer", "--stack", "shop", *options)
    assert made.code == 0, made
    assert str(parse_user_token(made.out)) == made.out.strip(), "nothing else, so that it can go to a file"
    assert "stack context add" in made.err
    file = tmp_path / "tina.token"
    file.write_text(made.out)
    return file


async def test_from_an_admin_to_a_deployer_and_back(
    person: Terminal, tina: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    file = await given(person, tmp_path, "--expires", "30d")
    where = manager.base.removeprefix("https://")
    added = await tina.stack("context", "add", "prod", "--manager", where, "--token-file", str(file))
    assert (added.code, added.out) == (0, "prod is added: you are tina, deployer of shop\n"), added
    folder = tina.contexts.parent / "prod"
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"ca.pem": 0o600, "token": 0o600}
    assert json.loads(tina.contexts.read_text())["contexts"]["prod"]["endpoints"] == [manager.base]
    assert (await tina.stack("user", "whoami")).out.startswith("tina, deployer of shop, until 20")
    assert (await tina.stack("ls")).code == 0
    refused = await tina.stack("user", "ls")
    assert refused.code == 2 and "needs the role admin; tina is a deployer" in refused.err

    listed = await person.stack("user", "ls", "--format", "json")
    assert [(one["name"], one["role"]) for one in listed.json if one["name"] == "tina"] == [("tina", "deployer")]
    changed = await person.stack("user", "update", "tina", "--stack", "shop", "--stack", "team-*", "--privileged")
    assert changed.out == "tina is now privileged deployer of shop, team-*\n"
    shown = await person.stack("user", "inspect", "tina")
    assert "privileged deployer" in shown.out and "token" in shown.out
    more = await person.stack("user", "token", "tina")
    assert parse_user_token(more.out).credential in (await person.stack("user", "inspect", "tina")).out
    revoked = await person.stack("user", "revoke", "tina", parse_user_token(file.read_text()).credential)
    assert revoked.out == "revoked; tina has 1 left\n"
    over = await tina.stack("ls")
    assert over.code == 2 and "not valid, or not any more" in over.err
    assert (await person.stack("user", "rm", "tina")).out == "removed tina\n"
    assert (await tina.stack("context", "rm", "prod")).out == "prod is forgotten\n"
    assert not folder.exists()

    told = await person.stack("audit", "--format", "json")
    assert [one["does"] for one in told.json if one["about"] == "tina" and one["status"] < 400] == [
        "user create", "user update", "user token", "user revoke", "user rm",
    ]  # fmt: skip
    table = await person.stack("audit", "--since", "1h")
    assert "privileged deployer of shop, team-*" in table.out and "user revoke tina" in table.out
    assert parse_user_token(file.read_text()).secret not in told.out


async def test_a_certificate_in_place_of_the_token(
    person: Terminal, tina: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    file = await given(person, tmp_path)
    more = ("--manager", manager.base, "--token-file", str(file), "--certificate")
    assert (await tina.stack("context", "add", "prod", *more)).code == 0
    held = sorted(path.name for path in (tina.contexts.parent / "prod").iterdir())
    assert held == ["ca.pem", "cert.pem", "key.pem"]
    assert (await tina.stack("user", "whoami")).out.startswith("tina, deployer of shop, until 20")
    assert (await person.stack("user", "revoke", "tina")).out == "revoked; tina has 0 left\n"
    assert "was revoked" in (await tina.stack("ls")).err


async def test_tokens_that_are_for_nobody_here(
    person: Terminal, tina: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    """The token of another cluster is not even sent to this one's manager; and nothing is left behind."""
    file = await given(person, tmp_path)
    token = parse_user_token(file.read_text())
    wrong = {
        "rubbish": ("x", "that is no user's token"),
        "another cluster's": (str(token).replace(token.ca_digest, "0" * 64), "not the one that the token names"),
        "a wrong secret": (str(token)[:-32] + "0" * 32, "not valid"),
    }
    for what, (text, said) in wrong.items():
        file.write_text(text)
        added = await tina.stack("context", "add", "prod", "--manager", manager.base, "--token-file", str(file))
        assert added.code == 2 and said in added.err, (what, added)
    assert not tina.contexts.exists()
    assert [path.name for path in tina.contexts.parent.glob("*")] == []


@pytest.mark.parametrize("manager_", ["", "http://192.0.2.1", "192.0.2.1:0x", "https://h/path", "h:99999"])
async def test_addresses_that_are_none(tina: Terminal, tmp_path: Path, manager_: str) -> None:
    file = tmp_path / "token"
    file.write_text("x")
    said = await tina.stack("context", "add", "prod", "--manager", manager_, "--token-file", str(file))
    assert said.code == 2 and "is no manager's address" in said.err
