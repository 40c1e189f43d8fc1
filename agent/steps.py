"""How each step is done: the order of calls to the engine and to the node's networks, and how many at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from agent.container import Image, ImageWish, Observed, Phase, image_wish, started
from agent.converge import Clean, Deliver, Inspect, Launch, Memory, Pull, Restart, Step, Stop, after_restart
from agent.create import (
    Host,
    container_name,
    create_request,
    expanded,
    has_healthcheck,
    needed_sources,
    task_files,
    volumes_to_make,
)
from agent.engine import ContainerMissing, Engine, EngineDown, EngineRefused, EngineTrouble, NameTaken
from agent.known import Known
from agent.last_words import MOST_LINES, check_said, last_lines
from agent.secrets import Secrets
from agent.timings import Timings
from agent.turns import Turns
from cluster.assignments import Item, ServiceItem
from cluster.errors import StackyardError
from cluster.model.network import Endpoint
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.protocol import LogsRequest

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Starts, and apart from them stops and removals, that the engine is given at a time: with more it gets no faster."""
_QUICK_STOP = 0.25
"""A stop that takes longer waits for a grace period, and no longer counts among those at a time."""
_LONGEST_GRACE = 600.0
_LOG_TIMEOUT = 2.0
_LAST_WORDS = LogsRequest("", tail=MOST_LINES)
_ENOUGH_LOG = 65536
_LATE_EVENT = 1.0


class Network(Protocol):
    """What the steps and the runner need of the node's networks (agent.networks.Networks)."""

    async def apply(self, items: Iterable[Item], *, prune: bool = True) -> None: ...
    async def create_sandbox(self, task: str, endpoints: Collection[Endpoint]) -> Path: ...
    async def delete_sandbox(self, task: str) -> None: ...
    async def link_container(self, container: str, task: str) -> None: ...
    async def unlink_container(self, container: str) -> None: ...
    async def clean(self, tasks: Collection[str], containers: Collection[str]) -> None: ...
    def sandboxes(self) -> frozenset[str]: ...
    async def attach(self, sandbox: str, pid: int, endpoints: Collection[Endpoint]) -> None: ...
    async def release(self, sandbox: str) -> None: ...
    def attached(self) -> frozenset[str]: ...
    @property
    def trouble(self) -> str: ...


class Steps:
    """Does steps for the runner. `still_wanted` is asked again once it is a step's turn."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        known: Known,
        host: Callable[[], Host],
        files: Path,
        report: Callable[[TaskStatus], None],
        still_wanted: Callable[[str, Step], bool],
        secrets: Secrets,
        timings: Timings,
    ) -> None:
        self._engine, self._network, self._known = engine, network, known
        self._host, self._files, self._report, self._still_wanted = host, files, report, still_wanted
        self._secrets, self._timings = secrets, timings
        self._starts = asyncio.Semaphore(AT_ONCE)
        self._ends = Turns(AT_ONCE)
        self._shared: dict[tuple[str, ImageWish], _Shared] = {}

    async def do(self, task: str, step: Step) -> None:
        """Do one step of a task, once it is its turn."""
        match step:
            case Pull():
                await self._pull(task, step.image)
            case Deliver():
                await self._secrets.deliver(*self._wanted(task), self._host())
                self._known.delivered.add(task)
            case Launch():
                async with self._starts:
                    if self._still_wanted(task, step):
                        await self._launch(*self._wanted(task), step)
            case Restart():
                async with self._starts:
                    if self._still_wanted(task, step):
                        await self._restart(*self._wanted(task), step)
            case Inspect():
                await self._inspect(step.container)
            case Stop():
                await self._stop(task, step.container)
            case Clean():
                await self._clean(task, step)

    def _wanted(self, task: str) -> tuple[Task, ServiceItem]:
        view = self._known.view(task)
        assert view.task is not None and view.item is not None  # or it would not be wanted any more
        return view.task, view.item

    # The image.

    async def _pull(self, task: str, wish: ImageWish) -> None:
        pulling = TaskStatus(task, TaskState.PREPARING, time.time(), f"pulls {wish.name}")
        await self.have(wish, lambda: self._report(pulling))

    async def have(self, wish: ImageWish, pulls: Callable[[], None] = lambda: None) -> None:
        """Make an image known: look for it, and fetch it if it is not there or wished anew. Tasks share both.

        `pulls` is called before it is fetched.
        """
        image: Image | None = None
        if wish.policy != "always" or wish in self._known.fetched:
            image = self._known.images.get(wish) or await self._once(("look", wish), self._look)
        if image is None:
            if wish.policy == "never":
                raise EngineRefused(f"image {wish.name} is not on this node, and pull_policy forbids to pull it")
            pulls()
            image = await self._once(("pull", wish), self._fetch)
            if wish.policy == "always":
                self._known.fetched.add(wish)
        self._known.images[wish] = image

    async def _look(self, wish: ImageWish) -> Image | None:
        image = await self._engine.image(wish.name)
        # A platform without its variant means any.
        other = wish.platform and image and not f"{image.platform}/".startswith(f"{wish.platform}/")
        return None if other else image

    async def _fetch(self, wish: ImageWish) -> Image:
        log.info("pulling image %s", wish.name)
        with self._timings.timed("pull"):
            await self._engine.pull(wish.name, wish.platform)
        image = await self._engine.image(wish.name)
        if image is None:
            raise EngineTrouble(f"image {wish.name} was pulled, but the engine does not have it")
        return image

    async def _once(
        self, key: tuple[str, ImageWish], work: Callable[[ImageWish], Coroutine[Any, Any, Image | None]]
    ) -> Any:
        """Let all who want the same at the same time wait for one call, which ends when nobody waits any more."""
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(asyncio.create_task(work(key[1]), name=f"{key[0]} {key[1].name}"))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.call)
        finally:
            shared.waiting -= 1
            if shared.waiting == 0:
                del self._shared[key]
                shared.call.cancel()

    # Up.

    async def _launch(self, task: Task, item: ServiceItem, step: Launch) -> None:
        container = self._known.container_of(task.id)
        sandbox = asyncio.create_task(self._sandbox(task, item))
        try:
            if step.create:
                container = await self._create(task, item)
        finally:
            await sandbox
        assert container is not None
        if step.start:
            await self._start(container, task, item)

    async def _sandbox(self, task: Task, item: ServiceItem) -> None:
        """Make the sandbox, or trust the one that this process made and no container has run in."""
        if item.spec.container.has_sandbox and task.id not in self._known.unused:
            with self._timings.timed("sandbox"):
                await self._network.create_sandbox(task.id, task.endpoints)
            self._known.sandboxes.add(task.id)
            self._known.unused.add(task.id)

    async def _create(self, task: Task, item: ServiceItem) -> Observed:
        image = self._known.images[image_wish(item)]
        host = self._host()
        item = expanded(item, task, host)
        spec = item.spec.container
        for source in needed_sources(item):
            if not _is_there(source):
                raise EngineRefused(f"bind source path does not exist: {source}")
        for volume in volumes_to_make(item):
            await self._engine.create_volume(volume)
        folder = self._files / task.id
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in task_files(item, task, host).items():
            # In place, as a container that exists has this very file bound; and readable to whoever runs in it.
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        name, binds = container_name(item, task), self._secrets.binds(item, task.id)
        try:
            request = create_request(item, task, image, host, secret_binds=binds)
            with self._timings.timed("create"):
                made = await self._engine.create(name, request, spec.platform)
            health = "starting" if has_healthcheck(spec, image) else ""
            container = Observed(made, task.id, Phase.CREATED, health=health)
        except NameTaken as error:
            # An earlier call was carried out although its answer never came.
            container = await self._engine.inspect(name)
            if container.task != task.id:
                raise EngineRefused(f"{error.message} It is not ours: remove it.") from error
        self._known.saw(container)
        return container

    async def _start(self, container: Observed, task: Task, item: ServiceItem) -> None:
        if item.spec.container.has_sandbox:
            await self._network.link_container(container.id, task.id)
        self._known.unused.discard(task.id)
        began = time.time()
        with self._timings.timed("start"):
            await self._engine.start(container.id)
        # The event that tells the same may have been first, and may even have been followed by the end of the run.
        seen = self._known.containers.get(container.id)
        if seen is not None and (seen.started_at is None or seen.started_at < began):
            self._known.saw(started(seen, began))

    async def _restart(self, task: Task, item: ServiceItem, step: Restart) -> None:
        container = self._known.containers.get(step.container)
        if container is None:
            return
        log.info("task %s: starting container %s again", task.id, container.id[:12])
        self._known.unused.discard(task.id)
        await self._sandbox(task, item)
        await self._start(container, task, item)
        memory = self._known.memory.get(task.id) or Memory(seen_at=time.time())
        self._known.memory[task.id] = after_restart(memory, container, counted=step.counted)

    # Down.

    async def _inspect(self, container: str) -> None:
        asked = self._engine.facts
        seen = await self._engine.inspect_anew(container)
        if self._engine.facts is not asked:
            # Where systemd listens for the engine, the next engine answers what the last one was asked.
            raise EngineDown("the engine went away while it was asked")
        before = self._known.containers.get(container)
        if before is not None:
            # The verdict of the run's health check is not always kept by the engine once the run is over.
            seen = replace(seen, health=before.health or seen.health, oom=before.oom or seen.oom)
            if seen.has_failed:
                seen = replace(seen, log=await self._last_words(seen), check_said=await self._check_said(seen))
            self._known.saw(seen)

    async def _last_words(self, container: Observed) -> tuple[str, ...]:
        """Read the end of a container's log, but for its secrets; some logging drivers cannot be read."""
        item = self._known.view(container.task).item
        if item is None:
            return ()  # nobody knows what its secrets are
        try:
            async with asyncio.timeout(_LOG_TIMEOUT), self._engine.logs(container.id, _LAST_WORDS) as parts:
                found, more = b"", False
                async for _, part in parts:
                    found += part
                    more = more or len(found) > _ENOUGH_LOG
                    found = found[-_ENOUGH_LOG:]
            if more:
                found = found.partition(b"\n")[2]  # what is left of a line may end with a part of a secret
            return last_lines(found, await asyncio.to_thread(self._secrets.values, item, container.task))
        except (StackyardError, OSError) as error:
            log.info("the last words of container %s cannot be read: %s", container.id[:12], error)
            return ()

    async def _check_said(self, container: Observed) -> str:
        """Tell what the last health check said of a container that was stopped for it, but for its secrets."""
        item = self._known.view(container.task).item
        if item is None or container.check is None or container.health != "unhealthy":
            return ""
        try:
            secrets = await asyncio.to_thread(self._secrets.values, item, container.task)
        except (StackyardError, OSError) as error:
            log.info("what the health check of container %s said is not told: %s", container.id[:12], error)
            return ""
        return check_said(container.check.exit_code, container.check.output, secrets)

    async def _stop(self, task: str, container: str) -> None:
        view = self._known.view(task)
        grace = view.item.spec.container.stop_grace_period if view.item else _LONGEST_GRACE
        async with self._ends.turn(urgent=True):
            call = asyncio.create_task(self._engine.stop(container, grace))
            try:
                await asyncio.wait((call,), timeout=_QUICK_STOP)
            except asyncio.CancelledError:
                call.cancel()
                raise
        await call
        await self._until_exited(container)

    async def _until_exited(self, container: str) -> None:
        """The engine says that it stopped; its event, which tells the exit code, comes at about the same time."""
        deadline = time.monotonic() + _LATE_EVENT
        while (seen := self._known.containers.get(container)) is not None and seen.phase is Phase.RUNNING:
            if time.monotonic() > deadline:
                self._known.saw(await self._engine.inspect(container))
                return
            await self._known.changed(container, deadline - time.monotonic())

    async def _clean(self, task: str, step: Clean) -> None:
        if not step.container:
            await self._delete_sandbox(task)
            if self._known.container_of(task) is None:
                self._remove_files(task)
            return
        async with self._ends.turn(urgent=False):
            # A namespace goes when its last process has gone, so neither waits for the other.
            work: list[Awaitable[None]] = [self._remove(task, step.container, step.force)]
            if step.sandbox:
                work.append(self._delete_sandbox(task))
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def _delete_sandbox(self, task: str) -> None:
        await self._network.delete_sandbox(task)
        self._known.sandboxes.discard(task)
        self._known.unused.discard(task)

    async def _remove(self, task: str, container: str, force: bool) -> None:
        try:
            await self._engine.remove(container, force=force)
        except EngineTrouble:
            # It may run, against what was believed.
            try:
                self._known.saw(await self._engine.inspect(container))
            except ContainerMissing:
                pass
            raise
        self._known.gone(container)
        await self._network.unlink_container(container)
        self._remove_files(task)

    def clean_files(self, tasks: Collection[str]) -> None:
        """Remove what was written for other tasks than these."""
        for folder in os.listdir(self._files) if self._files.is_dir() else ():
            if folder not in tasks:
                self._remove_files(folder)

        self._secrets.keep_only(tasks)
        self._known.delivered &= set(tasks)

    def forget_secrets(self, task: str) -> None:
        """Remove the secrets and configs of a task that will not be started again."""
        self._known.delivered.discard(task)
        self._secrets.remove(task)

    def _remove_files(self, task: str) -> None:
        self.forget_secrets(task)
        shutil.rmtree(self._files / task, ignore_errors=True)


def _is_there(path: str) -> bool:
    return os.path.exists(path)


class _Shared:
    def __init__(self, call: asyncio.Task[Image | None]) -> None:
        self.call = call
        self.waiting = 0
