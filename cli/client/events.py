"""Reads the cluster's events, over whatever happens to managers meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cli.client.transport import Transport
from cluster.errors import Unavailable
from cluster.events import ClusterEvent

_PATIENCE = 60.0
_PAUSE = 0.3


def read(
    transport: Transport, decode: Callable[[bytes], ClusterEvent], query: Mapping[str, Any]
) -> Iterator[ClusterEvent]:
    """Give each event once, and what is said of lost ones. Raises Unavailable when no manager answers for a minute.

    The managers tell the same events in the same order: where one is cut off, another goes on at the revision that was
    seen last, of which some may have been seen.
    """
    asked, heard = dict(query), time.monotonic()
    newest, seen, connected = -1, set[tuple[str, str, str]](), False
    while True:
        try:
            for text in transport.lines("/v1/events", asked):
                connected, heard = True, time.monotonic()
                one = decode(text)
                if one.type == "stream":
                    if one.action == "end":
                        return
                    if one.action == "lost":
                        yield one
                    else:
                        newest, seen = max(newest, one.revision), seen if newest >= one.revision else set()
                    continue
                if one.revision == newest and one.identity in seen:
                    continue
                if one.revision > newest:
                    newest, seen = one.revision, set()
                if one.revision == newest:
                    seen.add(one.identity)
                yield one
        except Unavailable:
            if not connected or time.monotonic() - heard > _PATIENCE:
                raise
        time.sleep(_PAUSE)
        if newest >= 0:
            asked |= {"after": newest, "since": None, "tail": None}
