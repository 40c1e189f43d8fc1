"""Groups of commands, as `stack node`, whose help has a whole sentence on each."""

from __future__ import annotations

import inspect
import re

import click


class Group(click.Group):
    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        commands = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _sentence(command.help or "")) for name, command in commands if command])


def _sentence(text: str) -> str:
    paragraph = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]
