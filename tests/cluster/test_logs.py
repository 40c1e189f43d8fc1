"""Going on with a log where another stream of it was cut."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cluster.logs import OUT_OF_STEP, Position, since_when

START = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


def instant(tenths: int) -> str:
    return f"2026-01-31T12:{tenths // 600:02}:{tenths // 10 % 60:02}.{tenths % 10}00000000Z"


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """Lines as (output, instant, number): each output in order, many at one instant, the other a bit out of step."""
    lines, tenths = [], 0
    for number in range(draw(st.integers(0, 30))):
        tenths += draw(st.integers(0, 15))
        behind = draw(st.integers(0, 3)) if draw(st.booleans()) else 0
        lines.append(("stderr" if behind else "stdout", max(0, tenths - behind), number))
    for source in ("stdout", "stderr"):
        own = iter(sorted(at for kind, at, _ in lines if kind == source))
        lines = [(kind, next(own) if kind == source else at, n) for kind, at, n in lines]
    return [(kind, instant(at), n) for kind, at, n in lines]


@given(logs(), st.lists(st.integers(0, 30), max_size=4))
def test_each_line_is_read_once_wherever_it_was_cut(log: list[tuple[str, str, int]], cuts: list[int]) -> None:
    position, read = Position(), []
    for cut in [*cuts, len(log)]:
        since = position.since
        sent = [line for line in log if since is None or datetime.fromisoformat(line[1]).timestamp() >= since]
        had = len([line for line in sent if line[2] in read])
        for source, at, number in sent[: had + cut]:
            if position.is_new(source, at):
                read.append(number)
        position.again()
    assert read == [number for _, _, number in log]


def test_the_next_stream_begins_a_little_before_the_newest_line() -> None:
    position = Position()
    assert position.since is None
    position.is_new("stdout", instant(50))
    position.is_new("stderr", instant(47))
    assert position.since == START + 5 - OUT_OF_STEP


def test_lines_without_an_instant_are_always_new() -> None:
    position = Position()
    position.is_new("stdout", instant(50))
    position.again()
    assert position.is_new("stdout", "") and not position.is_new("stdout", instant(50))


def test_a_clock_that_was_set_back_hides_nothing_that_is_printed_now() -> None:
    position = Position()
    for at in (instant(900), instant(10), instant(11)):
        assert position.is_new("stdout", at)


def test_of_what_showed_nothing_all_is_new_but_what_was_not_asked_for() -> None:
    assert since_when(None, None, 1000.0) is None
    assert since_when(None, 900.0, 1000.0) == 900.0
    assert since_when(0, None, 1000.0) == 1000.0
    assert since_when(5, None, 1000.0) == 940.0
    assert since_when(5, 950.0, 1000.0) == 950.0
