"""The tree of commands: all that there are, and whether one takes a line."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.core import ParameterSource

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


def everything() -> dict[str, click.Context]:
    """Each command and group, by its words."""

    def below(context: click.Context, path: tuple[str, ...]) -> Iterator[tuple[str, click.Context]]:
        yield " ".join(path), context
        if isinstance(context.command, click.Group):
            for name in context.command.list_commands(context):
                one = context.command.get_command(context, name)
                assert one is not None
                yield from below(click.Context(one, context, name), (*path, name))

    return dict(below(click.Context(stack, info_name="stack"), ()))


def taken(words: list[str]) -> click.Context:
    """Take a command line as the program does, up to the point where it would do something."""
    command: click.Command = stack
    context = click.Context(command, info_name=words.pop(0))
    while isinstance(command, click.Group) and (words or command is stack):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command.make_context(context.info_name, words, parent=context.parent)


def parse(words: list[str]) -> click.Command:
    return taken(words).command


def shape(words: list[str]) -> tuple[str, frozenset[str]]:
    """Give the command of a line, by its words, and which of its arguments and options the line gives."""
    context = taken(words)
    given = (name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return context.command_path.removeprefix("stack "), frozenset(given)
