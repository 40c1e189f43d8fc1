"""`stack deploy`: a Compose file becomes a running stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cli.commands.follow import follow, settle_option, timeout_option
from cli.commands.session import connect
from cluster.errors import Failed, UserError

STDIN = "-"
_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


@click.command()
@click.option(
    "-f", "-c", "--file", "--compose-file", "files", multiple=True, metavar="FILE",
    help="A Compose file, - for standard input; a later one is laid over those before it.",
)  # fmt: skip
@click.argument("name", required=False)
@click.option("--detach", "-d", is_flag=True, help="Do not wait until it runs.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history of the stack.")
@timeout_option
@settle_option
def deploy(files: tuple[str, ...], name: str | None, detach: bool, reason: str, timeout: float, settle: float) -> None:
    """Run a Compose file as a stack, or bring a running one up to date.

    NAME is the stack's; otherwise it is the name: in the file, or that of the file's folder. The command waits until
    all tasks of this version run, and ends with exit code 1 and the reason if they do not.
    """
    from cluster import compose

    paths = files or (_found(),)
    directory = Path.cwd() if paths[0] == STDIN else Path(paths[0]).absolute().parent
    project = compose.read(paths, os.environ, _Reader(), name=name, directory=str(directory))
    spec = project.stack()
    for note in project.notes:
        click.echo(f"note: {note}", err=True)
    with connect() as client:
        reply = client.deploy(spec, reason)
        if not reply.changed:
            click.echo(f"{reply.stack} is like that already (revision {reply.revision})", err=True)
        if detach:
            click.echo(f"deploying {reply.stack}, revision {reply.revision}")
            return
        follow(client, reply.stack, reply.revision, timeout=timeout, settle=settle)
    click.echo(f"{reply.stack} runs, revision {reply.revision}")


def _found() -> str:
    for name in _NAMES:
        if Path(name).is_file():
            return name
    raise UserError("no Compose file is given, and there is none in this folder", hint="Name one with -f FILE.")


class _Reader:
    """Reads files, and standard input once."""

    def __call__(self, path: str) -> bytes:
        if path != STDIN:
            return Path(path).read_bytes()
        if sys.stdin.closed or sys.stdin.isatty():
            raise Failed("a Compose file was to come on standard input, which is a terminal", hint="Use -f FILE.")
        return sys.stdin.buffer.read()
