"""Carries bytes between a channel and file descriptors, each way at its reader's pace, until the channel ends."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Mapping

from cli.client.channel import PING_AFTER, Channel
from cluster.channel import LARGEST_DATA, Kind, read_failure, read_number
from cluster.errors import StackyardError, Unavailable

_PIPE = 4096
"""Bytes that a pipe takes without making us wait, once it is said to be writable."""


class Pump:
    """`source` is where input comes from (None: there is none), `sinks` where each kind of output goes.

    `started` is given what the other side says when it begins, `ended` is called when no more output comes; `signals`
    is a descriptor that is read as soon as it can be, by `signalled`. `read` is given what comes in, and gives what
    of it is passed on.
    """

    def __init__(
        self,
        channel: Channel,
        source: int | None,
        sinks: Mapping[Kind, int],
        *,
        started: Callable[[bytes], None] | None = None,
        ended: Callable[[], None] | None = None,
        signals: int | None = None,
        signalled: Callable[[], None] | None = None,
        read: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._channel, self._source = channel, source
        self._sinks = dict(sinks)
        self._unwritten: dict[int, bytearray] = {sink: bytearray() for sink in sinks.values()}
        self._most = {sink: _PIPE if _blocks(sink) else LARGEST_DATA for sink in self._unwritten}
        self._started, self._ended = started, ended
        self._output_ended = False
        self._signals, self._signalled = signals, signalled
        self._passed_on = read
        self._code: int | None = None
        self._failure: StackyardError | None = None

    def run(self) -> int:
        """Carry until the end and give the exit code. Raises what the other side tells, and Unavailable when cut."""
        channel = self._channel
        while True:
            self._handle(channel.receive())
            if not any(self._unwritten.values()):
                if self._code is not None:
                    return self._code
                if self._failure is not None:
                    raise self._failure
                if channel.closed:
                    raise Unavailable("the connection was cut", hint="A manager or agent went: see `stack node ls`.")
            self._wait()

    def _wait(self) -> None:
        channel = self._channel
        reading: list[int] = [] if channel.closed else [channel.fileno()]
        if self._source is not None and channel.room and self._code is None and not channel.closed:
            reading.append(self._source)
        if self._signals is not None:
            reading.append(self._signals)
        writing = [sink for sink, data in self._unwritten.items() if data]
        if channel.unsent and not channel.closed:
            writing.append(channel.fileno())
        readable, writable, _ = select.select(reading, writing, [], PING_AFTER)
        if self._signals in readable and self._signalled is not None:
            self._signalled()
        for sink in writable:
            if sink in self._unwritten:
                self._write(sink)
        if self._source is not None and self._source in readable:
            self._read(self._source)
        if not channel.closed:
            channel.check()
            channel.flush()

    def _handle(self, frames: list[tuple[Kind, bytes]]) -> None:
        for kind, content in frames:
            if kind in self._sinks:
                self._unwritten[self._sinks[kind]] += content
            elif kind is Kind.START and self._started is not None:
                self._started(content)
            elif kind is Kind.OUTPUT_END:
                self._output_ended = True
            elif kind is Kind.END:
                self._code = read_number(content)
            elif kind is Kind.FAILED:
                self._failure = read_failure(content)
        if self._output_ended and self._ended is not None and not any(self._unwritten.values()):
            self._ended()
            self._ended = None

    def _read(self, source: int) -> None:
        try:
            data = os.read(source, self._channel.room)
        except BlockingIOError:
            return
        except OSError:  # a terminal or peer that has gone
            data = b""
        if data:
            if passed := data if self._passed_on is None else self._passed_on(data):
                self._channel.send(Kind.INPUT, passed)
        else:
            self._channel.send(Kind.INPUT_END)
            self._source = None

    def _write(self, sink: int) -> None:
        data = self._unwritten[sink]
        try:
            count = os.write(sink, data[: self._most[sink]])
        except BlockingIOError:
            return
        del data[:count]
        self._channel.taken(count)


def _blocks(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
