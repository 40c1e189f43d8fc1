"""`stack secret` and `stack configs`: of stacks, and made apart from them for files that say `external`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.commands import completion, names
from cli.commands.names import suggesting
from cli.commands.session import connect
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import Form, age, format_option, joined
from cluster.errors import Failed, UserError
from cluster.model.secret import FileKind


def _group(kind: FileKind, command: str, about: str) -> click.Group:
    known = completion.secrets if kind == "secret" else completion.configs

    @click.group(cls=Group, help=about)
    def group() -> None: ...

    def told(what: str, example: str) -> str:
        return f"{what}\n\n\b\nstack {command} {example}"

    @group.command(
        help=told(
            f"Make a {kind} of what is in FILE (- is standard input). A {kind} is never changed.",
            f"create key key.txt\nopenssl rand -hex 32 | stack {command} create key -",
        )
    )
    @click.argument("name")
    @click.argument("file", metavar="FILE|-", shell_complete=completion.files)
    @click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label.")
    @click.option(
        "--stack", "stacks", multiple=True, metavar="PATTERN", help="Let deployers use it in such stacks ('team-*')."
    )
    def create(name: str, file: str, labels: tuple[str, ...], stacks: tuple[str, ...]) -> None:
        data = _content(file)
        with connect() as client:
            made = client.create_external(kind, name, data, dict(_label(text) for text in labels), stacks)
        click.echo(f"{made.name} is made, of {made.size} bytes")

    @group.command(help=told(f"List the {kind}s: those in stacks' files, and those made apart from stacks.", "ls"))
    @list_options
    def ls(listing: Listing) -> None:
        with connect() as client:
            found = client.externals(kind)
        show(found, _COLUMNS, listing, spare=("CREATED", "STACK"))

    @group.command(help=told(f"Tell all of a {kind} but its content, which nobody but a node is given.", "inspect key"))
    @click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=known)
    @format_option
    def inspect(wanted: tuple[str, ...], form: Form) -> None:
        with connect() as client:
            found = []
            for name in wanted:
                with suggesting(client, name, names.externals(kind)):
                    found.append(client.external(kind, name))
        labels = {"LABELS": lambda one: joined(f"{key}={value}" for key, value in one.labels.items())}
        more = {"DIGEST": lambda one: one.digest[:16], "BY": lambda one: one.author}
        stacks = {"FOR DEPLOYERS OF": lambda one: joined(one.stacks)}
        show(found, _COLUMNS | more | labels | stacks, Listing(form))

    @group.command(help=told(f"Remove {kind}s that were made apart from stacks and are used by none.", "rm key"))
    @click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=known)
    def rm(wanted: tuple[str, ...]) -> None:
        with connect() as client:
            for name in wanted:
                with suggesting(client, name, names.externals(kind)):
                    client.remove_external(kind, name)
                click.echo(f"removed {name}")

    return group


_COLUMNS = {
    "NAME": lambda one: one.name,
    "SIZE": lambda one: str(one.size),
    "STACK": lambda one: one.stack or "-",
    "CREATED": lambda one: age(one.created_at) + " ago",
    "USED BY": lambda one: joined(one.used_by),
}

secrets = _group(
    "secret",
    "secret",
    "Secrets: of stacks, which come with their files, and made apart from them for files that say `external`.",
)
configs = _group(
    "config",
    "configs",
    "Configs: of stacks, which come with their files, and made apart from them for files that say `external`."
    " (`stack config` by itself shows what Compose files come to.)",
)


@secrets.command("rotate-key")
def rotate_key() -> None:
    """Seal all secrets and configs with a new key, when somebody may have got hold of the old one.

    Tasks notice nothing. All managers have to run, and are given the key before it is used. Backups made before have
    the older key in them, so secrets that may be known are to be changed themselves.

    \b
    stack secret rotate-key
    """
    with connect() as client:
        done = client.rotate_secrets_key()
    click.echo(f"sealed {done.sealed_again} contents with the new key {done.key}")


def _content(file: str) -> bytes:
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin.closed or sys.stdin.isatty():
        raise Failed("the content was to come on standard input, which is a terminal", hint="Name a file.")
    return sys.stdin.buffer.read()


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise UserError(f"{text!r} is no label", hint="Write KEY=VALUE.")
    return key, value
