"""`stack context`: the clusters that this command can talk to."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from cli.client import contexts
from cli.commands import completion
from cli.listing import Columns, Listing, list_options, show
from cluster.alike import did_you_mean
from cluster.errors import UserError


@click.group()
def context() -> None:
    """The clusters that this command can talk to.

    STACK_CONTEXT or --context names another than the current one; STACK_HOST (unix:///PATH or ssh://USER@HOST) needs
    none. They are kept in $XDG_CONFIG_HOME/stackyard/contexts.json (~/.config without that), where you may edit them:

    \b
    {"current": "prod",
     "contexts": {
       "prod": {"endpoints": ["https://m1:2377"], "ca": PATH, "token": PATH},
       "mine": {"endpoints": ["https://m1:2377"], "ca": PATH, "cert": PATH, "key": PATH},
       "here": {"socket": "/run/stackyard/manager.sock"},
       "far":  {"ssh": "ssh://root@192.0.2.1"}}}
    """


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    current: bool
    where: str


@context.command()
@list_options
def ls(listing: Listing) -> None:
    """List the contexts.

    \b
    stack context ls
    """
    known = contexts.load()
    rows = [_Row(name, name == known.current, one.where) for name, one in sorted(known.contexts.items())]
    columns: Columns = {
        "NAME": lambda row: row.name,
        "CURRENT": lambda row: "*" if row.current else "",
        "WHERE": lambda row: row.where,
    }
    show(rows, columns, listing)


@context.command()
@click.argument("name", shell_complete=completion.contexts)
def use(name: str) -> None:
    """Talk to this cluster from now on.

    \b
    stack context use prod
    """
    contexts.use(name)
    click.echo(f"now talking to {name}")


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
    enrol.forget(name)
    click.echo(f"{name} is forgotten")


def _token(file: str | None) -> str:
    if file is None and sys.stdin.isatty():
        text: str = click.prompt("Token", hide_input=True)
        return text
    if file in (None, "-"):
        return sys.stdin.read()
    with open(file) as source:
        return source.read()
