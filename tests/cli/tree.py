"""The tree of commands: all that there are, and whether one takes a line."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.main import stack


def leaves(
    command: click.Command = stack, context: click.Context | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """Each command that is no group, with its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = context or click.Context(command, info_name="stack")
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        assert one is not None
        yield from leaves(one, click.Context(one, context, name), (*path, name))


def parse(words: list[str]) -> click.Command:
    """Take a command line as the program does, up to the point where it would do something."""
    command: click.Command = stack
    context = click.Context(command, info_name=words.pop(0))
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(command.name, words, parent=context.parent)
    return command
