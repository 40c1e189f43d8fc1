"""Files of containers, in and out as tar archives. The engine packs and unpacks them; nothing lies here on the way."""

from __future__ import annotations

import base64
import json
import posixpath

import aiohttp
import msgspec

from agent.channel import Channel, while_listening
from agent.container import Json
from agent.engine import Engine, EngineDown, EngineRefused
from cluster.channel import ArchiveStat, Kind, ReadArchive, StatArchive, WriteArchive
from cluster.errors import NotFound, UserError

_CHUNK = 2**15
_STAT = "X-Docker-Container-Path-Stat"
_FOLDER, _LINK = 1 << 31, 1 << 27
"""Bits of the engine's modes, which are those of Go."""

_IN_MEMORY = ("/proc", "/sys", "/dev")
"""What each container has mounted there."""

ArchiveRequest = ReadArchive | StatArchive | WriteArchive


async def pass_archive(engine: Engine, container: str, channel: Channel, request: ArchiveRequest) -> None:
    """Do one of these requests, unless the other side goes first. Raises NotFound when there is nothing at the path."""
    if await while_listening(channel, _pass(engine, container, channel, request)) == "done":
        await channel.over()


async def _pass(engine: Engine, container: str, channel: Channel, request: ArchiveRequest) -> None:
    path = f"containers/{container}/archive"
    _check(request.path, await engine.ask("inspect a container", "GET", f"containers/{container}/json"))
    try:
        match request:
            case StatArchive():
                async with engine.streaming("look at a path", "HEAD", path, path=request.path) as answer:
                    await channel.send(Kind.START, _stat(answer))
            case ReadArchive():
                async with engine.streaming("read files", "GET", path, path=request.path) as answer:
                    await channel.send(Kind.START, _stat(answer))
                    while data := await answer.content.read(_CHUNK):
                        await channel.send(Kind.OUTPUT, data)
                await channel.send(Kind.OUTPUT_END)
            case WriteArchive():
                await channel.send(Kind.START)
                options = {"noOverwriteDirNonDir": "1"}
                async with engine.streaming(
                    "write files", "PUT", path, channel.input(), path=request.path, **options
                ) as answer:
                    await answer.read()
    except EngineRefused as error:
        if "no such file" in error.message.lower() or "could not find the file" in error.message.lower():
            raise NotFound(f"there is no {request.path} in its container") from error
        if error.message.startswith("status 404"):  # to HEAD no engine says more
            raise NotFound(f"there is no {request.path} in its container") from error
        raise UserError(error.message) from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineDown(f"lost the engine while it copied: {error}") from error
    await channel.end()


def _check(path: str, inspected: Json) -> None:
    """Raise UserError for what a running container has in memory: the engine copies to and from what lies below it."""
    if not inspected["State"].get("Running"):
        return
    mounts = {mount["Destination"] for mount in inspected.get("Mounts") or () if mount["Type"] == "tmpfs"}
    mounts |= {mount["Target"] for mount in inspected["HostConfig"].get("Mounts") or () if mount["Type"] == "tmpfs"}
    mounts |= {*(inspected["HostConfig"].get("Tmpfs") or ()), *_IN_MEMORY}
    stored = {mount["Destination"] for mount in inspected.get("Mounts") or ()} - mounts
    place = posixpath.normpath("/" + path.lstrip("/"))
    *_, nearest = sorted(mount for mount in mounts | stored | {"/"} if _holds(mount, place))
    if nearest in mounts:
        raise UserError(
            f"{path} is in its container's memory (on {nearest}), where the engine copies nothing",
            hint="A command does it: `stack exec TASK cat FILE`, or `stack exec -i TASK sh -c 'cat > FILE'` and input.",
        )


def _holds(mount: str, place: str) -> bool:
    return place == mount or place.startswith(mount.rstrip("/") + "/")


def _stat(answer: aiohttp.ClientResponse) -> bytes:
    told = json.loads(base64.b64decode(answer.headers[_STAT]))
    mode = int(told["mode"])
    target = str(told.get("linkTarget") or "") if mode & _LINK else ""
    stat = ArchiveStat(str(told["name"]), int(told["size"]), mode & 0o777, bool(mode & _FOLDER), target)
    return msgspec.json.encode(stat)
