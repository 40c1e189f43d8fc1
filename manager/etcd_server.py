"""An etcd of this manager's own, for a cluster with one manager: started as a child, kept alive, ended with it.

It listens on the loopback interface only, and to nobody without a certificate of the small CA that lies beside its
data: what etcd holds, such as the cluster's own CA key, is not for every process of this host.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster import pki
from cluster.errors import Failed
from manager.etcd import Tls
from manager.files import write_private

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
PAUSE = 1.0
POLL = 0.05


@dataclass(frozen=True, slots=True)
class Own:
    """How to reach it."""

    endpoint: str
    tls: Tls


@asynccontextmanager
async def running(directory: Path, port: int) -> AsyncIterator[Own]:
    """Run etcd with its data in `directory` until the end of the block. Raises Failed when it is not installed."""
    binary = shutil.which("etcd")
    if binary is None:
        raise Failed(
            "there is no etcd on this host's PATH",
            hint="Install it (Debian: apt-get install etcd-server), or give --etcd with the URL of one that runs.",
        )
    own = _prepare(directory, port)
    command = _command(binary, directory, port)
    async with asyncio.TaskGroup() as group:
        up = asyncio.Event()
        keeping = group.create_task(_keep(command, directory / "etcd.log", port, up), name="etcd")
        await up.wait()
        yield own
        keeping.cancel()


def _prepare(directory: Path, port: int) -> Own:
    """Make the certificates that etcd and its one client know each other by, new at each start."""
    files = directory / "pki"
    files.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = time.time()
    ca, key = pki.new_authority("etcd", now=now), pki.new_key()
    who = pki.Identity("etcd", "manager", "etcd", "manager")
    certificate = pki.issue(ca, pki.new_csr(key), who, now=now, hosts=("127.0.0.1",), life=pki.CA_LIFE)
    write_private(files / "ca.pem", ca.certificate)
    write_private(files / "key.pem", key)
    write_private(files / "certificate.pem", certificate)
    tls = Tls(ca.certificate.encode(), certificate.encode(), key.encode())
    return Own(f"https://127.0.0.1:{port}", tls)


def _command(binary: str, directory: Path, port: int) -> list[str]:
    client, peer = f"https://127.0.0.1:{port}", f"https://127.0.0.1:{port + 1}"
    ca, certificate, key = (str(directory / "pki" / name) for name in ("ca.pem", "certificate.pem", "key.pem"))
    return [
        # Should this program be killed, the kernel ends its etcd too: the next start must find the data free.
        *("setpriv", "--pdeathsig", "TERM"),
        binary,
        "--name=stackyard",
        f"--data-dir={directory / 'data'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=stackyard={peer}",
        *(f"--trusted-ca-file={ca}", f"--cert-file={certificate}", f"--key-file={key}", "--client-cert-auth"),
        *(f"--peer-trusted-ca-file={ca}", f"--peer-cert-file={certificate}", f"--peer-key-file={key}"),
        "--peer-client-cert-auth",
        *("--auto-compaction-mode=periodic", "--auto-compaction-retention=10m"),
        f"--quota-backend-bytes={4 * 1024**3}",
        *("--logger=zap", "--log-level=warn"),
    ]


async def _keep(command: list[str], log_file: Path, port: int, up: asyncio.Event) -> None:
    """Start it, and start it again whenever it ends. That it never comes up the first time is an error."""
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
                await _answers(process, port, log_file)
                log.info("etcd runs as process %d", process.pid)
                up.set()
            code = await process.wait()
        finally:
            await _stop(process)
        log.warning("etcd ended with exit code %d and is started again; its log is %s", code, log_file)
        await asyncio.sleep(PAUSE)


async def _answers(process: asyncio.subprocess.Process, port: int, log_file: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            if process.returncode is None:
                return
        if process.returncode is not None:
            raise Failed(f"etcd does not start (exit code {process.returncode})", hint=f"Its log is {log_file}.")
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
