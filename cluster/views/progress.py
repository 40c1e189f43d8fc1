"""How far a stack's newest revision has come, as it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.model.service import ServiceMode


@dataclass(frozen=True, slots=True)
class ServiceProgress:
    """How far one service of a stack is: `done` of `wanted` tasks are as asked for, or gone when it is removed.

    `states` counts the tasks that are to stay. `failures` counts tasks of this version that failed; `message` is the
    newest trouble, and `log` the last lines of the task that failed last. `leaving` counts tasks that have yet to end:
    of an older version, too many, or of a removed service; `others` counts the same by what they are, in a few words
    (`old running`, `ending`), where that is known.
    """

    service: str
    wanted: int
    done: int
    states: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    message: str = ""
    leaving: int = 0
    mode: ServiceMode = ServiceMode.REPLICATED
    log: tuple[str, ...] = ()
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of GET /v1/stacks/{name}/progress; the last one has `done` or `failed`.

    A stream that ends without either was cut (the manager stopped): ask again. `failed` tells why the revision cannot
    be reached any more (replaced by a newer one, removed, or all restarts used up). `waits` tells, a sentence each,
    what a removal waits for when all tasks are gone. `remedies` are what one can type now that it `failed`, a sentence
    each.
    """

    stack: str
    revision: int
    removing: bool
    services: tuple[ServiceProgress, ...] = ()
    done: bool = False
    failed: str = ""
    waits: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
