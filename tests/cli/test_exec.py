"""What `stack exec`, `attach` and `port-forward` take from whoever types them, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands.attach import Left, _keys, _Watch, attach
from cli.commands.exec import variables
from cli.commands.port_forward import _parse
from cluster.errors import UserError


def test_variables_are_taken_as_docker_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "x=y")
    monkeypatch.delenv("NOWHERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# a remark\n\n  A=1\nHERE\nNOWHERE\nB= two words \n")
    assert variables(("A=2", "HERE", "NOWHERE", "C="), (str(file),)) == (
        "A=1", "HERE=x=y", "B= two words ", "A=2", "HERE=x=y", "C=",
    )  # fmt: skip


@pytest.mark.parametrize("line", ["A B=1", "=1"])
def test_a_file_of_variables_that_is_wrong_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(UserError, match=f"{file}:2: "):
        variables((), (str(file),))
    with pytest.raises(UserError, match="none: No such file"):
        variables((), (str(tmp_path / "none"),))


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-@", b"\0"), ("q", b"q"), ("ctrl-X,x,ctrl-[", b"\x18x\x1b")],
)
def test_keys_are_read_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert _keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-p,", "alt-x", "ctrl-1", "ctrl-ab", "ü"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no key"):
        _keys(text)


def test_what_may_begin_the_keys_that_leave_is_held_back_until_it_does_not() -> None:
    watch = _Watch(b"xxy")
    assert watch.read(b"xxy") == b"xxy", "it is no terminal yet"
    watch.on = True
    assert [watch.read(bytes((key,))) for key in b"axbxx"] == [b"a", b"", b"xb", b"", b""]
    assert watch.read(b"x") == b"x", "two of three may still be the beginning"
    with pytest.raises(Left):
        watch.read(b"y")


@pytest.mark.parametrize(("word", "passed"), [("--sig-proxy=false", False), ("--sig-proxy=true", True)])
def test_signals_are_said_to_be_passed_on_in_dockers_words(word: str, passed: bool) -> None:
    context = attach.make_context("attach", [word, "web.1"])
    assert context.params["sig_proxy"] is passed


def test_ports_are_read_and_udp_is_refused_as_such() -> None:
    assert [_parse(text) for text in ("80", "8080:80/tcp", ":80", "[::1]:1:2")] == [
        ("127.0.0.1", 80, 80), ("127.0.0.1", 8080, 80), ("127.0.0.1", 0, 80), ("::1", 1, 2),
    ]  # fmt: skip
    with pytest.raises(UserError, match="UDP is not forwarded"):
        _parse("53:53/udp")
