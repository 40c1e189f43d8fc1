"""The Docker Engine API: the few calls that the agent makes, each with a bound in time and with its errors sorted.

    EngineDown      it does not answer, or is shutting down: a condition of the node, never a task's failure
    EngineTrouble   it answers with a failure of its own that may pass: the same call is tried again
    EngineRefused   it will not do that, in its own words: the task's fault
    ├── ContainerMissing, ImageMissing
    └── NameTaken   a container of that name is there already

They are sorted in one place, so that nobody else looks at status codes or at an engine's wording.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError, DockerStreamError

from agent.container import (
    LABEL_CLUSTER,
    Event,
    Foreign,
    Image,
    Json,
    Observed,
    Phase,
    image_from,
    observe,
    phase_from,
    platforms_from,
)
from agent.demultiplexer import Demultiplexer
from agent.engine_facts import EngineFacts, facts_from, peer_started_at
from agent.hijack import Hijacked, hijacked
from cluster.errors import Failed, StackyardError, Unavailable
from cluster.protocol import STDOUT, LogsRequest

log = logging.getLogger(__name__)

OLDEST_API, NEWEST_API = (1, 41), (1, 47)
"""Engine 20.10 speaks up to 1.41; 29 refuses what is older than 1.44. The newest that both sides know is used."""

_QUICK = aiohttp.ClientTimeout(total=30)
_SLOW = aiohttp.ClientTimeout(total=120)
_ENDLESS = aiohttp.ClientTimeout(total=None, connect=10)
_NO_PROGRESS = 120.0
PING, SILENCE = 3.0, 10.0
"""Seconds between two looks at whether the engine still answers at all, and how long it may take for that."""
_HANGS = "the Docker Engine hangs: it takes connections and answers nothing"
_CHUNK = 2**15
_EVENTS = "start die destroy oom health_status reload pull load import tag untag delete".split()
_ON_THE_WAY = re.compile(
    r"^(failed to create (shim )?task( for container)?: )*OCI runtime create failed: (\w+ create failed: )?"
)
"""What the engine puts before a runtime's reason, which is what a person wants to read."""

_GOING = re.compile(
    r"shutting down|containerd.*(not running|connection)|transport is closing|connection error: desc|"
    r"cannot connect to the docker daemon|containerd\.sock",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(
    r"not found|manifest unknown|does not exist|access denied|denied:|unauthorized|authentication required|"
    r"no matching manifest|invalid reference|invalid repository",
    re.IGNORECASE,
)


class EngineDown(Unavailable):
    """The engine does not answer; what is asked of it waits until it does."""


class EngineTrouble(Failed):
    """The engine answered with a failure of its own; the same call may work later."""


class EngineRefused(Failed):
    """The engine will not do what was asked; the message is the engine's."""


class ContainerMissing(EngineRefused):
    """There is no such container."""


class ImageMissing(EngineRefused):
    """The engine has no such image."""


class NameTaken(EngineRefused):
    """A container of that name is there already."""


class Engine:
    """One Docker Engine behind a UNIX socket. Call `connect` first, and again whenever it was down."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.facts: EngineFacts | None = None
        self._docker: aiodocker.Docker | None = None
        self._connector: aiohttp.UnixConnector | None = None

    async def close(self) -> None:
        docker, self._docker, self.facts = self._docker, None, None
        connector, self._connector = self._connector, None
        if docker is not None:
            await docker.close()
        if connector is not None:
            await connector.close()

    def forget(self) -> None:
        """The engine is lost: every call raises EngineDown until `connect` succeeds."""
        self.facts = None

    async def connect(self) -> EngineFacts:
        """Agree on an API version and read what the engine is. Raises EngineDown."""
        await self.close()
        if not self.socket.is_socket():
            raise EngineDown(
                f"there is no Docker Engine at {self.socket}",
                hint="Start it (systemctl start docker), or name its socket with --engine.",
            )
        # as many connections as are wanted: logs that are followed hold theirs
        self._connector = aiohttp.UnixConnector(str(self.socket), limit=0)
        self._docker = docker = aiodocker.Docker(
            "unix://localhost", api_version="v1.41", timeout=_QUICK, connector=self._connector
        )
        with self._sorted("GET version"):
            version = await docker._query_json("version", versioned_api=False)
            newest, oldest = _version(version["ApiVersion"]), _version(version.get("MinAPIVersion", "1.12"))
            api = min(NEWEST_API, newest)
            if api < OLDEST_API or api < oldest:
                raise EngineDown(
                    f"Docker Engine {version['Version']} speaks API {version.get('MinAPIVersion')} to "
                    f"{version['ApiVersion']}, this agent {_text(OLDEST_API)} to {_text(NEWEST_API)}",
                    hint="Use Docker Engine 20.10 or newer." if api < OLDEST_API else "Upgrade this agent.",
                )
            docker.api_version = f"v{_text(api)}"
            self.facts = facts = facts_from(await docker.system.info(), api, peer_started_at(self.socket))
        return facts

    async def refresh(self) -> EngineFacts:
        """Read again what the engine is, after it reloaded its configuration."""
        with self._sorted("GET info"):
            info = await self._api.system.info()
        if self.facts is None:
            raise EngineDown("the engine went away while it was asked")
        self.facts = facts_from(info, self.facts.api, self.facts.started_at)
        return self.facts

    async def create(self, name: str, body: Json, platform: str = "") -> str:
        """Create a container and give its id. Raises NameTaken, ImageMissing, or EngineRefused in its words.

        What the engine's own host cannot do it leaves out with a warning, which is logged.
        """
        params = {key: value for key, value in (("name", name), ("platform", platform)) if value}
        with self._sorted(f"create container {name}"):
            made = await self._api._query_json("containers/create", method="POST", data=body, params=params)
        for warning in made.get("Warnings") or ():
            log.warning("container %s: the engine says: %s", name, warning)
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Start a container; one that runs already is no error."""
        with self._sorted(f"start container {container[:12]}"):
            await self._api.containers.container(container).start()

    async def stop(self, container: str, grace: float) -> None:
        """Stop a container with the signal and within the grace period that it was created with.

        `grace` bounds the wait for the answer only. One that does not run is no error.
        """
        timeout = aiohttp.ClientTimeout(total=grace + 60)
        with self._sorted(f"stop container {container[:12]}"):
            await self._api.containers.container(container).stop(timeout=timeout)

    async def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container and its anonymous volumes; one that is not there, or is being removed, is no error."""
        with self._sorted(f"remove container {container[:12]}"):
            try:
                await self._api.containers.container(container).delete(v=True, force=force, timeout=_SLOW)
            except DockerError as error:
                if error.status != 404 and "already in progress" not in error.message:
                    raise

    async def inspect(self, container: str) -> Observed:
        """Say how a container (by id or name) is. Raises ContainerMissing."""
        with self._sorted(f"inspect container {container[:12]}"):
            return observe(await self._api.containers.container(container).show())

    async def inspect_anew(self, container: str) -> Observed:
        """As `inspect`, over a connection of its own: an engine that shuts down takes none, while old ones go on."""
        with self._sorted(f"inspect container {container[:12]}"):
            connector = aiohttp.UnixConnector(str(self.socket), force_close=True)
            async with aiohttp.ClientSession(connector=connector, timeout=_QUICK) as session:
                async with session.get(self._url(f"containers/{container}/json")) as answer:
                    if answer.status >= 400:
                        raise DockerError(answer.status, await _message(answer))
                    return observe(await answer.json())

    async def containers(self, cluster: str) -> dict[str, Phase]:
        """List all containers of a cluster, running or not."""
        filters = json.dumps({"label": [f"{LABEL_CLUSTER}={cluster}"]})
        with self._sorted("list containers"):
            listed = await self._api.containers.list(all=True, filters=filters)
        return {c.id: phase_from(c["State"]) for c in listed}

    async def stats(self, container: str) -> Json:
        """Read a container's counters as they are now. Raises ContainerMissing."""
        path, now = f"containers/{container}/stats", {"stream": "false", "one-shot": "true"}
        with self._sorted(f"read the counters of container {container[:12]}"):
            return dict(await self._api._query_json(path, params=now))

    async def disk(self) -> Json:
        """Have the engine sum up what lies on its disk. Raises EngineTrouble while it does so for somebody else."""
        with self._sorted("sum up what is on the disk"):
            return dict(await self._api._query_json("system/df", timeout=_SLOW))

    async def volume(self, name: str) -> dict[str, str] | None:
        """Give a volume's labels; None when there is no such volume."""
        with self._sorted(f"inspect volume {name}"):
            try:
                found = await self._api._query_json(f"volumes/{name}")
            except DockerError as error:
                if error.status == 404:
                    return None
                raise
        return dict(found.get("Labels") or {})

    async def create_volume(self, body: Json) -> None:
        """Make a volume; one of that name that is there already stays as it is."""
        with self._sorted(f"create volume {body['Name']}"):
            await self._api._query_json("volumes/create", method="POST", data=body)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume with its data; one that is not there is no error. Raises EngineTrouble while it is in use."""
        with self._sorted(f"remove volume {name}"):
            try:
                async with self._api._query(f"volumes/{name}", method="DELETE"):
                    pass
            except DockerError as error:
                if error.status != 404:
                    raise

    async def image(self, reference: str) -> Image | None:
        """Say what the engine has under this name, if anything."""
        with self._sorted(f"inspect image {reference}"):
            try:
                return image_from(await self._api.images.inspect(reference))
            except DockerError as error:
                if error.status == 404:
                    return None
                raise

    async def look_up(self, reference: str) -> tuple[str, tuple[str, ...]]:
        """Ask the image's registry what the name means now: its digest, and the platforms that it is made for.

        The host's own images do not matter.
        """
        with self._sorted(f"look up image {reference}"):
            found = await self._api._query_json(f"distribution/{reference}/json")
        return str(found["Descriptor"]["digest"]), platforms_from(found.get("Platforms") or ())

    async def pull(self, reference: str, platform: str = "") -> None:
        """Fetch an image, for another platform than this host's if one is given.

        Raises EngineRefused when there is none for us, EngineTrouble when it may be had later.
        """
        try:
            with self._sorted(f"pull image {reference}"):
                async with asyncio.timeout(_NO_PROGRESS) as limit:
                    async for _ in self._api.images.pull(reference, platform=platform or None, stream=True):
                        limit.reschedule(asyncio.get_running_loop().time() + _NO_PROGRESS)
        except (EngineRefused, EngineTrouble) as error:
            reason = error.message
            if _NOT_THERE.search(reason):
                raise EngineRefused(
                    f"image {reference} cannot be had: {reason}",
                    hint="Check its name; a private registry wants a login, which is not supported yet.",
                ) from error
            raise EngineTrouble(f"image {reference} cannot be pulled now: {reason}") from error

    @asynccontextmanager
    async def events(self, cluster: str) -> AsyncIterator[AsyncIterator[Event | Foreign | str]]:
        """Subscribe to what happens to a cluster's containers; "images" and "engine" tell of changes there.

        Of containers that are in no cluster it tells which one started, ended or went.

        The iterator ends when the engine goes away, and raises EngineDown when it is there and answers no more. What
        happened before the subscription is not told: list then.
        """
        filters = json.dumps({"type": ["container", "image", "daemon"], "event": _EVENTS})
        with self._sorted("subscribe to events"):
            answer = await self._api.session.get(
                self._url("events"), params={"filters": filters}, timeout=_ENDLESS, read_bufsize=2**20
            )
        try:
            if answer.status >= 400:
                raise EngineDown(f"the engine gives no events: {await _message(answer)}")
            watching = asyncio.create_task(self._watch(answer))
            try:
                yield _read_events(answer, cluster, watching)
            finally:
                watching.cancel()
        finally:
            answer.close()

    async def _watch(self, answer: aiohttp.ClientResponse) -> None:
        """Close a stream once the engine hangs: of that a connection on which nothing comes says nothing."""
        while True:
            await asyncio.sleep(PING)
            try:
                async with self._api.session.get("http://engine/_ping", timeout=aiohttp.ClientTimeout(total=SILENCE)):
                    pass
            except TimeoutError:
                answer.close()
                return
            except (EngineDown, aiohttp.ClientError, OSError):
                continue  # the stream itself tells of an engine that has gone

    @asynccontextmanager
    async def logs(self, container: str, request: LogsRequest) -> AsyncIterator[AsyncIterator[tuple[bytes, bytes]]]:
        """Read a container's log as (STDOUT or STDERR, bytes). Who reads slowly slows the engine: nothing piles up."""
        params = {
            "stdout": "1",
            "stderr": "1",
            "follow": str(int(request.follow)),
            "timestamps": str(int(request.timestamps)),
            "tail": "all" if request.tail is None else str(request.tail),
        }
        if request.since is not None:
            params["since"] = f"{request.since:.9f}"
        if request.until is not None:
            params["until"] = f"{request.until:.9f}"
        with self._sorted(f"read the log of container {container[:12]}"):
            details = await self._api.containers.container(container).show()
            answer = await self._api.session.get(
                self._url(f"containers/{container}/logs"), params=params, timeout=_ENDLESS
            )
        try:
            with self._sorted(f"read the log of container {container[:12]}"):
                if answer.status >= 400:
                    raise DockerError(answer.status, await _message(answer))
            yield _read_raw(answer) if details["Config"]["Tty"] else _read_frames(answer)
        finally:
            answer.close()

    async def ask(self, what: str, method: str, path: str, body: Json | None = None, /, **params: str) -> Json:
        """Make a call that has no name of its own here; gives the answer's object, {} where there is none."""
        with self._sorted(what):
            sent = None if body is None else json.dumps(body)
            async with self._api._query(path, method=method, data=sent, params=params) as answer:
                data = await answer.read()
        return dict(json.loads(data)) if data.lstrip().startswith(b"{") else {}

    @asynccontextmanager
    async def streaming(
        self, what: str, method: str, path: str, body: AsyncIterable[bytes] | None = None, /, **params: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call with bodies of any length, which take the time that they take."""
        with self._sorted(what):
            session = self._api.session
            answer = await session.request(method, self._url(path), params=params, data=body, timeout=_ENDLESS)
        try:
            with self._sorted(what):
                if answer.status >= 400:
                    raise DockerError(answer.status, await _message(answer))
            yield answer
        finally:
            answer.close()

    @asynccontextmanager
    async def upgraded(self, what: str, path: str, body: Json) -> AsyncIterator[Hijacked]:
        """Have a call turned into a stream of bytes both ways, which is closed after the block."""
        async with AsyncExitStack() as stack:
            with self._sorted(what):
                target = f"/{self._api.api_version}/{path}"
                stream = await stack.enter_async_context(hijacked(self.socket, target, body))
            yield stream

    @property
    def _api(self) -> aiodocker.Docker:
        if self._docker is None or self.facts is None:
            raise EngineDown("the engine is not connected")
        return self._docker

    def _url(self, path: str) -> str:
        return f"http://engine/{self._api.api_version}/{path}"

    @contextmanager
    def _sorted(self, what: str) -> Iterator[None]:
        """Sort what a call raises, once and here."""
        docker = self._docker
        try:
            yield
        except DockerStreamError as error:
            raise EngineTrouble(error.message) from error
        except DockerError as error:
            raise _sort(what, error.status, error.message) from error
        except TimeoutError as error:
            if self.facts is None:
                raise EngineDown(_HANGS) from error
            raise EngineTrouble(f"the engine did not answer in time: {what}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineDown(f"lost the engine at {self.socket} ({what}): {error}") from error
        except (AssertionError, RuntimeError) as error:
            if self._docker is docker:
                raise
            # what aiohttp raises when it tries again what was cut by `close`
            raise EngineDown(f"the connection to the engine was closed ({what})") from error


def _sort(what: str, status: int, message: str) -> StackyardError:
    if status == 900 or _GOING.search(message):  # 900 is aiodocker's own, for a connection that failed
        return EngineDown(f"the engine does not answer ({what}): {message}")
    if status == 404:
        if "No such container" in message:
            return ContainerMissing(message)
        if "No such image" in message or ("image" in message.lower() and "not found" in message):
            return ImageMissing(message)
        return EngineRefused(message)
    if status == 409 and "is already in use" in message:
        return NameTaken(message)
    if status in (409, 429) or (status >= 500 and "OCI runtime" not in message):
        return EngineTrouble(message)
    return EngineRefused(_ON_THE_WAY.sub("", message).removesuffix(": unknown"))


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


async def _message(answer: aiohttp.ClientResponse) -> str:
    text = await answer.text()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or f"status {answer.status}"


async def _read_events(
    answer: aiohttp.ClientResponse, cluster: str, watching: asyncio.Task[None]
) -> AsyncIterator[Event | Foreign | str]:
    """Give what the stream tells, until it ends or is closed by whoever was `watching`."""
    try:
        async for line in answer.content:
            data: dict[str, Any] = json.loads(line)
            kind, actor = data.get("Type"), data.get("Actor") or {}
            attributes = actor.get("Attributes") or {}
            if kind == "image":
                yield "images"
            elif kind == "daemon":
                yield "engine"
            elif kind == "container" and LABEL_CLUSTER not in attributes:
                if data["Action"] in ("start", "die", "destroy"):
                    yield Foreign(actor["ID"])
            elif attributes.get(LABEL_CLUSTER) == cluster:
                yield Event(data["Action"], actor["ID"], data["timeNano"] / 1e9, attributes)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if watching.done():
            raise EngineDown(_HANGS) from error
        log.info("the engine's events broke off: %s", error)


async def _read_raw(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[bytes, bytes]]:
    """The log of a container with a terminal is one stream without frames."""
    while chunk := await _read(answer, _CHUNK):
        yield STDOUT, chunk


async def _read_frames(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[bytes, bytes]]:
    frames = Demultiplexer()
    while chunk := await _read(answer, _CHUNK):
        for part in frames.feed(chunk):
            yield part


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    try:
        return await answer.content.read(most)
    except (aiohttp.ClientError, OSError) as error:
        raise EngineDown(f"the engine ended a log early: {error}") from error
