"""`stack-agent`: settings, wiring, one TaskGroup."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import ipaddress
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args

import uvloop

from agent import credentials
from agent.checkup import Checkup
from agent.contents import Contents
from agent.departure import depart
from agent.engine import Engine
from agent.examination import Examiner
from agent.fdstore import FdStore
from agent.images import Images
from agent.journal import Journal
from agent.manager_addresses import ManagerAddresses
from agent.network.probes import Probes
from agent.network.wiring import Wiring
from agent.networks import Networks
from agent.outbox import Outbox
from agent.reach import Reach
from agent.resolver import Resolver
from agent.runner import Runner
from agent.secrets import Secrets
from agent.session import Session
from agent.standing import Standing
from agent.streams import Streams
from agent.trust import Trust
from agent.tunnel_keys import TunnelKeys
from agent.usage import Usage
from agent.verification import Verification
from cluster.errors import Conflict, StackyardError, UserError
from cluster.model.node import NodeDescription, Role
from cluster.templates import Place

log = logging.getLogger("agent")
T = TypeVar("T")

SECRETS = Path("/run/stackyard/secrets")
"""The folder that is kept in memory, in the engine's mount namespace."""

BACK_WITHIN = 30.0
"""Seconds that a stopping agent asks for: who restarts it, restarts it sooner."""

ONLY_JOIN_WITHIN = 20.0
"""Seconds after which joining is given up where somebody waits for it; otherwise it never is."""


@dataclass(frozen=True, slots=True)
class Settings:
    name: str
    data_dir: Path
    managers: tuple[str, ...]
    token: str
    advertise: str
    engine: Path
    only_join: bool = False
    role: Role | None = None
    only_leave: bool = False
    again: bool = False


def main() -> None:
    """Run the agent until SIGTERM or SIGINT. Containers and their traffic go on without it."""
    settings = read_settings(sys.argv[1:])
    logging.basicConfig(
        level=os.environ.get("STACKYARD_LOG", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each sandbox takes two sockets for its names
    try:
        with only_agent_of(settings.data_dir):
            uvloop.run(run(settings, FdStore.of_process(os.environ)))
    except StackyardError as error:
        print(f"stack-agent: {error}", file=sys.stderr)  # noqa: T201 (a program's last word)
        sys.exit(error.exit_code)


def read_settings(arguments: Sequence[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="stack-agent", description="Runs the tasks that a Stackyard manager assigns to this host."
    )
    parser.add_argument("--name", required=True, help="what this node is called")
    parser.add_argument("--data-dir", required=True, type=Path, help="for certificate and journal")
    parser.add_argument("--manager", required=True, help="URLs of managers, separated by commas")
    parser.add_argument(
        "--token",
        default=os.environ.get("STACKYARD_JOIN_TOKEN", ""),
        help="join token, used while there is no certificate yet (or in STACKYARD_JOIN_TOKEN)",
    )
    parser.add_argument("--only-join", action="store_true", help="get the certificate with the token, and end")
    parser.add_argument("--again", action="store_true", help="join with the token though there is a certificate")
    parser.add_argument("--only-leave", action="store_true", help="remove this node's containers and networks, and end")
    parser.add_argument("--role", choices=get_args(Role), help="refuse a token that gives another one")
    parser.add_argument(
        "--advertise", required=True, type=_address, help="address under which the other nodes reach this one"
    )
    parser.add_argument("--engine", default=Path("/run/docker.sock"), type=Path, help="socket of the Docker Engine")
    given = parser.parse_args(arguments)
    managers = tuple(url.strip().rstrip("/") for url in given.manager.split(",") if url.strip())
    for url in managers:
        if not url.startswith("https://"):
            parser.error(f"a manager's URL looks like https://10.0.0.1:2377, not {url!r}")
    if not managers:
        parser.error("--manager names no manager")
    return Settings(
        given.name,
        given.data_dir,
        managers,
        given.token,
        given.advertise,
        given.engine,
        given.only_join,
        given.role,
        given.only_leave,
        given.again,
    )


def _address(text: str) -> str:
    """Of the spellings of an IPv6 address the one that the kernel has."""
    return str(ipaddress.ip_address(text))


@contextmanager
def only_agent_of(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for the block. Raises Conflict when another agent has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"the data directory {data_dir} cannot be used: {error}", hint="Run the agent as root."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Conflict(
            f"another agent works with {data_dir}", hint="Stop it, or give this one a --data-dir of its own."
        ) from None
    else:
        yield
    finally:
        os.close(handle)


async def run(settings: Settings, store: FdStore) -> None:
    """Join if need be, put the parts together, and run them until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    who = credentials.load(settings.data_dir)
    if settings.only_leave:
        if who is not None:
            wiring = Wiring(who.identity.name, settings.advertise)
            await depart(Engine(settings.engine), wiring, who.identity.cluster)
            Secrets(SECRETS, Contents(who, lambda: settings.managers)).close()
        return
    if who is None or settings.again:
        who = await _unless(stop, _join(settings))
        if who is None:
            return
    if settings.only_join:
        return
    engine = Engine(settings.engine)
    keys = TunnelKeys(settings.data_dir / "tunnel-keys.json")

    def managers() -> set[str]:
        return {*settings.managers, *runner.managers}

    addresses = ManagerAddresses(managers)
    wiring = Wiring(who.identity.name, settings.advertise, keys=keys.keys, managers=addresses.literal)
    resolver = Resolver(wiring, store=store)
    networks = Networks(wiring, resolver)
    outbox, journal = Outbox(), Journal(settings.data_dir / "journal.json", who.life)
    runner = Runner(
        engine,
        networks,
        outbox,
        journal,
        cluster=who.identity.cluster,
        files=settings.data_dir / "tasks",
        address=settings.advertise,
        place=Place(who.identity.name, settings.name),
        secrets=Secrets(SECRETS, Contents(who, managers)),
    )
    runner.resume(journal.read(who.identity.cluster))
    streams = Streams(who, engine, runner.known, Reach(engine, runner.known, wiring))
    images = Images(engine)
    verification = Verification(wiring, resolver, lambda: Resolver(wiring), lambda: runner.items)
    probes = Probes(who.identity.name, settings.advertise, wiring)
    examiner = Examiner(probes, wiring, runner, verification)
    usage = Usage(engine, runner.known, wiring)
    checkup = Checkup(who.identity.name, probes, wiring, runner, verification)
    describe = _describer(settings, runner, wiring, keys)
    trust = Trust(who, managers)
    session = Session(
        who, settings.managers, runner, outbox, streams, images, examiner, usage, checkup, trust, describe,
        elsewhere=lambda: wiring.elsewhere, listening=lambda: wiring.listening,
    )  # fmt: skip
    await networks.open()
    try:
        async with asyncio.TaskGroup() as group:
            standing = Standing(runner, store)
            parts = (addresses, runner, session, streams, images, examiner, usage, checkup, networks, standing, trust)
            tasks = [group.create_task(part.run()) for part in parts]
            tasks.append(group.create_task(journal.run(runner.entry)))
            tasks.append(group.create_task(credentials.keep_fresh(who, managers)))
            tasks.append(group.create_task(keys.run(wiring)))
            await stop.wait()
            log.info("stopping; containers go on")
            await session.goodbye(BACK_WITHIN)
            for task in tasks:
                task.cancel()
        await journal.flush()
    finally:
        await engine.close()
        await networks.close()


async def _join(settings: Settings) -> credentials.Credentials:
    if not settings.token:
        raise UserError(
            f"this node has not joined a cluster: {settings.data_dir} holds no certificate",
            hint="Give a join token with --token; on a manager, `stack token show` shows it.",
        )
    patience = ONLY_JOIN_WITHIN if settings.only_join else None
    return await credentials.join(
        settings.data_dir, settings.managers, settings.token, settings.name, patience=patience, role=settings.role
    )


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do something unless told to stop; None then."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        doing.cancel()
        stopping.cancel()


def _describer(settings: Settings, runner: Runner, wiring: Wiring, keys: TunnelKeys) -> Callable[[], NodeDescription]:
    """Make what says what this host is, as far as it is known by then."""
    uname = os.uname()
    host = NodeDescription(
        hostname=settings.name,
        address=settings.advertise,
        agent_version=version("stackyard"),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        architecture=uname.machine,
        kernel=uname.release,
        cpus=os.cpu_count() or 0,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )

    def describe() -> NodeDescription:
        facts, trouble = runner.facts, wiring.tunnels.trouble
        wired = replace(
            host,
            keeps_source=wiring.keeps_source,
            tunnels=() if trouble else keys.announced,
            tunnels_trouble=trouble,
        )
        if facts is None:
            return wired
        return replace(
            wired,
            os=facts.os,
            engine_version=facts.version,
            engine_api=".".join(map(str, facts.api)),
            cpus=facts.cpus,
            memory=facts.memory,
            engine_labels=facts.labels,
            resources=facts.resources,
        )

    return describe
