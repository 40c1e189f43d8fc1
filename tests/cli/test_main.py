"""What the command says when nothing runs: help, wrong words, wrong files, nobody there. Never a traceback."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest

from cli.client.contexts import DEFAULT_SOCKET
from cli.main import COMMANDS
from tests.cli.terminal import Terminal
from tests.cli.tree import everything, leaves, parse

HELLO = "services:\n  web:\n    image: busybox:1\n"


async def test_help_lists_the_commands_and_loads_none(person: Terminal) -> None:
    said = await person.stack("--help")
    assert said.code == 0
    assert all(f"\n  {name} " in said.out for name in COMMANDS)
    code = (
        "import sys; sys.argv = ['stack', '--help']\n"
        "from cli.main import run\n"
        "run(); print([m for m in ('rich', 'yaml', 'ssl', 'msgspec', 'http.client') if m in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=person.environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_each_command_has_help(person: Terminal, name: str) -> None:
    said = await person.stack(name, "--help")
    assert (said.code, said.err) == (0, "")
    assert COMMANDS[name][2].rstrip(".").split()[0] in said.out


async def test_letters_that_the_locale_has_not_are_told_by_their_numbers(person: Terminal) -> None:
    person.write("compose.yml", "services: {web: {image: x, labels: {what: 日本}}}")
    said = await person.stack("config", "-f", "compose.yml", PYTHONIOENCODING="latin-1")
    assert (said.code, said.err) == (0, "") and r"what: \u65e5\u672c" in said.out


@pytest.mark.parametrize("name", ["", *sorted(everything())])
def test_help_fits_a_terminal_of_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    context = everything()[name]
    wide = [line for line in context.command.get_help(context).splitlines() if len(line) > 80]
    assert not wide and "..." not in context.command.get_help(context).partition("Commands:")[2]


EXAMPLE = re.compile(r"(?m)(?:^ *(?:ssh \S+ )?|[|:$(] *)(stack (?:(?! [|>] |\)).)+)")
COMMANDS_HELP = {name: (command, command.help or "") for name, command in leaves()}


@pytest.mark.parametrize("name", sorted(COMMANDS_HELP))
def test_each_command_s_help_has_an_example_that_it_takes(name: str) -> None:
    command, told = COMMANDS_HELP[name]
    examples = EXAMPLE.findall("".join(told.split("\b")[1:]))
    lines = [re.split(r"  +|$", example)[0].rstrip(' "') for example in examples]
    assert command in [parse(shlex.split(line)) for line in lines]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("depoly",), "error: no such command 'depoly'\nDid you mean deploy?\n"),
        (("down", "shop"), "error: no such command 'down'\nDid you mean rm?\n"),
        (("xyzzy",), "error: no such command 'xyzzy'\n`stack --help` tells more.\n"),
        (("ls", "--format", "xml"), "'xml' is neither table"),
        (("rm",), "error: missing argument 'STACK...'\nUsage: stack rm [OPTIONS] STACK...\n"),
        (("node", "lss"), "error: no such command 'lss'\nDid you mean ls?\n"),
        (("ps", "--nod", "n1"), "error: no such option '--nod'\nDid you mean --node?\n"),
        (("ls", "shop"), "error: got unexpected extra argument (shop)\n`stack ls --help` tells more.\n"),
        (("service", "rm", "web"), "Take the service out of the stack's file"),
        (("scale", "web"), "web does not say how many"),
        (("scale", "web=-1"), "web=-1 does not say how many"),
        (("node", "update", "n1", "--label-add", "x"), "'x' is no label"),
        (("logs", "web", "--since", "yesterday"), "'yesterday' is no instant"),
        (("context", "use", "moon"), "there is no context moon\nThere are: c.\n"),
        (("context", "use", "cc"), "there is no context cc\nDid you mean c?\n"),
        (("--context", "moon", "ls"), "there is no context moon"),
        (("deploy",), "no Compose file is given, and there is none in this folder"),
        (("deploy", "-f", "no.yml"), "no.yml: there is no such file"),
        (("deploy", "-f", "."), "the file cannot be read: Is a directory"),
    ],
)
async def test_wrong_words_are_said_to_be_so(person: Terminal, arguments: tuple[str, ...], told: str) -> None:
    person.know("c", c={"socket": "/nonexistent/m.sock"})
    said = await person.stack(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: [1", "compose.yml:1: this is not YAML", id="not YAML"),
        pytest.param("services:\n  a: {imgae: x}", "compose.yml:2: services.a.imgae: the key is unknown", id="a typo"),
        pytest.param(
            "services:\n  a: {init: true}",
            "compose.yml:2: services.a: the service has no image and no build",
            id="no image",
        ),
        pytest.param(HELLO + "    command: ${CMD:?say what}", "compose.yml:4: services.web.command:", id="a variable"),
    ],
)
async def test_a_wrong_file_is_told_before_anybody_is_asked(person: Terminal, text: str, told: str) -> None:
    person.write("compose.yml", text)
    said = await person.stack("deploy")
    assert (said.code, said.out) == (2, "")
    assert told in said.err


async def test_what_a_typo_could_mean_is_the_hint(person: Terminal) -> None:
    person.write("compose.yml", "services:\n  a: {imgae: x}")
    assert (await person.stack("deploy")).err.splitlines()[-1] == "Did you mean image?"


async def test_without_a_cluster_it_says_how_to_get_one(person: Terminal) -> None:
    if DEFAULT_SOCKET.exists():
        pytest.skip("a manager runs on this host")
    said = await person.stack("ls")
    assert said.code == 2
    assert said.err.startswith("error: no cluster to talk to")
    assert "stack lab up" in said.err


async def test_a_broken_file_of_contexts_is_named(person: Terminal) -> None:
    person.know("c")
    person.contexts.write_text('{"current": 1}')
    said = await person.stack("ls")
    assert said.code == 2
    assert "contexts.json:1: Expected `str`, got `int`" in said.err


async def test_nobody_there_is_exit_code_3(person: Terminal) -> None:
    said = await person.stack("ls", STACK_HOST="/nonexistent/manager.sock")
    assert said.code == 3
    assert said.err.splitlines()[:1] == [
        "error: no manager answers (/nonexistent/manager.sock: No such file or directory)"
    ]


async def test_a_person_is_told_at_once_what_is_waited_for(person: Terminal) -> None:
    screen, terminal = os.openpty()
    try:
        process = await person.start("ls", environment={"STACK_HOST": "/nonexistent/manager.sock"}, stderr=terminal)
        told = (await asyncio.to_thread(os.read, screen, 65536)).decode()
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert (await person.end(process)).code == 130
    finally:
        os.close(screen)
        os.close(terminal)
    assert re.fullmatch(r"no manager answers \(.* No such file or directory\); asking again for [34] s\s+", told), told


async def test_certificates_that_are_not_there_are_named(person: Terminal) -> None:
    person.know("c", c={"endpoints": ["https://127.0.0.1:1"], "ca": "/no/ca", "cert": "/no/cert", "key": "/no/key"})
    said = await person.stack("ls")
    assert said.code == 2
    assert "They should be in /no/ca, /no/cert and /no/key." in said.err


async def test_something_else_that_answers_is_no_manager(person: Terminal, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "s.sock"):
        said = await person.stack("ls", STACK_HOST=str(tmp_path / "s.sock"))
    assert said.code == 3
    assert "Traceback" not in said.err


async def test_who_reads_our_output_may_leave(person: Terminal) -> None:
    reader, writer = socket.socketpair()
    with writer:
        reader.close()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from cli.main import main; main()",
            "--help",
            env=person.environment,
            stdout=writer.fileno(),
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    assert err == b""
    assert process.returncode != 0
