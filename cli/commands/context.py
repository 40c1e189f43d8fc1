"""`stack context`: the clusters that this command can talk to."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import click

from cli.client import contexts
from cli.commands import completion
from cli.groups import Group
from cli.listing import Columns, Listing, list_options
from cli.listing import show as show_list
from cluster.alike import did_you_mean
from cluster.errors import UserError


@click.group(cls=Group)
def context() -> None:
    """The clusters that this command can talk to.

    STACK_CONTEXT or --context names another than the current one; STACK_HOST needs none: unix:///PATH, ssh://USER@HOST,
    or https://HOST:PORT with STACK_CERT_PATH, a folder with ca.pem and token, or cert.pem and key.pem. They are kept in
    $XDG_CONFIG_HOME/stackyard/contexts.json (~/.config without that), where you may edit them:

    \b
    {"current": "prod",
     "contexts": {
       "prod": {"endpoints": ["https://m1:2377"], "ca": PATH, "token": PATH},
       "mine": {"endpoints": [URL, ...], "ca": PATH, "cert": PATH, "key": PATH},
       "here": {"socket": "/run/stackyard/manager.sock"},
       "far":  {"ssh": "ssh://root@192.0.2.1"}}}
    """


@dataclass(frozen=True, slots=True)
class _Row:
    """A context as it is shown: `current` is the one that commands of here go to."""

    name: str
    current: bool
    where: str
    files: dict[str, str]


_COLUMNS: Columns = {
    "NAME": lambda row: row.name,
    "CURRENT": lambda row: "*" if row.current else "",
    "WHERE": lambda row: row.where,
}


@context.command()
@list_options
def ls(listing: Listing) -> None:
    """List the contexts.

    \b
    stack context ls
    stack context ls --format json
    """
    rows = _rows()
    show_list(rows, _COLUMNS, listing)
    if os.environ.get("STACK_HOST"):
        click.echo("STACK_HOST is set, and goes before all of these", err=True)
    elif (name := os.environ.get("STACK_CONTEXT")) and not any(row.current for row in rows):
        click.echo(f"STACK_CONTEXT is {name}, and there is no such context", err=True)


@context.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=completion.contexts)
def inspect(names: tuple[str, ...]) -> None:
    """Show contexts as they are kept, without what is in their files; the current one unless they are named.

    \b
    stack context inspect prod
    """
    import msgspec

    known = contexts.load()
    chosen = names or (_current(known),)
    for name in chosen:
        contexts.named(known, name)
    click.echo(msgspec.json.format(msgspec.json.encode([row for row in _rows() if row.name in chosen]), indent=2))


@context.command()
def show() -> None:
    """Print the name of the context that commands go to, or what STACK_HOST is.

    \b
    stack context show
    """
    click.echo(os.environ.get("STACK_HOST") or _current(contexts.load()))


@context.command()
@click.argument("name", shell_complete=completion.contexts)
def use(name: str) -> None:
    """Talk to this cluster from now on.

    \b
    stack context use prod
    """
    contexts.use(name)
    click.echo(f"now talking to {name}")
    if before := next((one for one in ("STACK_HOST", "STACK_CONTEXT") if os.environ.get(one)), None):
        click.echo(f"{before} is set here and goes before it: commands go to {os.environ[before]}", err=True)


def _rows() -> list[_Row]:
    known = contexts.load()
    current = contexts.meant(known)
    return [
        _Row(
            name,
            name == current,
            one.where,
            {kind: file for kind in contexts.CREDENTIALS if (file := getattr(one, kind))},
        )
        for name, one in sorted(known.contexts.items())
    ]


def _current(known: contexts.Contexts) -> str:
    """Give the name of the context that commands go to. Raises UserError when there is none."""
    name = contexts.meant(known, click.get_current_context().find_root().obj)
    if not name:
        raise UserError("no context is the current one", hint="`stack context ls` lists them.")
    return name


@context.command()
@click.argument("name")
@click.argument("where", required=False, metavar="[ssh://USER@HOST|unix:///PATH]")
@click.option("--manager", "manager", metavar="HOST[:PORT]", help="Any manager of the cluster, with a token.")
@click.option("--token-file", metavar="FILE|-", help="Where the token is (- is standard input); else it is asked for.")
@click.option(
    "--certificate", is_flag=True, help="Get a client certificate for the token, for 90 days; do not keep the token."
)
@click.option("--use/--no-use", "chosen", default=True, help="Talk to this cluster from now on (so it is).")
def add(
    name: str, where: str | None, manager: str | None, token_file: str | None, certificate: bool, chosen: bool
) -> None:
    """Add a cluster, with the token that an admin gave you (`stack user create` makes one), or by ssh to a manager.

    The token names the cluster's CA by its digest: nobody else's manager is taken for it, nor given the token. By ssh
    one is who may log in to that host as root, with the system's ssh and its settings.

    \b
    stack context add prod --manager 192.0.2.1 --token-file ann.token
    stack context add prod --manager manager.example.org:2377 --certificate
    stack context add prod ssh://root@manager.example.org
    """
    if (where is None) == (manager is None):
        raise UserError("a cluster is reached one way", hint="Give either --manager HOST or ssh://USER@HOST.")
    if where is not None and where.startswith(("https://", "tcp://")):
        raise UserError(f"{where} needs a token", hint=f"Give --manager {where}, and the token is asked for.")
    if manager is None:
        contexts.add(name, contexts.by_host(where or ""), use=chosen)
        click.echo(f"{name} is added")
        return
    from cli.client import enrol

    me = enrol.enrol(name, enrol.url(manager), _token(token_file), certificate=certificate, use=chosen)
    stacks = f" of {', '.join(me.stacks)}" if me.stacks else ""
    click.echo(f"{name} is added: you are {me.name}, {me.role}{stacks}")


@context.command()
@click.argument("name", shell_complete=completion.contexts)
def rm(name: str) -> None:
    """Forget a cluster, with the token or certificate for it. What was given to you stays good until it is revoked.

    \b
    stack context rm prod
    """
    from cli.client import enrol

    known = contexts.load().contexts
    if name not in known:
        raise UserError(f"there is no context {name}", hint=did_you_mean(name, known, "`stack context ls` lists them."))
    was_current = contexts.load().current == name
    enrol.forget(name)
    click.echo(f"{name} is forgotten")
    if was_current and (left := contexts.load().contexts):
        click.echo(f"no context is the current one now: `stack context use` one of {', '.join(sorted(left))}", err=True)


def _token(file: str | None) -> str:
    if file is None and sys.stdin.isatty():
        text: str = click.prompt("Token", hide_input=True)
        return text
    if file in (None, "-"):
        return sys.stdin.read()
    with open(file) as source:
        return source.read()
