"""Secrets and configs, of stacks and made apart from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.model.secret import FileKind


@dataclass(frozen=True, slots=True)
class ExternalRequest:
    """The body of PUT /v1/secrets/{name} and /v1/configs/{name}; `data` is the content, base64.

    `stacks` are patterns (with *) of those whose deployers may use it.
    """

    data: str = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    stacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealingView:
    """`key` names the key that contents are sealed with; `sealed_again` counts those that were with another one."""

    key: str
    sealed_again: int


@dataclass(frozen=True, slots=True)
class ExternalView:
    """A secret or config: all but its content. `used_by` are services, `stack_service`.

    `stack` is the one whose file has it, "" for what was made apart from stacks; then `author` is who made it, and
    `stacks` are those whose deployers may use it.
    """

    kind: FileKind
    name: str
    digest: str
    size: int
    created_at: float
    author: str
    labels: dict[str, str] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    stack: str = ""
