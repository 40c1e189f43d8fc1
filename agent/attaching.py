"""What is to be done about a container that was started by hand, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.container import LABEL_CLUSTER, Observed, Phase, observe
from cluster.assignments import AttachmentItem
from cluster.model.attachment import AttachmentReport, AttachmentState
from cluster.model.network import Endpoint

PATIENCE = 10.0
"""Seconds after its end for which a container keeps its addresses: `docker restart` is about one."""

RESOLVER = "127.0.0.11"
_DOCKERS_OWN = frozenset({"bridge", "none"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A container as the engine tells of it; `unfit` is why it cannot be attached, whatever it does."""

    observed: Observed
    name: str
    pid: int
    unfit: str
    asks_resolver: bool

    @property
    def runs(self) -> bool:
        return self.observed.phase is Phase.RUNNING and self.pid > 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of an attachment, and whether it is to be wired; `again_in` is when to ask again, in seconds."""

    report: AttachmentReport
    wire: bool = False
    again_in: float | None = None


def seen_from(inspect: Mapping[str, Any], resolv_conf: str) -> Seen:
    """Read an inspect answer, and what is in the container's resolv.conf."""
    mode = str((inspect.get("HostConfig") or {}).get("NetworkMode") or "")
    networks = set((inspect.get("NetworkSettings") or {}).get("Networks") or ())
    unfit = ""
    if (inspect["Config"].get("Labels") or {}).get(LABEL_CLUSTER):
        unfit = "it is a task of a service, which is in the networks of its Compose file"
    elif mode == "host":
        unfit = "it has the network of its node"
    elif mode.startswith("container:"):
        unfit = "it has the network of another container: attach that one"
    elif others := networks - _DOCKERS_OWN:
        unfit = (
            f"it is in Docker's network {', '.join(sorted(others))}, whose names are answered where ours would be: "
            "start it with `--network bridge` or `--network none`"
        )
    servers = [line.split()[1:2] for line in resolv_conf.splitlines() if line.startswith("nameserver")]
    return Seen(
        observe(inspect),
        str(inspect.get("Name") or "").lstrip("/"),
        int(inspect["State"].get("Pid") or 0),
        unfit,
        [RESOLVER] in servers[:1],
    )


def judge(item: AttachmentItem, seen: Seen | None, over: Endpoint | None, now: float) -> Verdict:
    """Say what becomes of an attachment. `over` is the endpoint that was said to be over, if one was."""
    if item.removing or (seen is None and item.container):
        why = "it was taken off" if item.removing else "its container was removed"
        return Verdict(AttachmentReport(AttachmentState.GONE, why, item.container))
    if seen is None:
        return Verdict(AttachmentReport(AttachmentState.MISSING))
    verdict = _of_container(item, seen, over, now)
    told = replace(verdict.report, container=seen.observed.id, name=seen.name)
    return replace(verdict, report=told)


def _of_container(item: AttachmentItem, seen: Seen, over: Endpoint | None, now: float) -> Verdict:
    if not item.container:
        if seen.unfit:
            return Verdict(AttachmentReport(AttachmentState.UNFIT, seen.unfit))
        if seen.runs:
            return Verdict(AttachmentReport(AttachmentState.FOUND))
        return Verdict(AttachmentReport(AttachmentState.UNFIT, f"it does not run, it is {seen.observed.phase}"))
    if over is not None and item.endpoint == over:
        return Verdict(AttachmentReport(AttachmentState.ENDED, _ended(seen)))
    if not seen.runs:
        left = (seen.observed.finished_at or 0.0) + PATIENCE - now
        if item.endpoint is not None and left > 0:
            return Verdict(AttachmentReport(AttachmentState.WAITING, _ended(seen)), again_in=left)
        return Verdict(AttachmentReport(AttachmentState.ENDED, _ended(seen)))
    if item.endpoint is None:
        return Verdict(AttachmentReport(AttachmentState.FOUND))
    note = "" if seen.asks_resolver else f"it finds no names: start it with `--dns {RESOLVER}`"
    return Verdict(AttachmentReport(AttachmentState.ATTACHED, note), wire=True)


def _ended(seen: Seen) -> str:
    code = seen.observed.exit_code
    return f"its container ended{'' if code is None else f' (exit code {code})'}; it is attached again when it starts"
