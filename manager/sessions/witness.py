"""The second witness: whether a host whose agent fell silent still answers at its address."""

from __future__ import annotations

import asyncio

PORT = 2377
"""Any port does: a refusal is an answer too."""

PATIENCE = 1.0


async def answers(address: str) -> bool:
    """Tell whether a host's network is alive; the lack of an answer within PATIENCE seconds is a no."""
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(address, PORT)
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
