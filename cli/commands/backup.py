"""`stack backup` and `stack restore`: a cluster into a file, and out of it on hosts with whatever addresses."""

from __future__ import annotations

import http.client
import os
import secrets
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import click
import msgspec

from cli.commands import host
from cli.commands.session import connect_as_root
from cli.output import Form, age, format_option
from cluster import backup as archive
from cluster import codec, pki
from cluster.errors import Conflict, Unavailable, UserError
from cluster.model.node import Node
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Task

PASSPHRASE = archive.PASSPHRASE
_ANSWER = 2.0  # seconds for a manager that may be gone

_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help=f"Has the passphrase; otherwise {PASSPHRASE} has, or it is asked for.",
)
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@_passphrase_file
def backup(file: Path, passphrase_file: Path | None) -> None:
    """Write all that the cluster knows into FILE, encrypted, while it runs (root on a manager's host).

    Stacks with their history, nodes, secrets, tokens and keys, as they are at one moment; not what is in volumes.
    Whoever has the file and its passphrase has the cluster.

    \b
    stack backup cluster.backup
    stack backup --passphrase-file passphrase.txt cluster.backup
    """
    sealer = archive.Sealer(_passphrase(passphrase_file, new=True), secrets.token_bytes(archive.SALT))
    last: archive.Frame | None = None
    entries = 0
    with _whole_file(file) as write, connect_as_root() as client:
        write(sealer.line)
        for frame in map(archive.decode, client.backup()):
            if isinstance(frame, archive.Entries):
                entries += len(frame.items)
            write(sealer.seal(frame))
            last = frame
        if not isinstance(last, archive.End):
            raise Unavailable("the manager ended before the backup was whole", hint="Run it again.")
    click.echo(f"wrote {entries} records to {file} ({file.stat().st_size} bytes)")
    click.echo(f"`stack restore --verify {file}` tells whether it can be read, and what is in it.")


@click.command()
@_file
@_passphrase_file
@click.option("--verify", is_flag=True, help="Only read it all, and tell what is in it; may be done anywhere.")
@click.option("--force", is_flag=True, help="Though a manager of the backup's cluster still answers.")
@format_option
@host.init_options
def restore(
    file: Path, passphrase_file: Path | None, verify: bool, force: bool, form: Form, **options: Unpack[host.InitOptions]
) -> None:
    """Make this host the first manager of the cluster that is in FILE, whatever its address (root).

    The cluster has the id, the keys and the tokens that it had. On each host whose agent lives, `stack join TOKEN
    MANAGER` brings it back with its containers running; until then nothing of what runs there is replaced.

    \b
    stack restore --verify cluster.backup
    stack restore cluster.backup
    """
    passphrase = _passphrase(passphrase_file, new=False)
    with open(file, "rb") as source:
        found = contents(archive.frames(source, passphrase))
    if verify:
        _tell(found, form)
        return
    if not force and (running := next(filter(answers, found.managers), None)) is not None:
        raise Conflict(
            f"the manager at {running} still answers: the cluster of this backup runs",
            hint="End it first; or restore with --force, and each host is in the one of the two that it joins last.",
        )
    host.init_host(options, f"restored the cluster as of {age(found.made_at)} ago", (file.absolute(), passphrase))


@dataclass(frozen=True, slots=True)
class StackSummary:
    name: str
    revision: int
    services: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a backup. `nodes` has roles by names; `made_at` is an instant by the clock of the manager."""

    cluster: str
    made_at: float
    revision: int
    program: str
    records: int
    managers: tuple[str, ...]
    nodes: dict[str, str]
    stacks: tuple[StackSummary, ...]
    tasks: int
    secrets: int


def contents(frames: Iterable[archive.Frame]) -> Contents:
    """Read a backup to its end, every record of it. Raises Inconsistent for one that this program cannot read."""
    manifest: archive.Manifest | None = None
    stacks: list[Stack] = []
    services: dict[tuple[str, int], int] = {}
    nodes: dict[str, str] = {}
    records = tasks = sealed = 0
    for frame in frames:
        if isinstance(frame, archive.Manifest):
            manifest = frame
        for key, value in frame.items if isinstance(frame, archive.Entries) else ():
            records += 1
            sealed += key.startswith(codec.SEALED_PREFIX)
            match codec.decode(key, value) if key.startswith(codec.PREFIX) else None:
                case Stack() as stack:
                    stacks.append(stack)
                case StackRevision() as revision:
                    services[revision.stack_uid, revision.n] = len(revision.services)
                case Node() as node:
                    nodes[node.name] = node.role
                case Task():
                    tasks += 1
    assert manifest is not None  # or reading the frames would have failed
    return Contents(
        manifest.cluster,
        manifest.made_at,
        manifest.revision,
        manifest.program,
        records,
        manifest.managers,
        dict(sorted(nodes.items())),
        tuple(StackSummary(stack.name, stack.head, services.get((stack.uid, stack.head), 0)) for stack in stacks),
        tasks,
        sealed,
    )


def answers(url: str) -> bool:
    """Whether a manager, of whatever cluster, answers there."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(
        address.hostname or "", address.port, timeout=_ANSWER, context=pki.unverified_context()
    )
    try:
        connection.request("GET", "/v1/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tell(found: Contents, form: Form) -> None:
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    click.echo(f"cluster   {found.cluster}, as of {age(found.made_at)} ago (etcd's revision {found.revision})")
    click.echo(f"written   by stackyard {found.program} at {', '.join(found.managers) or 'no manager'}")
    click.echo(f"nodes     {', '.join(f'{name} ({role})' for name, role in found.nodes.items()) or 'none'}")
    for stack in found.stacks:
        click.echo(f"stack     {stack.name}: revision {stack.revision}, {stack.services} services")
    click.echo(
        f"records   {found.records}, with {found.tasks} tasks and the contents of {found.secrets} secrets and configs"
    )
    click.echo("it is whole, and can be read with this passphrase")


@contextmanager
def _whole_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _passphrase(file: Path | None, *, new: bool) -> str:
    """Never from the command line, where every user of the host could read it."""
    if file is not None:
        found = file.read_text().rstrip("\n")
    elif PASSPHRASE in os.environ:
        found = os.environ[PASSPHRASE]
    elif sys.stdin.isatty():
        found = click.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=new, err=True)
    else:
        raise UserError("there is nobody to ask for a passphrase", hint=f"Give --passphrase-file or {PASSPHRASE}.")
    if not found:
        raise UserError("the passphrase is empty")
    return found
