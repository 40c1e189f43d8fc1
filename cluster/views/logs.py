"""What tasks print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of GET /v1/services/{name}/logs; `task` is `stack_service.slot`, `line` has no line end.

    `at` is when it was printed, to the nanosecond. A line with a `note` is no output: it tells that something is
    missing, such as a node that is out of reach. The last one has `end`: a stream without was cut.
    """

    task: str
    id: str
    slot: int
    node: str
    stream: Literal["stdout", "stderr"] = "stdout"
    line: str = ""
    note: str = ""
    at: str = ""
    end: bool = False
