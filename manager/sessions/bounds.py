"""What agents say, cut to what honest ones say at most. Pure.

A node that is in wrong hands is to fill neither etcd nor a transaction, which would break off its session's writes, and
to send nothing to people's terminals but text.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import get_args

from cluster.latency import BOUNDS, AgentWork, Latency, Work
from cluster.model.attachment import AttachmentReport
from cluster.model.task import TaskStatus
from cluster.protocol import Measured
from cluster.usage import Counters, Stored, Traffic

LONGEST_TEXT = 500
MOST_LINES, LONGEST_LINE = 5, 200
MOST_CONDITIONS = 32
MOST_IMAGES, LONGEST_PROBLEM = 256, 200
MOST_ATTACHMENTS = 256
LONGEST_NAME = 128
LARGEST_NUMBER = 2**31 - 1
LARGEST_SIZE = 2**63 - 1
LATEST_INSTANT = 1e11
MOST_STORED = 16
MOST_ROOTS = 4
LONGEST_WORK = 1e9


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


def measured(told: Measured, asked: Collection[str]) -> Measured:
    """What tasks use, of those that were asked about, and what lies on a disk."""
    counters = {one.task: _counters(one) for one in told.tasks if one.task in asked}
    disk = tuple(
        Stored(one.kind, _size(one.count), _size(one.active), _size(one.size), _size(one.reclaimable))
        for one in told.disk[:MOST_STORED]
    )
    passed = {one.task: _traffic(one) for one in told.traffic if one.task in asked}
    return Measured(told.id, tuple(counters.values()), disk, text(told.problem), tuple(passed.values()))


def latencies(told: Mapping[str, Latency]) -> dict[Work, Latency]:
    """How long an agent's work took."""
    return {
        work: Latency(tuple(_number(count, 0) for count in held.counts), max(0.0, min(held.total, LONGEST_WORK)))
        for work in get_args(AgentWork)
        if (held := told.get(work)) is not None and len(held.counts) == len(BOUNDS) + 1
    }


def _counters(told: Counters) -> Counters:
    return Counters(
        told.task,
        max(0.0, min(told.at, LATEST_INSTANT)),
        cpu=_size(told.cpu),
        memory=_size(told.memory),
        memory_limit=_size(told.memory_limit),
        received=None if told.received is None else _size(told.received),
        sent=None if told.sent is None else _size(told.sent),
        read=_size(told.read),
        written=_size(told.written),
        pids=_size(told.pids),
    )


def _traffic(told: Traffic) -> Traffic:
    numbers = told.received, told.sent, told.received_packets, told.sent_packets, told.dropped
    return Traffic(told.task, *map(_size, numbers))


def names(told: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text(name, LONGEST_NAME) for name in told)


def text(told: str, longest: int = LONGEST_TEXT) -> str:
    """The beginning of a text, and nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in told[:longest])


def _number(told: int, least: int) -> int:
    return max(least, min(told, LARGEST_NUMBER))


def _size(told: int) -> int:
    return max(0, min(told, LARGEST_SIZE))
