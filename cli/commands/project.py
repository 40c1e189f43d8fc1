"""The Compose files that a command works on: the options that name them, and where Docker would look for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from cli.commands import completion
from cluster.errors import Failed, UserError

if TYPE_CHECKING:
    from cluster.compose import Project

STDIN = "-"
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip

_Command = TypeVar("_Command", bound=Callable[..., object])


def project_options(command: _Command) -> _Command:
    """Add the options of `load` to a command."""
    for option in (
        click.option(
            "--env-file", "env_files", multiple=True, metavar="FILE", shell_complete=completion.files,
            help="Variables for the Compose files, instead of .env.",
        ),
        click.option(
            "--profile", "profiles", multiple=True, metavar="PROFILE", help="Services of this profile too; * for all."
        ),
        click.option("-p", "--project-name", "project_name", metavar="NAME", help="The name of the stack."),
        click.option(
            "-f", "-c", "--file", "--compose-file", "files", multiple=True, metavar="FILE",
            shell_complete=completion.files,
            help="A Compose file, - for standard input; a later one is laid over those before it.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def load(files: tuple[str, ...], name: str | None, profiles: tuple[str, ...], env_files: tuple[str, ...]) -> Project:
    """Read the files, or those that are found where Docker looks for them. Raises ComposeError and UserError."""
    from cluster import compose

    paths = files or _found()
    directory = Path.cwd() if paths[0] == STDIN else Path(paths[0]).absolute().parent
    return compose.read(
        paths,
        os.environ,
        _Reader(),
        name=name or None,
        directory=str(directory),
        profiles=profiles,
        env_files=env_files or None,
    )


def _found() -> tuple[str, ...]:
    """Look as Docker does: COMPOSE_FILE, then the usual names here and in the folders above, with their overrides."""
    if told := os.environ.get("COMPOSE_FILE") or _from_dotenv("COMPOSE_FILE"):
        return tuple(told.split(os.environ.get("COMPOSE_PATH_SEPARATOR") or os.pathsep))
    for folder in (Path.cwd(), *Path.cwd().parents):
        if first := next(_existing(folder, NAMES), None):
            return first, *list(_existing(folder, OVERRIDES))[:1]
    raise UserError(
        "no Compose file is given, and there is none in this folder or above it", hint="Name one with -f FILE."
    )


def _existing(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    return (str(folder / name) for name in names if (folder / name).is_file())


def _from_dotenv(variable: str) -> str | None:
    from cluster.compose import dotenv

    try:
        content = Path(".env").read_bytes()
    except OSError:
        return None
    return dotenv.parse(content, ".env", os.environ.get).get(variable)


class _Reader:
    """Reads files, and standard input once."""

    def __init__(self) -> None:
        self._stdin: bytes | None = None

    def __call__(self, path: str) -> bytes:
        if path != STDIN:
            return Path(path).read_bytes()
        if self._stdin is None:
            if sys.stdin.closed or sys.stdin.isatty():
                raise Failed("a Compose file was to come on standard input, which is a terminal", hint="Use -f FILE.")
            self._stdin = sys.stdin.buffer.read()
        return self._stdin
