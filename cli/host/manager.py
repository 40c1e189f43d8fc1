"""`stack join --manager`: another manager, with an etcd of its own among the others'."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

import msgspec

from cli.host import checks, init, join, local, member, services, units
from cli.host.init import SOCKETS
from cli.host.member import Outcome, Say
from cli.host.record import Home, Record
from cluster import pki
from cluster.errors import Conflict
from cluster.files import write_private
from cluster.membership import MemberReply, NewMember

_JOIN_FILE = "join.json"


def join_as_manager(home: Home, wanted: join.Wanted, say: Say) -> Outcome:
    """Do what is missing for this host to be one more manager. Containers that run here are not touched."""
    checks.root_on_linux()
    programs = checks.programs()
    token = pki.parse_token(wanted.token)
    managers = tuple(map(checks.manager_url, wanted.managers))
    known = home.read()
    join.refuse_other_cluster(home, token, managers)
    restored = known is not None and join.was_restored(home, known, token, managers)
    if known is not None and known.manager and known.complete and not restored:
        return Outcome(known, "")
    record = _record(known, wanted, managers)
    engine, info = member.checked_engine(home, record)
    checks.own_etcd()
    if known is not None and restored:
        join.without_manager(home, known, say)
        record = msgspec.structs.replace(record, etcd=())
    home.write(record)
    # first what may be refused: a wrong token leaves the engine as it was
    if known is None or not home.is_node():
        member.enrol(home, record, wanted.token, "manager", programs, say)
    elif not (home.manager / "etcd").exists():
        if record.systemd:
            services.stop(units.AGENT)
        member.join_again(home, record, wanted.token, programs, say)
    record = msgspec.structs.replace(record, configuration=member.ready_engine(home, engine, info, say))
    record = _ask_in(home, record, managers, say)
    home.write(record)
    by_hand = init.start_manager(home, record, programs, say)
    if by_hand:
        return Outcome(record, "the engine is ready", by_hand, again=True)
    record = msgspec.structs.replace(record, managers=local.managers(SOCKETS, record.managers))
    if record.systemd:
        member.start_agent(home, record, programs, say)
        member.await_ready(lambda: member.own_view(home, record), say)
    else:
        by_hand = (shlex.join(member.agent_command(home, record, programs)),)
    init.write_context(record)
    record = msgspec.structs.replace(record, complete=True)
    home.write(record)
    return Outcome(record, f"{record.name} is a manager and a node of this cluster", by_hand)


def _record(known: Record | None, wanted: join.Wanted, managers: tuple[str, ...]) -> Record:
    """What this host is to be; one that is a node already stays the node that it is."""
    if known is None:
        advertise = checks.address(wanted.advertise, urlsplit(managers[0]).hostname or "")
        known = Record(
            name=checks.name(wanted.name),
            advertise=advertise,
            engine=str(member.engine_socket(wanted.engine)),
            managers=managers,
            systemd=member.with_systemd(wanted.systemd),
        )
    elif wanted.advertise not in (None, known.advertise):
        raise Conflict(
            f"this host has joined with the address {known.advertise}",
            hint="`stack leave` takes it out; then it can join with another.",
        )
    url = checks.manager_url(f"[{known.advertise}]" if ":" in known.advertise else known.advertise)
    return msgspec.structs.replace(
        known,
        manager=url.removeprefix("https://"),
        managers=managers,
        context=known.context or known.name,
        complete=False,
    )


def _ask_in(home: Home, record: Record, managers: tuple[str, ...], say: Say) -> Record:
    """Have the managers take this host's etcd in, unless they have, and keep what it begins with."""
    etcd = home.manager / "etcd"
    if record.etcd or (etcd / "data").exists() or (etcd / _JOIN_FILE).exists():
        return record
    host = f"[{record.advertise}]" if ":" in record.advertise else record.advertise
    asked = NewMember(f"https://{host}:{init.ETCD_PORT + 1}")
    say("asking the managers to take this host's etcd in")
    told = member.call(home, managers, "POST", "/v1/self/manager", asked)
    reply = msgspec.json.decode(told, type=MemberReply)
    if reply.etcd:
        return msgspec.structs.replace(record, etcd=reply.etcd)
    etcd.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(etcd / _JOIN_FILE, told)
    return record
