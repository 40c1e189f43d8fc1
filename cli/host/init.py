"""`stack init`: the first host of a cluster, or another manager of one whose etcd is given."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cli.client.contexts import DEFAULT_SOCKET
from cli.host import checks, local, member, services, units
from cli.host.member import Outcome, Say
from cli.host.record import Home, Record
from cluster.backup import PASSPHRASE
from cluster.errors import Conflict, Failed, StackyardError, Unavailable
from cluster.people import root_of

if TYPE_CHECKING:
    from cluster.views import NodeView

ETCD_PORT = 23790
"""Loopback port of the manager's own etcd, and the next one: not 2379, where a distribution's etcd may run one day."""

_ANSWERS_WITHIN = 60.0
SOCKETS = (DEFAULT_SOCKET,)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed; None is what this host suggests itself."""

    name: str
    advertise: str | None
    port: int
    etcd: tuple[str, ...]
    engine: Path | None
    systemd: bool | None
    context: str
    backup: tuple[Path, str] | None = None
    """A file to restore the cluster from, and its passphrase."""


def init(home: Home, wanted: Wanted, say: Say) -> Outcome:
    """Do what is missing for this host to be a manager and a node. What it cannot be it is told before any change."""
    checks.root_on_linux()
    programs = checks.programs()
    known = home.read()
    if known is not None and wanted.backup and (known.complete or not known.manager):
        raise Conflict(
            f"this host is a member of a cluster already, as {known.name}",
            hint="`stack leave --force` ends that here; or restore on another host, and join this one to that.",
        )
    if known is not None and not known.manager and home.is_node():
        raise Conflict(
            f"this host has joined a cluster as {known.name}, without being a manager",
            hint="`stack leave` takes it out of that cluster.",
        )
    if known is not None and known.manager and known.complete:
        if _trouble() is None:
            known = msgspec.structs.replace(known, managers=local.managers(SOCKETS, known.managers))
            home.write(known)
        renewed = _trouble() is None and write_context(known)
        return Outcome(known, f"renewed the certificate of the context {known.context}" if renewed else "")
    advertise = checks.address(wanted.advertise, "192.0.2.1", "2001:db8::1")
    url = checks.manager_url(f"[{advertise}]:{wanted.port}" if ":" in advertise else f"{advertise}:{wanted.port}")
    record = Record(
        name=checks.name(wanted.name),
        advertise=advertise,
        engine=str(member.engine_socket(wanted.engine)),
        managers=(url,),
        manager=url.removeprefix("https://"),
        etcd=wanted.etcd,
        systemd=member.with_systemd(wanted.systemd),
        context=wanted.context,
    )
    engine, info = member.checked_engine(home, record)
    if not record.etcd:
        checks.own_etcd()
    home.write(record)
    record = msgspec.structs.replace(record, configuration=member.ready_engine(home, engine, info, say))
    home.write(record)
    if wanted.backup is not None and _trouble() is not None:
        say(f"restoring {wanted.backup[0]}")
        _restore(home, record, programs, *wanted.backup)
    by_hand = start_manager(home, record, programs, say)
    if by_hand:
        return Outcome(record, "the engine is ready", by_hand, again=True)
    member.enrol(home, record, local.tokens(SOCKETS).manager, "manager", programs, say)
    if record.systemd:
        member.start_agent(home, record, programs, say)
        member.await_ready(lambda: _own(record), say)
    else:
        by_hand = (shlex.join(member.agent_command(home, record, programs)),)
    write_context(record)
    record = msgspec.structs.replace(record, complete=True)
    home.write(record)
    return Outcome(record, f"{record.name} is a manager and a node of this cluster", by_hand)


def manager_command(home: Home, record: Record, programs: Path) -> list[str]:
    port = record.manager.rpartition(":")[2]
    anywhere = f"[::]:{port}" if ":" in record.advertise else f"0.0.0.0:{port}"
    etcd = ("--etcd", ",".join(record.etcd)) if record.etcd else ("--etcd-port", str(ETCD_PORT))
    return [
        str(programs / "stack-manager"),
        *("--name", record.name, "--data-dir", str(home.manager)),
        *("--listen", anywhere, "--advertise", record.manager, *etcd),
    ]


def _restore(home: Home, record: Record, programs: Path, backup: Path, passphrase: str) -> None:
    """Fill this manager's etcd from a backup, before it first starts; nothing is done when that was done before."""
    member.run_program(
        [*manager_command(home, record, programs), "--restore", str(backup)], {PASSPHRASE: passphrase}, "stack-manager"
    )


def start_manager(home: Home, record: Record, programs: Path, say: Say) -> tuple[str, ...]:
    """Have the manager run; gives the command to run by hand where systemd does not and nobody has yet."""
    command = manager_command(home, record, programs)
    if not record.systemd:
        return () if _trouble() is None else (shlex.join(command),)
    say("starting the manager, now and after each boot")
    services.start(units.MANAGER, units.manager(command))
    deadline = time.monotonic() + _ANSWERS_WITHIN
    while (trouble := _trouble()) is not None:
        if time.monotonic() > deadline:
            raise Failed(
                f"the manager does not answer: {trouble}", hint=f"`journalctl -u {units.MANAGER}` tells what it says."
            )
    return ()


def _trouble() -> str | None:
    """Why the manager of this host does not answer yet."""
    try:
        local.nodes(SOCKETS)
    except Unavailable as error:
        return error.message
    return None


def write_context(record: Record) -> bool:
    return local.write_context(record.context, record.managers, SOCKETS, root_of(record.name))


def _own(record: Record) -> NodeView | None:
    return next((node for node in local.nodes(SOCKETS) if node.name == record.name), None)


def worker_token() -> str:
    """The token with which others join, "" when the manager does not tell it now."""
    try:
        return local.tokens(SOCKETS).worker
    except StackyardError:
        return ""


def managers_of(endpoints: Sequence[str]) -> str:
    return " ".join(url.removeprefix("https://") for url in endpoints)
