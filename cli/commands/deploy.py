"""`stack deploy`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cli.commands.follow import follow
from cli.commands.session import connect
from cluster.errors import UserError


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _absolute(file: str) -> str:
    return file if file == "-" else os.path.abspath(file)


@click.command()
@click.option(
    "-f", "--file", "-c", "--compose-file", "files", multiple=True, metavar="FILE",
    help="A Compose file, - for standard input; later ones are laid over earlier ones (compose.yml).",
)  # fmt: skip
@click.argument("name", required=False)
@click.option("--detach", "-d", is_flag=True, help="Do not wait until everything runs.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait at most so long.")
def deploy(files: tuple[str, ...], name: str | None, detach: bool, timeout: float | None) -> None:
    """Run a Compose file as a stack, or bring a running one up to date, and wait until all of it runs.

    NAME is the stack's name; without it, the name in the file or that of its folder.

    \b
      stack deploy -f compose.yml shop
      stack deploy -f compose.yml -f production.yml --timeout 120
    """
    from cluster import compose

    if files.count("-") > 1:
        raise UserError("standard input can be read only once", hint="Give -f - once.")
    stdin = sys.stdin.buffer.read() if "-" in files else b""
    project = compose.read(
        [_absolute(file) for file in files or _default()],
        os.environ,
        lambda path: stdin if path == "-" else _read(path),
        name=name,
        directory=os.getcwd() if files[:1] == ("-",) else None,
    )
    for note in project.notes:
        click.echo(f"note: {note}", err=True)
    spec = project.stack()
    with connect() as client:
        reply = client.deploy(spec, reason="deploy")
        if detach:
            click.echo(
                f"deploying {spec.name} as revision {reply.revision}; `stack ps {spec.name}` shows how far it is"
            )
            return
        follow(client, spec.name, reply.revision, timeout=timeout)
    click.echo(f"{spec.name} runs as revision {reply.revision}" + ("" if reply.changed else ", as before"))


def _default() -> list[str]:
    for candidate in ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"):
        if Path(candidate).exists():
            return [candidate]
    raise UserError("no file was given, and there is no compose.yml here", hint="Name one with -f FILE.")
