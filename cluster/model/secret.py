"""Secrets and configs of a stack: what is said of them. Their contents never are part of a stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret of a stack. `name` is the full name; an external one must be there already, under that name.

    `template_driver` golang has the content expanded on the node. `digest` is the keyed digest of the content, set when
    the revision is made: what is compared, and what the content is stored under.
    """

    key: str
    name: str
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    template_driver: Literal["", "golang"] = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ConfigSpec:
    """A config of a stack; as a secret, in another folder and, by default, for everybody in the container to read."""

    key: str
    name: str
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    template_driver: Literal["", "golang"] = ""
    digest: str = ""
