"""One-off tasks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The body of POST /v1/services/{name}/runs: the service's container once more, with another command.

    None for `command` or `entrypoint` keeps the service's, and so does "" for a text; another entrypoint comes without
    the service's command. `environment` is added to the service's. `operation`, 16 hexadecimal digits, makes it once
    however often it is sent.

    An `attended` one starts when the channel /v1/runs/{id}/channel is open and an AttachRequest was answered with
    START, and goes with that channel. Any other runs by itself, and is kept for an hour after its end if it is `kept`.
    """

    operation: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    tty: bool = False
    stdin: bool = False
    attended: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class OneOffView:
    """`task` is the name of its task; `service` that of the service which it is of, `version` the stack's revision."""

    id: str
    task: str
    service: str
    version: int
