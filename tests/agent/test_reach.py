"""Commands, archives and ports of containers over channels, on a real engine; tests are the person's end."""

from __future__ import annotations

import asyncio
import io
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from agent.channel import Channel
from agent.container import Phase
from agent.engine import Engine
from agent.known import Known
from agent.reach import Reach
from cluster.channel import (
    LARGEST_DATA,
    PURPOSES,
    WINDOW,
    AttachRequest,
    BeginRequest,
    ExecRequest,
    Kind,
    OpenChannel,
    PortRequest,
    Purpose,
    ReadArchive,
    Request,
    SignalRequest,
    StatArchive,
    WriteArchive,
    frame,
    number_frame,
    read_failure,
    read_frame,
    read_number,
    request_frame,
    size_frame,
)
from cluster.errors import NotFound, StackyardError, Unavailable, UserError
from cluster.protocol import LogsRequest
from tests.engines import BOX, EngineHost
from tests.patience import PATIENCE

TASK = "t1"


class Person:
    """The other end of a channel: grants whatever comes at once, unless it is `slow`."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.slow = False
        self.said: dict[Kind, bytes] = {}
        self.code: int | None = None
        self.failure: StackyardError | None = None
        self.granted = 0
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for message in self.socket:
            kind, content = read_frame(message.data)
            self.said[kind] = self.said.get(kind, b"") + content
            if kind is Kind.END:
                self.code = read_number(content)
            elif kind is Kind.FAILED:
                self.failure = read_failure(content)
            elif kind is Kind.GRANT:
                self.granted += read_number(content)
            elif content and not self.slow and kind in (Kind.OUTPUT, Kind.ERROR_OUTPUT):
                await self.say(number_frame(Kind.GRANT, len(content)))
            self._news.set()

    async def say(self, *frames: bytes) -> None:
        for one in frames:
            await self.socket.send_bytes(one)

    async def types(self, data: bytes) -> None:
        """Send input within the window, then its end."""
        for start in range(0, len(data), LARGEST_DATA):
            await self.until(lambda start=start: start + LARGEST_DATA - self.granted <= WINDOW)  # type: ignore[misc]
            await self.say(frame(Kind.INPUT, data[start : start + LARGEST_DATA]))
        await self.say(frame(Kind.INPUT_END))

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def end(self) -> int:
        await self.until(lambda: self.code is not None or self.failure is not None)
        if self.failure is not None:
            raise self.failure
        assert self.code is not None
        return self.code

    def out(self) -> bytes:
        return self.said.get(Kind.OUTPUT, b"")


class OwnNamespace:
    """As if the tasks' network were the tests' own."""

    async def in_sandbox(self, task: str, work: Callable[[], socket.socket]) -> socket.socket:
        return work()


@pytest.fixture
async def engine(host: EngineHost) -> AsyncIterator[Engine]:
    engine = Engine(host.socket)
    await engine.connect()
    yield engine
    for container in await engine.containers("reach-test"):
        await engine.remove(container, force=True)
    await engine.close()


@pytest.fixture
async def container(engine: Engine) -> str:
    labels = {"com.stackyard.cluster": "reach-test", "com.stackyard.task": TASK}
    body = {"Image": BOX, "Cmd": ["sleep", "1000"], "Labels": labels, "NetworkDisabled": True}
    container = await engine.create("", body)
    await engine.start(container)
    return container


@asynccontextmanager
async def reaching(
    engine: Engine, container: str, request: Request, purpose: Purpose | None = None
) -> AsyncIterator[Person]:
    """Request something over a channel; when the block ends the person goes, and the agent must be done."""
    known = Known()
    known.saw(replace(await engine.inspect(container), task=TASK))
    arrived: asyncio.Queue[Person] = asyncio.Queue()

    async def attend(asked: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        person = Person(socket)
        await arrived.put(person)
        await person.listen()
        return socket

    app = web.Application()
    app.add_routes([web.get("/", attend)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    wanted = OpenChannel("ticket", TASK, purpose or PURPOSES[type(request)])
    try:
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(f"http://127.0.0.1:{runner.addresses[0][1]}/") as dialled:
                serving = asyncio.create_task(Reach(engine, known, OwnNamespace()).serve(Channel(dialled), wanted))
                person = await arrived.get()
                await person.say(request_frame(request))
                try:
                    yield person
                finally:
                    await person.socket.close()
                    await asyncio.wait_for(serving, PATIENCE)
    finally:
        await runner.cleanup()


async def run(engine: Engine, container: str, *command: str) -> bytes:
    async with reaching(engine, container, ExecRequest(command)) as person:
        await person.end()
        return person.out()


async def test_a_command_with_its_streams_and_its_code(engine: Engine, container: str) -> None:
    request = ExecRequest(("sh", "-c", "echo $A; pwd; echo bad >&2; exit 7"), env=("A=b",), workdir="/tmp")
    async with reaching(engine, container, request) as person:
        assert await person.end() == 7
        assert (person.out(), person.said[Kind.ERROR_OUTPUT]) == (b"b\n/tmp\n", b"bad\n")


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc", 126)])
async def test_a_command_that_cannot_be_started(engine: Engine, container: str, command: str, code: int) -> None:
    async with reaching(engine, container, ExecRequest((command,))) as person:
        assert await person.end() == code
        assert command.encode() in person.said[Kind.ERROR_OUTPUT]
        assert person.out() == b""


async def test_a_command_may_end_before_its_input(engine: Engine, container: str) -> None:
    async with reaching(engine, container, ExecRequest(("head", "-c", "2"), stdin=True)) as person:
        typing = asyncio.create_task(person.types(b"y\n" * 10_000_000))
        assert await person.end() == 0
        assert person.out() == b"y\n"
        typing.cancel()
        await asyncio.gather(typing, return_exceptions=True)


async def test_a_command_that_is_begun_goes_on_by_itself(engine: Engine, container: str) -> None:
    words = ("sh", "-c", "sleep 0.5; echo $A >/tmp/begun; pwd >>/tmp/begun")
    async with reaching(engine, container, BeginRequest(words, env=("A=b",), workdir="/tmp")) as person:
        assert await person.end() == 0
    begun = "until grep -q tmp /tmp/begun; do sleep 0.1; done; cat /tmp/begun"
    assert await run(engine, container, "sh", "-c", begun) == b"b\n/tmp\n"


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc", 126)])
async def test_a_command_that_cannot_be_begun(engine: Engine, container: str, command: str, code: int) -> None:
    async with reaching(engine, container, BeginRequest((command,))) as person:
        assert await person.end() == code
        assert command.encode() in person.said[Kind.ERROR_OUTPUT]


async def test_input_is_passed_on_to_its_end(engine: Engine, container: str) -> None:
    data = bytes(range(256)) * 12_000
    async with reaching(engine, container, ExecRequest(("cat",), stdin=True)) as person:
        await person.types(data)
        assert await person.end() == 0
        assert person.out() == data


async def test_a_terminal_has_the_size_that_it_is_given(engine: Engine, container: str) -> None:
    script = "stty size; while ! stty size | grep -q '40 120'; do sleep 0.05; done; echo wider"
    async with reaching(engine, container, ExecRequest(("sh", "-c", script), tty=True, size=(31, 101))) as person:
        await person.until(lambda: b"\n" in person.out())
        await person.say(size_frame(40, 120))
        assert await person.end() == 0
        assert person.out().endswith(b"wider\r\n")


async def test_a_command_may_end_before_its_terminal_has_a_size(engine: Engine, container: str) -> None:
    for _ in range(5):
        async with reaching(engine, container, ExecRequest(("false",), tty=True, size=(31, 101))) as person:
            assert await person.end() == 1 and person.failure is None


async def test_a_slow_reader_holds_the_command_back_and_signals_reach_it_all_the_same(
    engine: Engine, container: str
) -> None:
    async with reaching(engine, container, ExecRequest(("cat", "/dev/zero"))) as person:
        person.slow = True
        await person.until(lambda: len(person.out()) >= WINDOW // 2)
        await person.say(frame(Kind.SIGNAL, b"INT"))
        await asyncio.sleep(0)
        assert len(person.out()) <= WINDOW
        person.slow = False
        await person.say(number_frame(Kind.GRANT, len(person.out())))
        assert await person.end() == 130


async def test_a_signal_reaches_the_whole_group(engine: Engine, container: str) -> None:
    script = "sleep 4321 & echo ready; wait"
    async with reaching(engine, container, ExecRequest(("sh", "-c", script))) as person:
        await person.until(lambda: b"ready" in person.out())
        await person.say(frame(Kind.SIGNAL, b"TERM"))
        assert await person.end() == 143
    assert b"4321" not in await run(engine, container, "ps", "-o", "args")


async def test_a_signal_that_is_sent_before_the_command_has_begun_reaches_it(engine: Engine, container: str) -> None:
    for _ in range(5):
        async with reaching(engine, container, ExecRequest(("sleep", "4321"))) as person:
            await person.until(lambda: Kind.START in person.said)
            await person.say(frame(Kind.SIGNAL, b"TERM"))
            assert await person.end() == 143


@pytest.mark.parametrize("tty", [False, True])
async def test_nothing_is_left_of_a_command_that_is_abandoned(engine: Engine, container: str, tty: bool) -> None:
    request = ExecRequest(("sh", "-c", "echo ready; sleep 4321"), stdin=True, tty=tty)
    async with reaching(engine, container, request) as person:
        await person.until(lambda: b"ready" in person.out())
    async with asyncio.timeout(PATIENCE):
        while b"4321" in await run(engine, container, "ps", "-o", "args"):
            pass  # looking takes a while by itself


async def test_files_in_and_out(engine: Engine, container: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size, member.mode = 700_000, 0o751
        archive.addfile(member, io.BytesIO(bytes(700_000)))
    async with reaching(engine, container, WriteArchive("/tmp")) as person:
        await person.types(packed.getvalue())
        assert await person.end() == 0
    async with reaching(engine, container, ReadArchive("/tmp/file")) as person:
        assert await person.end() == 0
        with tarfile.open(fileobj=io.BytesIO(person.out())) as read:
            assert [(m.name, m.size, m.mode & 0o7777) for m in read.getmembers()] == [("file", 700_000, 0o751)]
    async with reaching(engine, container, StatArchive("/nothing")) as person:
        with pytest.raises(NotFound, match="/nothing"):
            await person.end()


async def test_what_is_in_memory_is_refused_while_it_is_there(engine: Engine) -> None:
    body = {
        "Image": BOX, "Cmd": ["sleep", "1000"], "NetworkDisabled": True,
        "Labels": {"com.stackyard.cluster": "reach-test", "com.stackyard.task": TASK},
        "HostConfig": {
            "Tmpfs": {"/memory": ""},
            "Mounts": [{"Type": "tmpfs", "Target": "/small"}, {"Type": "volume", "Target": "/memory/kept"}],
        },
    }  # fmt: skip
    container = await engine.create("", body)
    await engine.start(container)
    for request in (
        WriteArchive("/memory"), WriteArchive("small/"), ReadArchive("/x/../memory/file"), StatArchive("/proc/version"),
        StatArchive("/dev/shm/x"),
    ):  # fmt: skip
        async with reaching(engine, container, request) as person:
            with pytest.raises(UserError, match="in its container's memory"):
                await person.end()
    for path in ("/memory/kept", "/", "/etc/hosts"):
        async with reaching(engine, container, StatArchive(path)) as person:
            assert await person.end() == 0


async def test_a_connection_has_two_ends_of_its_own(engine: Engine, container: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(-1)
        writer.write(data[::-1])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with reaching(engine, container, PortRequest(port)) as person:
            await person.types(b"123" * 400_000)
            assert await person.end() == 0
            assert person.out() == b"321" * 400_000
    async with reaching(engine, container, PortRequest(port)) as person:
        with pytest.raises(Unavailable, match="nothing listens there"):
            await person.end()


async def test_only_what_the_channel_was_opened_for_is_done(engine: Engine, container: str) -> None:
    async with reaching(engine, container, ExecRequest(("true",)), purpose="port") as person:
        with pytest.raises(StackyardError, match="opened for port"):
            await person.end()


# The container's own program

ECHO = "trap 'echo hup' HUP; trap 'exit 7' TERM; echo begun; while :; do sleep 0.05; done"


@pytest.fixture
async def program(engine: Engine) -> str:
    labels = {"com.stackyard.cluster": "reach-test", "com.stackyard.task": TASK}
    body = {"Image": BOX, "Cmd": ["sh", "-c", ECHO], "Labels": labels, "NetworkDisabled": True}
    container = await engine.create("", body)
    await engine.start(container)
    async with engine.logs(container, LogsRequest(TASK, follow=True)) as frames:
        async for _, data in frames:
            if b"begun" in data:
                break
    return container


async def test_attached_signals_reach_the_program_and_its_end_is_told(engine: Engine, program: str) -> None:
    async with reaching(engine, program, AttachRequest()) as person:
        await person.until(lambda: Kind.START in person.said)
        await person.say(frame(Kind.SIGNAL, b"HUP"))
        await person.until(lambda: b"hup" in person.out())
        await person.say(frame(Kind.SIGNAL, b"TERM"))
        assert await person.end() == 7


async def test_a_program_goes_on_when_the_attached_person_has_gone(engine: Engine, program: str) -> None:
    async with reaching(engine, program, AttachRequest()) as person:
        await person.until(lambda: Kind.START in person.said)
    assert (await engine.inspect(program)).phase is Phase.RUNNING


async def created(engine: Engine, *command: str, **config: object) -> str:
    """A container that is yet to start."""
    labels = {"com.stackyard.cluster": "reach-test", "com.stackyard.task": TASK}
    body = {"Image": BOX, "Cmd": list(command), "Labels": labels, "NetworkDisabled": True, **config}
    return await engine.create("", body)


async def test_nothing_is_missed_of_a_program_that_is_yet_to_start(engine: Engine) -> None:
    container = await created(engine, "sh", "-c", "echo first; cat; exit 7", OpenStdin=True, StdinOnce=True)
    async with reaching(engine, container, AttachRequest(stdin=True)) as person:
        await person.until(lambda: Kind.START in person.said)
        await engine.start(container)
        await person.types(b"second")
        assert await person.end() == 7
        assert person.out() == b"first\nsecond"


async def test_a_terminal_has_its_size_once_its_program_has_begun(engine: Engine) -> None:
    script = "while ! stty size | grep -q '31 101'; do sleep 0.05; done; echo sized"
    container = await created(engine, "sh", "-c", script, Tty=True, OpenStdin=True)
    async with reaching(engine, container, AttachRequest(stdin=True, size=(31, 101))) as person:
        await person.until(lambda: person.said.get(Kind.START) == b"tty")
        await engine.start(container)
        assert await person.end() == 0
        assert person.out().endswith(b"sized\r\n")


async def test_a_program_that_cannot_be_started_has_no_exit_code(engine: Engine) -> None:
    container = await created(engine, "/no/such/program")
    async with reaching(engine, container, AttachRequest()) as person:
        await person.until(lambda: Kind.START in person.said)
        with pytest.raises(StackyardError):
            await engine.start(container)
        await engine.remove(container, force=True)
    assert (person.code, person.failure) == (None, None)


@pytest.mark.parametrize(("signal", "code"), [("", 7), ("TERM", 7), ("KILL", 137)])
async def test_a_signal_is_sent_or_the_container_stopped(engine: Engine, program: str, signal: str, code: int) -> None:
    async with reaching(engine, program, SignalRequest(signal)) as person:
        assert await person.end() == 0
    ended = await engine.ask("wait", "POST", f"containers/{program}/wait")
    assert ended["StatusCode"] == code


async def test_a_signal_that_there_is_not(engine: Engine, program: str) -> None:
    async with reaching(engine, program, SignalRequest("NONSENSE")) as person:
        with pytest.raises(UserError, match="no signal was sent"):
            await person.end()
