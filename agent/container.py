"""Containers as the agent sees them: the labels that find them again, and what the engine says of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cluster.assignments import ServiceItem

LABEL_CLUSTER = "com.stackyard.cluster"
LABEL_TASK = "com.stackyard.task"
LABEL_SERVICE = "com.stackyard.service"
LABEL_STACK = "com.stackyard.stack"
LABEL_SLOT = "com.stackyard.slot"
LABEL_NAMESPACE = "com.docker.stack.namespace"

RUNTIME = "stackyard"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """What matters of an image on this node: its own health check, entrypoint and platform (linux/amd64)."""

    id: str
    healthchecked: bool = False
    entrypoint: tuple[str, ...] = ()
    platform: str = ""


@dataclass(frozen=True, slots=True)
class ImageWish:
    """The image that a task needs, and how to come by it; `policy` is Compose's pull_policy.

    `always` fetches it once for each version of a service, which `version` tells apart.
    """

    name: str
    platform: str = ""
    policy: str = ""
    version: str = ""


def image_wish(item: ServiceItem) -> ImageWish:
    spec = item.spec.container
    version = f"{item.uid}/{item.version}" if spec.pull_policy == "always" else ""
    return ImageWish(item.image, spec.platform, spec.pull_policy, version)


class Phase(StrEnum):
    """Where a container stands. DEAD is one that the engine failed to remove or is removing."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Check:
    """A run of a health check: its exit code, below 0 where the engine ended it, and what it printed, or the engine
    said of it. As it is: people are only shown what `last_words` makes of it.
    """

    exit_code: int
    output: bytes


@dataclass(frozen=True, slots=True)
class Observed:
    """A container of ours. `health` is "" without a health check, else starting, healthy or unhealthy.

    `inspected` tells that exit code, OOM and error are the engine's last word, not only an event's. `log` has the last
    lines of a run that failed. `check` is the last health check of a run that is over, if that failed; `check_said` is
    it in words for people.
    """

    id: str
    task: str
    phase: Phase
    exit_code: int | None = None
    oom: bool = False
    health: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""
    inspected: bool = False
    log: tuple[str, ...] = ()
    check: Check | None = None
    check_said: str = ""

    @property
    def has_failed(self) -> bool:
        """Tell whether a run that ended by itself did not do its work."""
        return self.health == "unhealthy" or self.exit_code != 0 or bool(self.error)


# What the engine says.


def image_from(inspect: Mapping[str, Any]) -> Image:
    """Read an image inspect answer."""
    config = inspect.get("Config") or {}
    test = (config.get("Healthcheck") or {}).get("Test") or []
    return Image(
        id=inspect["Id"],
        healthchecked=bool(test) and test[0] != "NONE",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        platform="/".join(filter(None, (inspect.get("Os"), inspect.get("Architecture"), inspect.get("Variant")))),
    )


def platforms_from(listed: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Read for which platforms a registry has an image, as linux/arm64/v8; () when it may be any.

    Attestations, which lie beside images, are listed as of an unknown platform.
    """
    found = [tuple(str(one.get(part) or "") for part in ("os", "architecture", "variant")) for one in listed]
    known = {parts for parts in found if parts[:2] != ("unknown", "unknown")}
    if any(not all(parts[:2]) for parts in known):
        return ()
    return tuple(sorted("/".join(filter(None, parts)) for parts in known))


def observe(inspect: Mapping[str, Any]) -> Observed:
    """Read a container inspect answer."""
    state = inspect["State"]
    phase = phase_from(state["Status"])
    health = (state.get("Health") or {}).get("Status") or ""
    return Observed(
        id=inspect["Id"],
        task=(inspect["Config"].get("Labels") or {}).get(LABEL_TASK, ""),
        phase=phase,
        exit_code=state.get("ExitCode") if phase in (Phase.EXITED, Phase.DEAD) else None,
        oom=bool(state.get("OOMKilled")),
        health="" if health == "none" else health,
        started_at=instant(state.get("StartedAt")),
        finished_at=instant(state.get("FinishedAt")),
        error=state.get("Error") or "",
        inspected=True,
        check=_failed_check(state.get("Health") or {}) if phase is Phase.EXITED else None,
    )


_CHECK_OUTPUT = 4096
"""Bytes that the engine keeps of what a check prints, from its beginning."""


def _failed_check(health: Mapping[str, Any]) -> Check | None:
    """Read the last check that failed."""
    failed = [one for one in health.get("Log") or () if one.get("ExitCode")]
    if not failed:
        return None
    output = str(failed[-1].get("Output") or "").encode()
    if len(output) >= _CHECK_OUTPUT:
        output = output.rpartition(b"\n")[0]  # what is left of a line may end with a part of a secret
    return Check(int(failed[-1]["ExitCode"]), output)


def phase_from(status: str) -> Phase:
    """Sort the engine's seven states of a container into those that matter here."""
    match status:
        case "created":
            return Phase.CREATED
        case "exited":
            return Phase.EXITED
        case "dead" | "removing":
            return Phase.DEAD
        case _:  # running, and what a person may have made of it: paused, restarting
            return Phase.RUNNING


def instant(text: str | None) -> float | None:
    """Read the engine's RFC 3339 with nanoseconds; its year 1 means never (None)."""
    if not text or text.startswith("0001-"):
        return None
    main, _, zone = text.partition("Z") if text.endswith("Z") else (text[:-6], "", text[-6:])
    seconds, _, fraction = main.partition(".")
    moment = datetime.fromisoformat(seconds + (zone or "+00:00"))
    return moment.astimezone(UTC).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


@dataclass(frozen=True, slots=True)
class Event:
    """A container event: what happened, to which container, and when."""

    action: str
    container: str
    at: float
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something happened to a container that is in no cluster."""

    container: str


def fold(seen: Observed, event: Event) -> Observed | None:
    """Bring what is known of a container up to date with an event about it; None when it has gone.

    Events that are older than the start of the run that is known change nothing: they tell of an earlier run.
    """
    if event.action == "destroy":
        return None
    if seen.started_at is not None and event.at < seen.started_at:
        return seen
    match event.action.split(":")[0]:
        case "start":
            return started(seen, event.at)
        case "die" if seen.phase is Phase.RUNNING or seen.phase is Phase.CREATED:
            code = event.attributes.get("exitCode", "")
            return replace(
                seen,
                phase=Phase.EXITED,
                exit_code=int(code) if code.lstrip("-").isdigit() else None,
                finished_at=event.at,
                inspected=False,
            )
        case "oom":
            return replace(seen, oom=True)
        case "health_status" if seen.phase is Phase.RUNNING:
            return replace(seen, health=event.action.partition(":")[2].strip() or seen.health)
        case _:
            return seen


def started(seen: Observed, at: float) -> Observed:
    """A run began at `at`. A container that reports health starts again with "starting"."""
    if seen.phase is Phase.RUNNING:
        return replace(seen, started_at=at)
    return Observed(
        id=seen.id, task=seen.task, phase=Phase.RUNNING, health="starting" if seen.health else "", started_at=at
    )
