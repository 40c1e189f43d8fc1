"""What a deploy would do, and how two revisions of a stack differ: answers of the manager's API beside `views`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cluster.views import Trouble

Kind = Literal["service", "network", "volume", "secret", "config"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs; `before` and `after` are its values as text (JSON, unless it is one word), "" for none.

    Of a list of objects they hold only those that went and those that came. Secrets are shown as digests.
    """

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One thing that differs; `name` is its key in the Compose file. `effect` says what that does, in words."""

    kind: Kind
    name: str
    action: Literal["add", "change", "remove"]
    fields: tuple[FieldChange, ...] = ()
    effect: str = ""


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One task that starts or stops; those of one `step` do so together. `task` is `stack_service.slot`."""

    step: int
    action: Literal["start", "stop"]
    task: str
    node: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """The answer to POST /v1/stacks/{name}/plan: what a deploy would do as things stand. Nothing is touched.

    `base` is the revision that it would follow on (0: there is no such stack). `tasks` is what happens if all new tasks
    come up, in order; `waiting` tells of tasks that would find no place, and why. `refused` is why the deploy would be.
    """

    stack: str
    base: int
    changed: bool
    changes: tuple[ItemChange, ...] = ()
    tasks: tuple[TaskStep, ...] = ()
    waiting: tuple[Trouble, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class DiffView:
    """The answer to GET /v1/stacks/{name}/diff: what became different from revision `base` to `revision`."""

    stack: str
    base: int
    revision: int
    changes: tuple[ItemChange, ...]
