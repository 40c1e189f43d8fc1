"""`stack join`: another node of a cluster."""

from __future__ import annotations

import shlex
import shutil
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from cli.client.contexts import DEFAULT_SOCKET
from cli.client.enrol import fetch_ca, fetched
from cli.host import checks, local, member, services, units
from cli.host.member import Outcome, Say
from cli.host.record import Home, Record
from cluster import pki
from cluster.errors import Conflict, StackyardError, Unavailable


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed; None is what this host suggests itself."""

    token: str
    managers: Sequence[str]
    name: str
    advertise: str | None
    engine: Path | None
    systemd: bool | None


def join(home: Home, wanted: Wanted, say: Say) -> Outcome:
    """Do what is missing for this host to be a node. Raises before anything is changed if it cannot be."""
    checks.root_on_linux()
    programs = checks.programs()
    token = pki.parse_token(wanted.token)
    managers = tuple(map(checks.manager_url, wanted.managers))
    known = home.read()
    refuse_other_cluster(home, token, managers)
    if known is not None and known.manager and not known.complete:
        raise Conflict(
            "a `stack init` of this host has not come to its end",
            hint="Run it again, or undo it with `stack leave --force`.",
        )
    if known is not None and was_restored(home, known, token, managers):
        record = without_manager(home, msgspec.structs.replace(known, managers=managers), say)
        news = f"{record.name} goes on as a node of the restored cluster"
        return _join_again(home, record, wanted.token, programs, say, news)
    if known is not None and home.is_node() and token.ca_digest not in _roots(home):
        record = msgspec.structs.replace(known, managers=managers)
        news = f"{record.name} is a node of this cluster again, with a certificate of the CA's new root"
        return _join_again(home, record, wanted.token, programs, say, news)
    if known is not None and known.complete:
        return Outcome(known, "")
    towards = urlsplit(managers[0]).hostname or ""
    record = Record(
        name=checks.name(wanted.name),
        advertise=checks.address(wanted.advertise, towards),
        engine=str(member.engine_socket(wanted.engine)),
        managers=managers,
        systemd=member.with_systemd(wanted.systemd),
    )
    engine, info = member.checked_engine(home, record)
    home.write(record)
    # first what may be refused: a wrong token leaves the engine as it was
    member.enrol(home, record, wanted.token, "worker", programs, say)
    record = msgspec.structs.replace(record, configuration=member.ready_engine(home, engine, info, say))
    home.write(record)
    by_hand: tuple[str, ...] = ()
    if record.systemd:
        member.start_agent(home, record, programs, say)
        member.await_ready(lambda: member.own_view(home, record), say)
    else:
        by_hand = (shlex.join(member.agent_command(home, record, programs)),)
    record = msgspec.structs.replace(record, complete=True)
    home.write(record)
    return Outcome(record, f"{record.name} is a node of this cluster", by_hand)


def was_restored(home: Home, known: Record, token: pki.JoinToken, managers: Sequence[str]) -> bool:
    """Whether the managers that were named are of another life of the cluster than the one that this node is in.

    They may be at the addresses of those before, and have another root: that of the time of the backup.
    """
    if not home.is_node():
        return False
    try:
        told = _told(home, token, managers, "/v1/life")
    except Unavailable:
        if known.complete and set(managers) <= set(known.managers):
            return False
        raise
    life = home.agent / "life"
    return told != (life.read_text() if life.exists() else "")


def _join_again(home: Home, record: Record, token: str, programs: Path, say: Say, news: str) -> Outcome:
    """Get a new certificate, for the same node. The agent starts when it has all; run again, this goes on."""
    by_hand: tuple[str, ...] = ()
    home.write(msgspec.structs.replace(record, complete=False))
    if record.systemd:
        services.stop(units.AGENT)
    member.join_again(home, record, token, programs, say)
    if record.systemd:
        member.start_agent(home, record, programs, say)
        member.await_ready(lambda: member.own_view(home, record), say)
    else:
        by_hand = (shlex.join(member.agent_command(home, record, programs)),)
    home.write(record)
    return Outcome(record, news, by_hand)


def without_manager(home: Home, record: Record, say: Say) -> Record:
    """Take away this host's manager of the life before, if it had one: the restored cluster knows nothing of it."""
    if not record.manager:
        return record
    say("removing this host's manager, which was one of the cluster before the restore")
    if record.systemd:
        services.remove(units.MANAGER)
    elif (home.manager / "etcd").exists() and local.answers((DEFAULT_SOCKET,)):
        raise Conflict("the manager of this host still runs", hint="Stop stack-manager, then run `stack join` again.")
    shutil.rmtree(home.manager, ignore_errors=True)
    if record.context:
        local.remove_context(record.context)
    return msgspec.structs.replace(record, manager="", etcd=(), context="")


def refuse_other_cluster(home: Home, token: pki.JoinToken, managers: Sequence[str]) -> None:
    """Raise Conflict for a token of another cluster; one of another root of this cluster's CA is none."""
    if not home.is_node() or token.ca_digest in _roots(home):
        return
    identity = pki.identity(ssl.PEM_cert_to_DER_cert((home.agent / "node.pem").read_text()))
    if pki.cluster_of(_told(home, token, managers, "/v1/ca")) != identity.cluster:
        raise Conflict(
            "this host is a member of another cluster than the one that the token is for",
            hint="`stack leave` takes it out of that one first.",
        )


def _roots(home: Home) -> set[str]:
    """The digests of the roots that this node trusts."""
    return set(map(pki.ca_digest, pki.certificates((home.agent / "ca.pem").read_text())))


def _told(home: Home, token: pki.JoinToken, managers: Sequence[str], path: str) -> str:
    """What the first manager that answers tells anyone, if its root is trusted here or is the one the token names."""
    trusted = (home.agent / "ca.pem").read_text() if token.ca_digest in _roots(home) else ""
    last: StackyardError = Unavailable("no manager was named")
    for manager in managers:
        try:
            return fetched(manager, path, pki.client_context(trusted or fetch_ca(manager, token.ca_digest)))
        except StackyardError as error:
            last = error
    raise last
