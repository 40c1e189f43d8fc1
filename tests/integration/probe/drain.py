"""A web server that drains: after SIGTERM it answers whoever still asks, and closes each connection with its answer.

It ends when there has been no connection for a moment, or those that are left have been silent for so many seconds.
"""

import asyncio
import os
import signal
import socket
import sys

SILENCE = 3.0
QUIET = 5
"""Looks in a row, 0.05 s apart, without a connection after which it ends."""
connections: set[asyncio.StreamWriter] = set()
draining = asyncio.Event()
delay = float(os.environ.get("ANSWER_AFTER", "0"))
body = f"{socket.gethostname()} {os.environ.get('VERSION', '')}".encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connections.add(writer)
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(delay)
            close = draining.is_set() or b"connection: close" in request.lower()
            word = b"close" if close else b"keep-alive"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s" % (len(body), word, body))
            await writer.drain()
            if close:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        connections.discard(writer)
        writer.close()


async def main() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, draining.set)
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]) if len(sys.argv) > 1 else 8000, backlog=512)
    await draining.wait()
    quiet = 0
    for _ in range(int(SILENCE / 0.05)):
        await asyncio.sleep(0.05)
        quiet = 0 if connections else quiet + 1
        if quiet == QUIET:  # what waits to be accepted, or was just now, is reset when the listener closes
            break
    server.close()


asyncio.run(main())
