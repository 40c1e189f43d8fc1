"""The program `stack-manager`: reads its settings and wires its parts."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as release
from pathlib import Path
from socket import gethostname as host_name

import aiohttp
import uvloop
from starlette.types import ASGIApp

from cluster import backup
from cluster.errors import StackyardError, UserError
from cluster.model.cluster import ClockMark
from cluster.model.node import Manager
from cluster.protocol import VERSION
from manager import etcd_server, garbage, membership
from manager.api.app import create_app
from manager.api.callers import Caller, of_certificate
from manager.api.core import Core
from manager.api.server import serving_local, serving_tls
from manager.audit import Audit
from manager.authority import found
from manager.backup import restore
from manager.clock import ClusterClock
from manager.etcd import Etcd
from manager.events import EventLog
from manager.follow import Follower
from manager.picture import Change
from manager.presence import Presence
from manager.rotation import Rotation
from manager.secrets import Vault
from manager.sessions.registry import Sessions
from manager.tls import Others, Tls
from manager.upkeep import Upkeep

log = logging.getLogger(__name__)

PORT = 2377
ETCD_PORT = 2379
SWITCH_INTERVAL = 0.0005
"""Seconds for which Python lets a busy event loop keep other threads waiting. The default of 5 ms comes many times
to one beat for the lease."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`etcd` empty: run one as a child. `listen` and `advertise` are host and port."""

    name: str
    data: Path
    socket: Path
    listen: tuple[str, int]
    advertise: tuple[str, int]
    etcd: tuple[str, ...] = ()
    etcd_port: int = ETCD_PORT


def main(arguments: Sequence[str] | None = None) -> int:
    os.umask(0o077)  # what this program writes is nobody else's business
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=parsed.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its other news are ours as well, told better
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each agent takes a socket, and so does each stream
    try:
        settings = _settings(parsed)
        uvloop.run(run(settings) if parsed.restore is None else restoring(settings, parsed.restore))
    except StackyardError as error:
        return _tell(error)
    except BaseExceptionGroup as group:
        known, rest = group.split(StackyardError)
        if rest is not None or known is None:
            raise
        return _tell(_first(known))
    return 0


async def run(settings: Settings) -> None:
    """Be a manager until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with managing(settings):
        log.info("manager %s serves at https://%s:%d and %s", settings.name, *settings.advertise, settings.socket)
        await stop.wait()
        log.info("manager %s stops", settings.name)


async def restoring(settings: Settings, file: Path) -> None:
    """Fill this manager's etcd from a backup whose passphrase the environment has."""
    async with AsyncExitStack() as stack:
        etcd, _ = await stack.enter_async_context(_etcd(settings))
        source = stack.enter_context(open(file, "rb"))  # noqa: ASYNC230 (nothing else is done meanwhile)
        await restore(etcd, backup.frames(source, os.environ.get(backup.PASSPHRASE, "")), settings.data)


@asynccontextmanager
async def _etcd(settings: Settings) -> AsyncIterator[tuple[Etcd, etcd_server.Own | None]]:
    """Connect to the etcd that is given, or to this manager's own, which is started first."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        if settings.etcd:
            yield await stack.enter_async_context(Etcd.connect(settings.etcd)), None
            return
        place = etcd_server.Place(settings.data / "etcd", settings.name, settings.advertise[0], settings.etcd_port)
        own = await stack.enter_async_context(etcd_server.running(place))
        etcd = await stack.enter_async_context(Etcd.connect((own.endpoint,), own.tls))
        await membership.settle(etcd, own)
        yield etcd, own


@asynccontextmanager
async def managing(settings: Settings) -> AsyncIterator[Core]:
    """Run all parts of a manager until the end of the block."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    async with AsyncExitStack() as stack:
        etcd, own = await stack.enter_async_context(_etcd(settings))
        authority = await found(etcd, now=time.time())
        follower = Follower(etcd)
        clock = stack.enter_context(_cluster_time(follower))
        events = EventLog(follower, clock, settings.name)
        stack.enter_context(follower.listening(events.note))
        # A new id at each start: sessions of the one before are nobody's, whatever became of it.
        manager = Manager(
            secrets.token_hex(8),
            settings.name,
            _url(settings.advertise),
            clock(),
            VERSION,
            release("stackyard"),
            trust=authority.trust.generation,
        )
        hosts = settings.advertise[0], settings.listen[0], settings.name
        tls = Tls(authority, manager.id, hosts, settings.data)
        http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=5))
        others = Others(http, tls)
        vault = Vault(settings.data, etcd, others, lambda: _others(follower, manager))
        sessions = Sessions(
            etcd,
            follower,
            cluster=authority.cluster,
            manager=manager.id,
            clock=clock,
            lease=lambda: presence.lease,
            absent_for=lambda: presence.absent_for,
            life=authority.life,
            roots=lambda: authority.trust.roots,
        )
        presence = Presence(
            etcd,
            follower,
            manager,
            clock,
            vault.unlocked,
            sessions.latencies.observe,
            lambda: own.child.trouble if own else "",
        )
        core = Core(
            etcd=etcd,
            follower=follower,
            sessions=sessions,
            authority=authority,
            presence=presence,
            clock=clock,
            stopping=asyncio.Event(),
            others=others,
            vault=vault,
            own_etcd=own,
            audit=Audit(etcd, clock, lambda: presence.leading),
            events=events,
            upkeep=Upkeep(etcd, presence, clock, own),
        )
        app = create_app(core)  # which takes a while, and nothing else goes on yet
        await stack.enter_async_context(http)
        rotation = Rotation(etcd, follower, authority, tls, presence, sessions, clock)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follower.run(), name="picture")]
            await follower.loaded.wait()
            tasks.append(group.create_task(garbage.collecting(), name="collecting"))
            tasks.append(group.create_task(core.sessions.run(), name="sessions"))
            tasks.append(group.create_task(core.presence.run(), name="presence"))
            tasks.append(group.create_task(tls.run(), name="certificate"))
            tasks.append(group.create_task(rotation.run(), name="rotation of the CA"))
            tasks.append(group.create_task(core.vault.hold(), name="keys"))
            tasks.append(group.create_task(core.audit.run(), name="audit"))
            tasks.append(group.create_task(core.upkeep.run(), name="upkeep"))
            if own is not None:
                tasks.append(group.create_task(membership.follow(etcd), name="members"))
            async with _serving(app, core, settings, tls):
                yield core
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _serving(app: ASGIApp, core: Core, settings: Settings, tls: Tls) -> AsyncIterator[None]:
    def caller_of(peer: bytes | None) -> Caller:
        return of_certificate(core.authority.cluster, peer)

    async with serving_tls(app, *settings.listen, lambda: tls.server, caller_of), serving_local(app, settings.socket):
        try:
            yield
        finally:
            core.stopping.set()
            await core.sessions.stop()


def _others(follower: Follower, manager: Manager) -> list[str]:
    """Give the URLs of the other managers that can answer."""
    return [other.url for other in follower.state.managers.values() if other.id != manager.id and not other.locked]


@contextmanager
def _cluster_time(follower: Follower) -> Iterator[Callable[[], float]]:
    """Give a clock that keeps to what leaders have stored."""
    clock = ClusterClock(time.time(), time.monotonic())

    def learn(changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change.new, ClockMark):
                clock.learn(change.new.now, time.monotonic())

    with follower.listening(learn):
        yield lambda: clock.now(time.time(), time.monotonic())


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stack-manager", description="Keeps a cluster's desired state, decides what runs where, steers the agents."
    )
    parser.add_argument("--name", default=host_name(), help="what this manager is called (the host's name)")
    parser.add_argument("--data-dir", type=Path, default=Path("/var/lib/stackyard/manager"), metavar="DIR")
    parser.add_argument("--socket", type=Path, default=Path("/run/stackyard/manager.sock"), metavar="PATH")
    parser.add_argument("--listen", default=f"0.0.0.0:{PORT}", metavar="HOST:PORT")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="where agents and people reach it (as --listen)")
    parser.add_argument("--etcd", default="", metavar="URL[,URL...]", help="etcd's endpoints; without, it runs its own")
    parser.add_argument(
        "--etcd-port", type=int, default=ETCD_PORT, metavar="PORT", help="loopback port of its own etcd"
    )
    parser.add_argument("--restore", type=Path, metavar="FILE", help="fill an empty etcd from a backup, and end")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _settings(parsed: argparse.Namespace) -> Settings:
    listen = _host_port(parsed.listen, "--listen")
    advertise = _host_port(parsed.advertise, "--advertise") if parsed.advertise else listen
    if advertise[0] in ("0.0.0.0", "::"):
        raise UserError(
            "nobody can reach a manager at an address that means them all", hint="Give this host's with --advertise."
        )
    endpoints = tuple(url.strip() for url in parsed.etcd.split(",") if url.strip())
    return Settings(
        parsed.name, parsed.data_dir, parsed.socket, listen, advertise, endpoints, etcd_port=parsed.etcd_port
    )


def _host_port(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(PORT)
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise UserError(f"{option}: {text!r} is not HOST:PORT", hint=f"For example {option} 192.0.2.1:{PORT}.")
    return host.strip("[]"), int(port)


def _tell(error: StackyardError) -> int:
    sys.stderr.write(f"stack-manager: {error}\n")
    return error.exit_code


def _first(group: BaseExceptionGroup[StackyardError]) -> StackyardError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StackyardError)
    return error


if __name__ == "__main__":
    sys.exit(main())
