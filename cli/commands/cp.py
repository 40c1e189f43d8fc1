"""`stack cp`: files into and out of tasks' containers."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial

import click

from cli.client import copy
from cli.client.channel import open_channel
from cli.commands import completion
from cli.commands.session import transport
from cluster.errors import UserError


@click.command()
@click.option("--follow-link", "-L", "follow", is_flag=True, help="Copy what SRC leads to when it is a symbolic link.")
@click.option("--archive", "-a", "own", is_flag=True, help="Keep owners; else they are root there, and you here.")
@click.option("--quiet", "-q", is_flag=True, hidden=True, expose_value=False)  # docker has it; nothing is told anyway
@click.argument("source", metavar="SRC|TASK:SRC|-", shell_complete=completion.paths)
@click.argument("target", metavar="DEST|TASK:DEST|-", shell_complete=completion.paths)
def cp(follow: bool, own: bool, source: str, target: str) -> None:
    """Copy files or folders out of the container of a task, or into it; also of one that has ended.

    TASK is as with `stack exec`. Paths are meant as by docker cp: a folder that is there is copied into, SRC/. is what
    is in SRC. With - a tar archive is written to the output, or read from the input and unpacked into DEST.

    \b
    stack cp web.2:/etc/nginx/nginx.conf .
    stack cp ./site/. web.2:/usr/share/nginx/html
    stack cp db.1:/backup - | tar tv
    """
    (from_task, path), (to_task, place) = _split(source), _split(target)
    if bool(from_task) == bool(to_task):
        raise UserError("one of the two must be TASK:PATH, and only one", hint="Such as web.2:/etc/hosts.")
    with closing(transport()) as way:
        opening = partial(open_channel, way, from_task or to_task, "archive")
        if from_task and target == "-":
            copy.read_tar(opening, path, sys.stdout.fileno(), follow=follow)
        elif from_task:
            copy.copy_out(opening, path, target, follow=follow, own=own)
        elif source == "-":
            copy.write_tar(opening, place, sys.stdin.fileno())
        else:
            copy.copy_in(opening, source, place, follow=follow, own=own)


def _split(text: str) -> tuple[str, str]:
    """Give task and path; no task when it is a path of here, which may have a colon after a slash."""
    task, colon, path = text.partition(":")
    if not colon or not task or "/" in task or task.startswith("."):
        return "", text
    return task, path if path.startswith("/") else "/" + path
