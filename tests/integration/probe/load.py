"""Keeps up a load on a web server, and counts what failed: load.py HOST:PORT new|keep-alive RATE.

Prints "ready" after its first requests. When its standard input ends it makes some more, however long that takes, and
prints {"ok", "failed", "errors", "hosts", "seconds"}. A request failed if it was not answered in full, whatever the
reason; only a name that the resolver has not answered for is asked for again.
"""

import asyncio
import json
import socket
import sys
import time

WORKERS = 10
FIRST, AFTER = 2 * WORKERS, 100
PATIENCE = 30.0  # a request that is lost is not answered later either; one on a busy machine is


class Load:
    def __init__(self, host: str, port: int, *, keep: bool, rate: float) -> None:
        self.host, self.port, self.keep, self.rate = host, port, keep, rate
        self.ok = self.failed = 0
        self.errors: list[str] = []
        self.hosts: dict[str, int] = {}
        self.another = asyncio.Condition()

    async def more(self, requests: int) -> None:
        """Wait until so many more requests have been made."""
        end = self.ok + self.failed + requests
        async with self.another:
            await self.another.wait_for(lambda: self.ok + self.failed >= end)

    async def worker(self, number: int) -> None:
        pause = WORKERS / self.rate
        due = time.monotonic() + pause * number / WORKERS
        connection = None
        while True:
            await asyncio.sleep(due - time.monotonic())
            due = max(due + pause, time.monotonic() - 1)
            reused = connection is not None
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = connection or await self.connect()
                    connection = await self.ask(*connection)
            except Exception as error:
                self.failed += 1
                how = f"{'reused' if reused else 'new'}, {time.monotonic() - began:.2f} s"
                self.errors = [*self.errors[-9:], f"{time.strftime('%T')} {type(error).__name__}: {error} ({how})"]
                connection = None
            async with self.another:
                self.another.notify_all()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await loop.getaddrinfo(self.host, self.port, family=socket.AF_INET, type=socket.SOCK_STREAM)
                break
            except socket.gaierror as error:
                if error.errno != socket.EAI_AGAIN:
                    raise
        return await asyncio.open_connection(*found[0][4])

    async def ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        word = "keep-alive" if self.keep else "close"
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {self.host}\r\nConnection: {word}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split()[0])
            body = (await reader.readexactly(length)).decode()
        except BaseException:
            writer.transport.abort()
            raise
        self.ok += 1
        self.hosts[body] = self.hosts.get(body, 0) + 1
        if "connection: close" in head:
            writer.close()
            return None
        return reader, writer


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    load = Load(host, int(port), keep=sys.argv[2] == "keep-alive", rate=float(sys.argv[3]))
    began = time.monotonic()
    workers = [asyncio.create_task(load.worker(number)) for number in range(WORKERS)]
    await load.more(FIRST)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await load.more(AFTER)
    for worker in workers:
        worker.cancel()
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {"ok": load.ok, "failed": load.failed, "errors": load.errors, "hosts": load.hosts, "seconds": seconds}
        )
    )


asyncio.run(main())
