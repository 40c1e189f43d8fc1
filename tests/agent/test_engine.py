from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.container import Event, Foreign, Phase
from agent.engine import (
    ContainerMissing,
    Engine,
    EngineDown,
    EngineRefused,
    EngineTrouble,
    ImageMissing,
    NameTaken,
)
from cluster.protocol import STDERR, STDOUT, LogsRequest
from tests.engines import BOX, REGISTRY, EngineHost

LABELS = {"com.stackyard.cluster": "engine-test", "com.stackyard.task": "t1"}


@pytest.fixture
async def engine(host: EngineHost) -> AsyncIterator[Engine]:
    engine = Engine(host.socket)
    await engine.connect()
    yield engine
    for container in await engine.containers("engine-test"):
        await engine.remove(container, force=True)
    await engine.close()


async def box(engine: Engine, *command: str, **fields: object) -> str:
    """Create a container that needs no agent."""
    body = {"Image": BOX, "Cmd": list(command), "Labels": LABELS, "NetworkDisabled": True, **fields}
    return await engine.create("", body)


async def read_log(engine: Engine, container: str, **request: object) -> dict[bytes, bytes]:
    found = {STDOUT: b"", STDERR: b""}
    async with engine.logs(container, LogsRequest("t1", **request)) as frames:  # type: ignore[arg-type]
        async for source, data in frames:
            found[source] += data
    return found


async def ended(engine: Engine, container: str) -> None:
    async with engine.events("engine-test") as events:
        if (await engine.inspect(container)).phase is not Phase.EXITED:
            async for _ in _until(events, "die"):
                pass


async def test_the_newest_api_that_both_sides_know_is_used(engine: Engine, host: EngineHost) -> None:
    facts = await engine.connect()
    version = host.call("GET", "/version")
    assert version["Version"] == facts.version
    assert facts.api == min((1, 47), tuple(map(int, version["ApiVersion"].split("."))))
    assert facts.troubles == {}
    assert facts.cpus > 0
    assert facts.started_at > 0


async def test_a_container_lives_and_its_life_is_told_in_events(engine: Engine) -> None:
    async with engine.events("engine-test") as events:
        container = await box(engine, "sh", "-c", "exit 3")
        assert (await engine.inspect(container)).phase is Phase.CREATED
        await engine.start(container)
        told = [event async for event in _until(events, "die")]
        assert [event.action for event in told] == ["start", "die"]
        assert {event.container for event in told} == {container}
        assert told[-1].attributes["exitCode"] == "3"
        seen = await engine.inspect_anew(container)
        assert (seen.task, seen.phase, seen.exit_code) == ("t1", Phase.EXITED, 3)
        assert seen.started_at is not None and seen.finished_at is not None
        assert abs(seen.finished_at - told[-1].at) < 60, "events and instants are of one clock"
        assert await engine.containers("engine-test") == {container: Phase.EXITED}
        await engine.remove(container)
        assert [event.action async for event in _until(events, "destroy")] == ["destroy"]
    with pytest.raises(ContainerMissing):
        await engine.inspect(container)
    await engine.remove(container)  # is no error


async def _until(events: AsyncIterator[Event | Foreign | str], action: str) -> AsyncIterator[Event]:
    async for event in events:
        if isinstance(event, Event):
            yield event
            if event.action == action:
                return


async def test_stop_lets_a_container_end_in_its_own_time_and_no_longer(engine: Engine) -> None:
    tidy = await box(engine, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done", StopTimeout=20)
    stubborn = await box(engine, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", StopTimeout=1)
    await engine.start(tidy)
    await engine.start(stubborn)
    await asyncio.gather(engine.stop(tidy, 20), engine.stop(stubborn, 1))
    assert (await engine.inspect(tidy)).exit_code == 0
    assert (await engine.inspect(stubborn)).exit_code == 137
    await engine.stop(tidy, 20)  # is no error


async def test_a_log_comes_with_its_two_sources_apart(engine: Engine) -> None:
    container = await box(engine, "sh", "-c", "echo out; echo err >&2; echo end")
    await engine.start(container)
    await ended(engine, container)
    assert await read_log(engine, container) == {STDOUT: b"out\nend\n", STDERR: b"err\n"}
    stamped = (await read_log(engine, container, timestamps=True))[STDERR]
    assert stamped.endswith(b"Z err\n") and stamped[:2] == b"20"


async def test_a_followed_log_ends_with_its_container(engine: Engine) -> None:
    container = await box(engine, "sh", "-c", "echo one; sleep 0.3; echo two")
    await engine.start(container)
    assert (await read_log(engine, container, follow=True))[STDOUT] == b"one\ntwo\n"
    assert (await read_log(engine, container, tail=1))[STDOUT] == b"two\n"


async def test_the_log_of_a_terminal_is_one_stream(engine: Engine) -> None:
    container = await box(engine, "sh", "-c", "echo out; echo err >&2", Tty=True)
    await engine.start(container)
    await ended(engine, container)
    assert await read_log(engine, container) == {STDOUT: b"out\r\nerr\r\n", STDERR: b""}


async def test_a_long_log_is_read_at_the_readers_pace(engine: Engine) -> None:
    container = await box(engine, "sh", "-c", "head -c 3000000 /dev/zero")
    await engine.start(container)
    await ended(engine, container)
    assert len((await read_log(engine, container))[STDOUT]) == 3_000_000


async def test_the_log_of_a_container_that_is_not_there_is_refused(engine: Engine) -> None:
    with pytest.raises(ContainerMissing):
        await read_log(engine, "f" * 64)


async def test_an_image_is_pulled_and_known(engine: Engine, host: EngineHost) -> None:
    host.push_box("shop/box:7")
    reference = f"{REGISTRY}/shop/box:7"
    assert await engine.image(reference) is None
    await engine.pull(reference)
    assert await engine.image(reference) is not None
    host.call("DELETE", f"/images/{reference}")


async def test_an_image_runs_by_digest_though_its_tag_means_another_one_by_now(
    engine: Engine, host: EngineHost
) -> None:
    name = f"{REGISTRY}/shop/moving:1"
    host.push_box("shop/moving:1")
    before, platforms = await engine.look_up(name)
    pinned = f"{name}@{before}"
    await engine.pull(pinned)
    old = await engine.image(pinned)
    host.load_box("ENV NEW=1", name=name)
    host.push(name)
    after, _ = await engine.look_up(name)
    assert (before[:7], after[:7]) == ("sha256:", "sha256:")
    assert before != after
    assert old is not None and platforms == (old.platform,)
    assert await engine.image(pinned) == old, "that it is there already is seen, so it is not pulled again"
    await engine.create("pinned", {"Image": pinned, "Cmd": ["true"], "Labels": LABELS})
    [shown] = [one for one in host.containers() if one["Names"] == ["/pinned"]]
    assert shown["ImageID"] == old.id
    assert shown["Image"].startswith(name)


@pytest.mark.parametrize("reference", [f"{REGISTRY}/shop/nothing:1", "127.0.0.1:1/box:1"])
async def test_a_registry_that_does_not_know_has_no_digest(engine: Engine, reference: str) -> None:
    with pytest.raises((EngineRefused, EngineTrouble)):
        await engine.look_up(reference)


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        pytest.param(f"{REGISTRY}/shop/nothing:1", EngineRefused, id="there is none of that name"),
        pytest.param("127.0.0.1:1/box:1", EngineTrouble, id="the registry does not answer"),
        pytest.param(f"{REGISTRY}/UPPER:1", EngineRefused, id="it is no name"),
    ],
)
async def test_an_image_that_cannot_be_had_is_told_with_the_cause(
    engine: Engine, reference: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"image .* cannot be") as told:
        await engine.pull(reference)
    assert reference in str(told.value)


async def test_errors_are_sorted(engine: Engine) -> None:
    with pytest.raises(ImageMissing):
        await engine.create("x", {"Image": "not/here:1"})
    with pytest.raises(EngineRefused, match=r"no such file|not found"):
        await engine.start(await box(engine, "/no/such/program"))
    with pytest.raises(EngineRefused):
        await engine.create("", {"Image": BOX, "HostConfig": {"Memory": 1}})
    body = {"Image": BOX, "Cmd": ["true"], "Labels": LABELS}
    await engine.create("taken", body)
    with pytest.raises(NameTaken):
        await engine.create("taken", body)
    running = await box(engine, "sleep", "100")
    await engine.start(running)
    await engine.start(running)  # is no error
    with pytest.raises(EngineTrouble):
        await engine.remove(running)


async def test_a_call_on_its_way_when_all_is_closed_has_lost_the_engine(engine: Engine, host: EngineHost) -> None:
    await engine.containers("engine-test")  # which leaves a connection, for aiohttp to try again with another
    host.hang_engine()
    try:
        asked = asyncio.create_task(engine.containers("engine-test"))
        for _ in range(20):
            await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EngineDown):
            await asked
    finally:
        host.let_engine_go_on()
        await engine.connect()


async def test_without_an_engine_there_is_a_sentence_that_helps(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "docker.sock")
    with pytest.raises(EngineDown, match=r"no Docker Engine at .*docker\.sock\n.*systemctl start docker"):
        await engine.connect()
    with pytest.raises(EngineDown):
        await engine.inspect("x")
    await engine.close()


async def test_a_program_that_is_not_there_is_told_without_the_way_that_the_news_took(engine: Engine) -> None:
    container = await box(engine, "nosuchprog")
    with pytest.raises(EngineRefused, match=r'^[^:]*: exec: "nosuchprog": executable file not found in [$]PATH$'):
        await engine.start(container)
