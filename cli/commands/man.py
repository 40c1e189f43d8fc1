"""`stack man`: the manual page, made of the help of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from inspect import cleandoc

import click

_EXIT_CODES = {
    "0": "Done; `stack plan`: nothing would change.",
    "1": "Tried and failed; `stack plan`: the deploy would be refused.",
    "2": "The request is wrong; `stack plan`: something would change.",
    "3": "Something is out of reach.",
    "other": "`stack exec` and `stack run` end with the code of the command; 130 is after Ctrl-C.",
}
_ENVIRONMENT = {
    "STACK_HOST": "The manager to talk to, in place of a context: unix:///PATH, ssh://USER@HOST, or "
    "https://HOST:PORT with STACK_CERT_PATH.",
    "STACK_CERT_PATH": "A folder with ca.pem, and token or cert.pem and key.pem, for STACK_HOST.",
    "STACK_CONTEXT": "The context to talk to, in place of the current one.",
    "XDG_CONFIG_HOME": "Where the file of contexts is, if not in ~/.config.",
    "COMPOSE_FILE": "The Compose files, separated by colons or COMPOSE_PATH_SEPARATOR, where no -f is given.",
    "NO_COLOR": "If it is set, there are no colours.",
    "STACK_DEBUG": "If it is set, a fault of this command is shown with where in its code it is.",
}
_FILES = {
    "$XDG_CONFIG_HOME/stackyard/contexts.json": "The clusters that this command can talk to; `stack context --help` "
    "tells its form.",
    "/run/stackyard/manager.sock": "The socket of the manager on this host, which root talks to without a context.",
}


@click.command()
def man() -> None:
    """Print the manual page of this program, in the form that man(1) reads.

    \b
    stack man | man -l -
    stack man > /usr/local/share/man/man1/stack.1
    """
    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)
    click.echo("\n".join(page(root, root.command)))


def page(root: click.Context, group: click.Group) -> Iterator[str]:
    """Give the lines of the page: one section for the program, one for each command."""
    yield ".TH STACK 1"
    yield ".SH NAME"
    yield f"stack \\- {_escaped((group.help or '').splitlines()[0])}"
    yield ".SH SYNOPSIS"
    yield from _told(root, group)
    yield ".SH COMMANDS"
    for name in group.list_commands(root):
        if (command := group.get_command(root, name)) is not None:
            yield from _command(root, command, f"stack {name}")
    yield ".SH EXIT STATUS"
    yield from _table(_EXIT_CODES)
    yield ".SH ENVIRONMENT"
    yield from _table(_ENVIRONMENT)
    yield ".SH FILES"
    yield from _table(_FILES)


def _command(parent: click.Context, command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2])
    yield f".SS {_escaped(name)}"
    yield from _told(context, command)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            if (one := command.get_command(context, inner)) is not None:
                yield from _command(context, one, f"{name} {inner}")


def _table(entries: Mapping[str, str]) -> Iterator[str]:
    for name, told in entries.items():
        yield from (".TP", f".B {_escaped(name)}", _escaped(told))


def _told(context: click.Context, command: click.Command) -> Iterator[str]:
    words = [word for parameter in command.get_params(context) for word in parameter.get_usage_pieces(context)]
    yield f".B {_escaped(context.command_path)}"
    more = ["COMMAND", "[ARGS]..."] if isinstance(command, click.Group) else []
    yield _escaped(" ".join(["[OPTIONS]", *words, *more]))
    yield ".PP"
    for paragraph in re.split(r"\n\s*\n", cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            yield from (".PP", ".nf", *map(_escaped, paragraph.splitlines()[1:]), ".fi")
        else:
            yield from (".PP", _escaped(" ".join(paragraph.split())))
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None:
            yield from (".TP", f".B {_escaped(record[0])}", _escaped(record[1]))


def _escaped(text: str) -> str:
    """Have a line taken as it is: troff reads backslashes, hyphens, and dots and quotes at the beginning."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text
