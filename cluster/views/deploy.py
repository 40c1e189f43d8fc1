"""A deploy, which carries a whole stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.model.stack import StackSpec

ResolveImage = Literal["always", "changed", "never"]


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """The body of PUT /v1/stacks/{name}.

    `operation` is a random id of the caller's: the same id again is answered like the first time and changes nothing.
    `base_revision` refuses the deploy when the stack has moved on since. `secrets` and `configs` are the contents of
    those that are not external, base64, by key. Services in `force` get new tasks, and jobs
    among them run again, though nothing has changed. If it is `atomic`, one service whose new tasks fail takes all that
    this deploy changes back with it. The same spec again has updates of the stack go on that are paused.
    `resolve_image` tells whether images are looked up in their registries: all, those that the spec changes, or none.
    """

    spec: StackSpec
    operation: str
    reason: str = ""
    base_revision: int | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    configs: dict[str, str] = field(default_factory=dict, repr=False)
    force: tuple[str, ...] = ()
    atomic: bool = False
    resolve_image: ResolveImage = "always"
