"""An etcd of this manager's own: started as a child, kept alive, ended with it; alone, or one of several managers'.

It listens on the loopback interface for this manager and on the host's address for the others, and to nobody without a
certificate of etcd's own small CA, whose key the managers alone have: to etcd everyone with a certificate is the same,
so the cluster's CA, which signs workers' too, will not do. Each start makes a certificate anew.

The first manager's etcd begins a cluster. Another one comes by what `stack join --manager` has left in `join.json`: the
CA, and who the others are. It begins as a learner, and is promoted by this program when it has all data.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cluster import pki
from cluster.errors import Failed
from cluster.files import write_private
from cluster.membership import MemberReply
from manager.etcd import Etcd, EtcdUnavailable, Refused, Tls, UnknownOutcome

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
PROMOTE_TIMEOUT = 120.0
PAUSE = 1.0
POLL = 0.05
JOIN_FILE = "join.json"
SETTLED = 10.0
"""Seconds after which an etcd that was started again is taken to be well."""
_REMOVED = b"permanently removed from the cluster"
LEAST_FREE = 64 * 2**20
"""Bytes that etcd takes on the disk for the next part of its write-ahead log; with less it ends."""
_LAST_WORDS = 8192


@dataclass(slots=True)
class Child:
    """How the process fares: `trouble` tells why it ended, "" while it runs."""

    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Own:
    """How to reach it; `peer` is its URL for the other members, `authority` the CA that all of them trust."""

    endpoint: str
    peer: str
    tls: Tls
    authority: pki.Authority = field(repr=False)
    child: Child = field(default_factory=Child)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an etcd is: `name` is that of its manager, `address` the host's; `port` and the next one are taken."""

    directory: Path
    name: str
    address: str
    port: int

    @property
    def clients(self) -> list[str]:
        """URLs for managers, the own one first."""
        return list(dict.fromkeys((self._url("127.0.0.1", self.port), self._url(self._outer, self.port))))

    @property
    def peer(self) -> str:
        return self._url(self._outer, self.port + 1)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("127.0.0.1", self._outer)))

    @property
    def _outer(self) -> str:
        """etcd listens on addresses only; a manager that is known by a name stays alone."""
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            return "127.0.0.1"
        return self.address

    def _url(self, host: str, port: int) -> str:
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[Own]:
    """Run etcd until the end of the block. Raises Failed when it is not installed, or was taken out of its cluster."""
    binary = shutil.which("etcd")
    if binary is None:
        raise Failed(
            "there is no etcd on this host's PATH",
            hint="Install it (Debian: apt-get install etcd-server), or give --etcd with the URL of one that runs.",
        )
    joining = _joining(place)
    own = _prepare(place, joining)
    command = _command(binary, place, joining)
    async with asyncio.TaskGroup() as group:
        up = asyncio.Event()
        keeping = group.create_task(_keep(command, place, own.child, up), name="etcd")
        await up.wait()
        if joining is not None:
            await _promoted(own, joining)
            (place.directory / JOIN_FILE).unlink()
        yield own
        keeping.cancel()


def _joining(place: Place) -> MemberReply | None:
    try:
        return msgspec.json.decode((place.directory / JOIN_FILE).read_bytes(), type=MemberReply)
    except FileNotFoundError:
        return None


def _prepare(place: Place, joining: MemberReply | None) -> Own:
    """Make the certificate that this etcd and its manager show, new at each start; and the CA, at the very first."""
    files = place.directory / "pki"
    files.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = time.time()
    ca_file, ca_key = files / "ca.pem", files / "ca-key.pem"
    if joining is not None:
        ca = pki.Authority(joining.ca, joining.key)
    elif ca_key.exists():
        ca = pki.Authority(ca_file.read_text(), ca_key.read_text())
    else:
        ca = pki.new_authority("etcd", now=now)
    key = pki.new_key()
    who = pki.Identity("etcd", "manager", place.name, "manager")
    certificate = pki.issue(ca, pki.new_csr(key), who, now=now, hosts=place.hosts, life=pki.CA_LIFE)
    write_private(ca_file, ca.certificate)
    write_private(ca_key, ca.key)
    write_private(files / "key.pem", key)
    write_private(files / "certificate.pem", certificate)
    tls = Tls(ca.certificate.encode(), certificate.encode(), key.encode())
    return Own(place.clients[0], place.peer, tls, ca)


def _command(binary: str, place: Place, joining: MemberReply | None) -> list[str]:
    clients = ",".join(place.clients)
    others = {} if joining is None else joining.members
    members = ",".join(f"{name}={url}" for url, name in {**others, place.peer: place.name}.items())
    pki_files = place.directory / "pki"
    ca, certificate, key = (str(pki_files / name) for name in ("ca.pem", "certificate.pem", "key.pem"))
    return [
        # Should this program be killed, the kernel ends its etcd too: the next start must find the data free.
        *("setpriv", "--pdeathsig", "TERM"),
        binary,
        f"--name={place.name}",
        f"--data-dir={place.directory / 'data'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={place.peer}",
        f"--initial-advertise-peer-urls={place.peer}",
        f"--initial-cluster={members}",
        f"--initial-cluster-state={'new' if joining is None else 'existing'}",
        *(f"--trusted-ca-file={ca}", f"--cert-file={certificate}", f"--key-file={key}", "--client-cert-auth"),
        *(f"--peer-trusted-ca-file={ca}", f"--peer-cert-file={certificate}", f"--peer-key-file={key}"),
        "--peer-client-cert-auth",
        f"--quota-backend-bytes={4 * 1024**3}",
        *("--logger=zap", "--log-level=warn"),
    ]


async def _promoted(own: Own, joining: MemberReply) -> None:
    """Have the others give this member its vote, as soon as it has all data."""
    async with Etcd.connect(joining.endpoints, own.tls) as others, asyncio.timeout(PROMOTE_TIMEOUT):
        while True:
            with suppress(EtcdUnavailable, UnknownOutcome):
                mine = [member for member in await others.members.all() if own.peer in member.peers]
                if not mine:
                    raise Failed("the others have taken this manager's etcd out while it joined", hint="Join again.")
                if not mine[0].learner:
                    log.info("this manager's etcd is a member with a vote")
                    return
                try:
                    await others.members.promote(mine[0].id)
                except Refused as error:
                    log.info("this manager's etcd is not ready to vote: %s", error.message)
            await asyncio.sleep(PAUSE / 2)


async def _keep(command: list[str], place: Place, child: Child, up: asyncio.Event) -> None:
    """Start it, and start it again whenever it ends. That it never comes up the first time is an error."""
    log_file = place.directory / "etcd.log"
    while True:
        with open(log_file, "ab") as output:  # noqa: ASYNC230 (a local file, once a start)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C is for the manager, which then ends its etcd last
            )
        try:
            if not up.is_set():
                await _answers(process, place.port, log_file)
                log.info("etcd runs as process %d", process.pid)
                up.set()
            code = await _ended(process, child)
        finally:
            await _stop(process)
        child.trouble = f"its etcd ended: {_why(code, log_file)}"
        if _REMOVED in _last_words(log_file):
            raise Failed(
                "this host's etcd was taken out of the cluster, so that this is no manager any more",
                hint="`stack leave` here ends its membership; after that it can join again.",
            )
        log.warning("etcd is started again, as it ended: %s", _why(code, log_file))
        await asyncio.sleep(PAUSE)


async def _ended(process: asyncio.subprocess.Process, child: Child) -> int:
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLED):
            return await process.wait()
    child.trouble = ""
    return await process.wait()


def _last_words(log_file: Path) -> bytes:
    with open(log_file, "rb") as log_of_etcd:
        log_of_etcd.seek(max(0, log_file.stat().st_size - _LAST_WORDS))
        return log_of_etcd.read()


def _why(code: int, log_file: Path) -> str:
    disk = os.statvfs(log_file.parent)
    if (free := disk.f_bavail * disk.f_frsize) < LEAST_FREE:  # of which its log, on the same disk, may say nothing
        return f"only {free / 2**20:.0f} MiB are free on the disk of {log_file.parent}"
    return f"exit code {code}; its log is {log_file}"


async def _answers(process: asyncio.subprocess.Process, port: int, log_file: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            if process.returncode is None:
                return
        if process.returncode is not None:
            raise Failed(f"etcd does not start: {_why(process.returncode, log_file)}", hint=f"Its log is {log_file}.")
        if time.monotonic() > deadline:
            raise Failed(f"etcd does not answer within {START_TIMEOUT:.0f} s", hint=f"Its log is {log_file}.")
        await asyncio.sleep(POLL)  # a process tells in no other way that it listens


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
