"""Channels: what goes to and fro between a person's command and one task, by way of managers that only pass it on.

A channel is a WebSocket from the command to a manager, and one from the task's agent to the manager that holds its
session. Each message is a frame: a byte for its kind, then its content. The command speaks first, with REQUEST; the
agent's last frame is END or FAILED. A channel that closes before that was cut.

Both sides always read, and keep no more than WINDOW bytes of data that nobody has taken: a sender stops there until the
other grants more. So what is small and matters (a signal, the end) never waits behind data that nobody takes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Literal

import msgspec

from cluster import errors
from cluster.errors import Failed, StackyardError
from cluster.reading import untrusted

WINDOW = 512 * 1024
"""Bytes of data each way that may be under way or lie unread."""

LARGEST_DATA = 32 * 1024
"""Bytes in a frame of data at most."""

SIGNALS = ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "KILL", "CONT", "STOP", "WINCH")
"""What may be sent to the program at the other end."""

Purpose = Literal["exec", "port", "archive", "attach", "signal"]


class Kind(IntEnum):
    """What a frame is. Up is from the command to the task."""

    REQUEST = 0  # up: what is wanted, as JSON
    INPUT = 1  # up: data
    INPUT_END = 2  # up: no more data comes
    RESIZE = 3  # up: rows and columns of the terminal, 16 bits each
    SIGNAL = 4  # up: one of SIGNALS
    OUTPUT = 16  # down: data
    ERROR_OUTPUT = 17  # down: data, of the program's other stream
    OUTPUT_END = 18  # down: no more data comes, though some may still go up
    START = 19  # down: it has begun; the content tells more where there is more to tell
    END = 20  # down: all is done; the exit code, 32 bits
    FAILED = 21  # down: it did not come to its end; the error, as JSON
    GRANT = 32  # both: so many more bytes of data may come, 32 bits


DATA = frozenset({Kind.INPUT, Kind.OUTPUT, Kind.ERROR_OUTPUT})
"""The kinds that count against the window."""


class BrokenChannel(Failed):
    """The other side does not keep to the rules of a channel."""


class ExecRequest(msgspec.Struct, tag="exec", frozen=True, omit_defaults=True):
    """Run a command in a task's container; `env` are NAME=VALUE, `size` rows and columns of the terminal."""

    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    privileged: bool = False
    size: tuple[int, int] | None = None


class BeginRequest(msgspec.Struct, tag="exec-begin", frozen=True, omit_defaults=True):
    """Begin a command in a task's container and leave it alone; END comes when it has begun."""

    command: tuple[str, ...]
    tty: bool = False
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    privileged: bool = False


class PortRequest(msgspec.Struct, tag="port", frozen=True):
    """Connect to a TCP port of a task."""

    port: int


class ReadArchive(msgspec.Struct, tag="archive-read", frozen=True):
    """Give a file or folder of a task's container as a tar archive; START has what is said of it (ArchiveStat)."""

    path: str


class WriteArchive(msgspec.Struct, tag="archive-write", frozen=True):
    """Unpack the tar archive that follows into a folder, with the owners and modes that it tells."""

    path: str


class StatArchive(msgspec.Struct, tag="archive-stat", frozen=True):
    """Tell only what there is at a path: START has an ArchiveStat."""

    path: str


class ArchiveStat(msgspec.Struct, frozen=True):
    """What there is at a path of a container; `target` is where a symbolic link leads."""

    name: str
    size: int
    mode: int
    folder: bool
    target: str = ""


class AttachRequest(msgspec.Struct, tag="attach", frozen=True, omit_defaults=True):
    """Join the program of a task's container: what it prints from now on, its signals and, with `stdin`, its input.

    The channel ends with the container and its exit code; when the person's end goes first, the program goes on.
    START tells whether it has a terminal (`tty`).
    """

    stdin: bool = False
    size: tuple[int, int] | None = None


class SignalRequest(msgspec.Struct, tag="signal", frozen=True, omit_defaults=True):
    """Send a signal (`TERM`, `SIGUSR1`, 9) to the first program of a task's container.

    "" stops it: its own stop signal, and KILL after its grace period; END comes when it has stopped.
    """

    signal: str = ""


Request = (
    ExecRequest | BeginRequest | PortRequest | ReadArchive | WriteArchive | StatArchive | AttachRequest | SignalRequest
)

PURPOSES: dict[type[Request], Purpose] = {
    ExecRequest: "exec",
    BeginRequest: "exec",
    PortRequest: "port",
    ReadArchive: "archive",
    WriteArchive: "archive",
    StatArchive: "archive",
    AttachRequest: "attach",
    SignalRequest: "signal",
}


class OpenChannel(msgspec.Struct, tag="open-channel", frozen=True):
    """Asks an agent to dial in with this one-time ticket, and to do there with the task what is then requested.

    Only a request of that purpose is to be granted: the manager has checked that the caller may have it.
    """

    ticket: str
    task: str
    purpose: Purpose


class _Error(msgspec.Struct, frozen=True, omit_defaults=True):
    error: str
    hint: str = ""
    kind: str = ""


_encoder = msgspec.json.Encoder()
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_error: msgspec.json.Decoder[_Error] = msgspec.json.Decoder(_Error)
_number = struct.Struct("!i")
_size = struct.Struct("!HH")


def frame(kind: Kind, content: bytes | memoryview = b"") -> bytes:
    return bytes((kind,)) + content


def request_frame(request: Request) -> bytes:
    return frame(Kind.REQUEST, _encoder.encode(request))


def size_frame(rows: int, columns: int) -> bytes:
    return frame(Kind.RESIZE, _size.pack(min(rows, 0xFFFF), min(columns, 0xFFFF)))


def number_frame(kind: Literal[Kind.END, Kind.GRANT], number: int) -> bytes:
    return frame(kind, _number.pack(number))


def failure_frame(error: StackyardError) -> bytes:
    """Tell an error as the nearest kind that everyone knows."""
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "cluster.errors")
    return frame(Kind.FAILED, _encoder.encode(_Error(error.message, error.hint, kind)))


def read_frame(message: bytes) -> tuple[Kind, bytes]:
    """Take a message apart. Raises BrokenChannel when it is no frame."""
    try:
        kind = Kind(message[0])
    except (IndexError, ValueError):
        raise BrokenChannel(
            f"a frame of a kind that nobody knows came: {message[:1].hex() or 'an empty one'}"
        ) from None
    if len(message) > LARGEST_DATA + 1 and kind in DATA:
        raise BrokenChannel(f"a frame of {len(message)} bytes came, {LARGEST_DATA + 1} is the most")
    return kind, message[1:]


def read_request(content: bytes) -> Request:
    try:
        return untrusted(_request, content)
    except msgspec.MsgspecError as error:
        raise BrokenChannel(f"the request cannot be read: {error}", hint="Bring all parts to one release.") from error


def read_size(content: bytes) -> tuple[int, int]:
    try:
        rows, columns = _size.unpack(content)
    except struct.error as error:
        raise BrokenChannel(f"a size cannot be read: {error}") from error
    return rows, columns


def read_number(content: bytes) -> int:
    try:
        return int(_number.unpack(content)[0])
    except struct.error as error:
        raise BrokenChannel(f"a number cannot be read: {error}") from error


def read_failure(content: bytes) -> StackyardError:
    try:
        told = untrusted(_error, content)
    except msgspec.MsgspecError as error:
        return BrokenChannel(f"a failure cannot be read: {error}")
    kind = getattr(errors, told.kind, Failed)
    if not (isinstance(kind, type) and issubclass(kind, StackyardError)):
        kind = Failed
    return kind(told.error, hint=told.hint)


class Window:
    """What one side may still send and has to take of data. Each side has one."""

    def __init__(self) -> None:
        self.room = WINDOW
        """Bytes that may be sent now."""
        self._held = 0
        self._taken = 0

    def sent(self, count: int) -> None:
        if count > self.room:
            raise ValueError(f"{count} bytes were sent, {self.room} may be")
        self.room -= count

    def granted(self, count: int) -> None:
        """The other side takes so many more. Raises BrokenChannel when that is more than was ever sent."""
        if not 0 < count <= WINDOW - self.room:
            raise BrokenChannel(f"{count} bytes were granted, {WINDOW - self.room} are out")
        self.room += count

    def received(self, count: int) -> None:
        """Count data that came. Raises BrokenChannel when the other side sends more than it may."""
        self._held += count
        if self._held > WINDOW:
            raise BrokenChannel(f"more than {WINDOW} bytes came that were not granted")

    def taken(self, count: int) -> int:
        """Count data that was used; gives how much is to be granted now, which is 0 while it is little."""
        self._taken += count
        if self._taken < WINDOW // 4:
            return 0
        grant, self._taken = self._taken, 0
        self._held -= grant
        return grant
