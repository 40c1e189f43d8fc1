"""Secrets and configs of a stack: what is said of them. Their contents never are part of a stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret of a stack. `name` is the full name; an external one must be there already, under that name.

    `template_driver` golang has the content expanded on the node.
    """

    key: str
    name: str
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    template_driver: Literal["", "golang"] = ""


@dataclass(frozen=True, slots=True)
class ConfigSpec:
    """A config of a stack; as a secret, in another folder and, by default, for everybody in the container to read."""

    key: str
    name: str
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    template_driver: Literal["", "golang"] = ""


FileKind = Literal["secret", "config"]
LARGEST_CONTENT = 1_024_000
"""Bytes of one secret or config."""


@dataclass(frozen=True, slots=True)
class Content:
    """That the content of a secret or config is stored: sealed, beside the state, under `owner` and `digest`.

    The owner is `stack.NAME`, or `secret.NAME` or `config.NAME` for one that was made apart from stacks. A stack has a
    copy of its own of everything that it uses. `key` names the key that it is sealed with.
    """

    owner: str
    digest: str
    size: int
    key: str
    stored_at: float


@dataclass(frozen=True, slots=True)
class External:
    """A secret or config made apart from stacks, for those that say `external`; never changed, only removed.

    Deployers may use it in the stacks that `stacks` (patterns with *) name; operators may everywhere.
    """

    kind: FileKind
    name: str
    digest: str
    size: int
    created_at: float
    author: str
    labels: dict[str, str] = field(default_factory=dict)
    stacks: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        return f"{self.kind}.{self.name}"


def stack_owner(name: str) -> str:
    """Say whose the contents are that the services of a stack use."""
    return f"stack.{name}"
