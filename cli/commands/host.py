"""`stack init`, `stack join`, `stack leave`: this host as a member of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import click

from cli.host.record import DATA, Home
from cluster.errors import UserError

if TYPE_CHECKING:
    from cli.host.member import Outcome

Command = TypeVar("Command", bound=Callable[..., Any])

_data = click.option(
    "--data-dir", type=click.Path(path_type=Path), default=DATA, show_default=True, help="For all of a member's files."
)
_name = click.option("--name", help="What the node is called (the host's name).")
_advertise = click.option("--advertise", metavar="ADDRESS", help="Under which address of this host others reach it.")
_engine = click.option(
    "--engine", type=click.Path(path_type=Path), help="The Docker Engine's socket (/run/docker.sock)."
)
_systemd = click.option(
    "--systemd/--no-systemd", default=None, help="Whether systemd runs the programs (where there is one)."
)


def _say(line: str) -> None:
    click.echo(line, err=True)


class InitOptions(TypedDict):
    """What `init_options` adds to a command."""

    name: str | None
    advertise: str | None
    port: int
    etcd: tuple[str, ...]
    context: str | None
    engine: Path | None
    systemd: bool | None
    data_dir: Path


def init_options(command: Command) -> Command:
    """Add the options of a command that makes this host a cluster's first."""
    port = click.option(
        "--port", type=click.IntRange(1, 65535), default=2377, show_default=True, help="The manager's TCP port."
    )
    etcd = click.option(
        "--etcd", multiple=True, metavar="URL", help="An etcd that runs; again for each member (one of its own)."
    )
    context = click.option("--context", "context", help="What `stack context` calls the cluster (as --name).")
    for option in (_data, _systemd, _engine, context, etcd, port, _advertise, _name):
        command = option(command)
    return command


@click.command()
@click.option("--autolock", is_flag=True, help="Have managers be locked whenever they start: see `stack autolock`.")
@init_options
def init(autolock: bool, **options: Unpack[InitOptions]) -> None:
    """Make this host the first of a new cluster: manager and node.

    With --etcd the cluster is the one that this etcd holds, if it holds one: so it gets more managers.

    \b
    stack init
    stack init --advertise 192.0.2.1 --autolock
    """
    if init_host(options) and autolock:
        from cli.commands.unlock import turn_on

        turn_on()


def init_host(options: InitOptions, done: str = "", backup: tuple[Path, str] | None = None) -> bool:
    """Do `stack init`, out of a backup if one is given with its passphrase; `done` is said first, once it is.

    Tells whether the manager runs: without systemd a person is asked to start it, and to come again.
    """
    from cli.host import init as host

    called = options["name"] or os.uname().nodename
    for url in options["etcd"]:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--etcd: {url!r} is no URL", hint="Give one such as http://192.0.2.1:2379.")
    wanted = host.Wanted(
        called,
        options["advertise"],
        options["port"],
        options["etcd"],
        options["engine"],
        options["systemd"],
        options["context"] or called,
        backup,
    )
    outcome = host.init(Home(options["data_dir"]), wanted, _say)
    if done:
        click.echo(done)
    _tell(outcome, f"this host is already a manager of its cluster, as {outcome.record.name}; nothing was changed")
    if outcome.again:
        click.echo("\nand then run `stack init` again with the same options.")
        return False
    if token := host.worker_token():
        click.echo("\nOn each host that is to join, as root:\n")
        click.echo(f"    stack join {token} {host.managers_of(outcome.record.managers)}")
    return True


@click.command()
@click.argument("token")
@click.argument("managers", nargs=-1, required=True, metavar="MANAGER...")
@_name
@_advertise
@click.option("--manager", is_flag=True, help="As another manager, with a manager's TOKEN; a node may become one, too.")
@_engine
@_systemd
@_data
def join(
    token: str,
    managers: tuple[str, ...],
    name: str | None,
    advertise: str | None,
    manager: bool,
    engine: Path | None,
    systemd: bool | None,
    data_dir: Path,
) -> None:
    """Make this host a node of the cluster that MANAGER (HOST or HOST:PORT) manages.

    On a manager `stack token show` gives the TOKEN. A host that is a node already, and whose cluster was restored from
    a backup, goes on in the restored one: what runs here is not touched.

    \b
    stack join TOKEN 192.0.2.1:2377
    stack join TOKEN 192.0.2.1:2377 --manager
    """
    from cli.host import join as host

    wanted = host.Wanted(token, managers, name or os.uname().nodename, advertise, engine, systemd)
    if manager:
        from cli.host.manager import join_as_manager

        outcome = join_as_manager(Home(data_dir), wanted, _say)
        _tell(outcome, f"this host is already a manager of this cluster, as {outcome.record.name}; nothing was changed")
        if outcome.again:
            click.echo("\nand then run `stack join` again with the same options.")
        return
    outcome = host.join(Home(data_dir), wanted, _say)
    _tell(outcome, f"this host is already a node of this cluster, as {outcome.record.name}; nothing was changed")


@click.command()
@click.option("--force", is_flag=True, help="Wait for nobody: leave whatever becomes of tasks, managers, the cluster.")
@click.option("--timeout", type=float, default=120.0, show_default=True, help="Seconds for tasks to find other nodes.")
@_data
def leave(force: bool, timeout: float, data_dir: Path) -> None:
    """Take this host out of its cluster, and leave it as it was.

    Its tasks are given to other nodes first. Named volumes stay.

    \b
    stack leave
    """
    from cli.host.leave import leave as go

    left = go(Home(data_dir), force, timeout, _say)
    click.echo("this host has left its cluster" if left else "this host is no member of a cluster; nothing was changed")


def _tell(outcome: Outcome, nothing: str) -> None:
    click.echo(outcome.news or nothing)
    if outcome.by_hand:
        click.echo("\nSystemd does not run its programs. Keep this running as root, and start it after each boot:\n")
        for command in outcome.by_hand:
            click.echo(f"    {command}")
