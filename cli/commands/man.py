"""`stack man`: the manual page, made of the help of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click


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


def _command(parent: click.Context, command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2])
    yield f".SS {_escaped(name)}"
    yield from _told(context, command)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            if (one := command.get_command(context, inner)) is not None:
                yield from _command(context, one, f"{name} {inner}")


def _told(context: click.Context, command: click.Command) -> Iterator[str]:
    words = [word for parameter in command.get_params(context) for word in parameter.get_usage_pieces(context)]
    yield f".B {_escaped(context.command_path)}"
    more = ["COMMAND", "[ARGS]..."] if isinstance(command, click.Group) else []
    yield _escaped(" ".join(["[OPTIONS]", *words, *more]))
    yield ".PP"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_escaped, paragraph.splitlines()[1:]), ".fi")
        else:
            yield from (".PP", _escaped(" ".join(paragraph.split())))
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            yield from (".TP", f".B {_escaped(record[0])}", _escaped(record[1]))


def _escaped(text: str) -> str:
    """Have a line taken as it is: troff reads backslashes, hyphens, and dots and quotes at the beginning."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text
