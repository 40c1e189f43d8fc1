"""What agents say, cut to what honest ones say at most. Pure.

A node that is in wrong hands is to fill neither etcd nor a transaction, which would break off its session's writes, and
to send nothing to people's terminals but text.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from cluster.model.attachment import AttachmentReport
from cluster.model.task import TaskStatus

LONGEST_TEXT = 500
MOST_LINES, LONGEST_LINE = 5, 200
MOST_CONDITIONS = 32
MOST_IMAGES, LONGEST_PROBLEM = 256, 200
MOST_ATTACHMENTS = 256
LONGEST_NAME = 128
LARGEST_NUMBER = 2**31 - 1


def status(told: TaskStatus) -> TaskStatus:
    """What became of a task."""
    return replace(
        told,
        message=text(told.message),
        container=text(told.container, LONGEST_NAME),
        exit_code=None if told.exit_code is None else _number(told.exit_code, -LARGEST_NUMBER),
        restarts=_number(told.restarts, 0),
        log=tuple(text(line, LONGEST_LINE) for line in told.log[-MOST_LINES:]),
    )


def conditions(told: Mapping[str, str]) -> dict[str, str]:
    """The troubles of a node, by name."""
    some = itertools.islice(told.items(), MOST_CONDITIONS)
    return {text(name, LONGEST_NAME): text(trouble) for name, trouble in some}


def images(told: Mapping[str, str]) -> dict[str, str]:
    """Which images are there, or why not."""
    some = itertools.islice(told.items(), MOST_IMAGES)
    return {text(name, LONGEST_NAME): text(problem, LONGEST_PROBLEM) for name, problem in some}


def attachments(told: Mapping[str, AttachmentReport]) -> dict[str, AttachmentReport]:
    """How containers are that were started by hand."""
    return {
        text(ident, LONGEST_NAME): replace(
            report,
            message=text(report.message),
            container=text(report.container, LONGEST_NAME),
            name=text(report.name, LONGEST_NAME),
        )
        for ident, report in itertools.islice(told.items(), MOST_ATTACHMENTS)
    }


def names(told: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text(name, LONGEST_NAME) for name in told)


def text(told: str, longest: int = LONGEST_TEXT) -> str:
    """The beginning of a text, and nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in told[:longest])


def _number(told: int, least: int) -> int:
    return max(least, min(told, LARGEST_NUMBER))
