"""Frames of channels, and the windows that hold senders back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.channel import (
    DATA,
    LARGEST_DATA,
    PURPOSES,
    WINDOW,
    AttachRequest,
    BeginRequest,
    BrokenChannel,
    ExecRequest,
    Kind,
    PortRequest,
    ReadArchive,
    Request,
    SignalRequest,
    StatArchive,
    Window,
    WriteArchive,
    failure_frame,
    frame,
    number_frame,
    read_failure,
    read_frame,
    read_number,
    read_request,
    read_size,
    request_frame,
    size_frame,
)
from cluster.errors import Conflict, Failed, StackyardError, Unavailable

TEXTS = st.text(max_size=20)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        ExecRequest,
        st.lists(TEXTS, min_size=1).map(tuple),
        st.booleans(),
        st.booleans(),
        st.lists(TEXTS).map(tuple),
        TEXTS,
        TEXTS,
        st.booleans(),
        st.none() | st.tuples(st.integers(1, 500), st.integers(1, 500)),
    ),
    st.builds(
        BeginRequest,
        st.lists(TEXTS, min_size=1).map(tuple),
        st.booleans(),
        st.lists(TEXTS).map(tuple),
        TEXTS,
        TEXTS,
        st.booleans(),
    ),
    st.builds(PortRequest, st.integers(1, 65535)),
    st.builds(ReadArchive, TEXTS),
    st.builds(StatArchive, TEXTS),
    st.builds(WriteArchive, TEXTS),
    st.builds(AttachRequest, st.booleans(), st.none() | st.tuples(st.integers(1, 500), st.integers(1, 500))),
    st.builds(SignalRequest, TEXTS),
)


@given(st.sampled_from(Kind), st.binary(max_size=200))
def test_a_frame_is_read_as_it_was_written(kind: Kind, content: bytes) -> None:
    assert read_frame(frame(kind, content)) == (kind, content)


@given(REQUESTS)
def test_a_request_is_read_as_it_was_made(request: Request) -> None:
    kind, content = read_frame(request_frame(request))
    assert kind is Kind.REQUEST
    assert read_request(content) == request
    assert type(request) in PURPOSES


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(-(2**31), 2**31 - 1))
def test_sizes_and_numbers_are_read_as_they_were_written(rows: int, columns: int, number: int) -> None:
    assert read_size(read_frame(size_frame(rows, columns))[1]) == (rows, columns)
    assert read_number(read_frame(number_frame(Kind.END, number))[1]) == number


@given(TEXTS, TEXTS, st.sampled_from([Unavailable, Conflict, Failed, BrokenChannel]))
def test_a_failure_arrives_as_the_error_that_everyone_knows(text: str, hint: str, kind: type[StackyardError]) -> None:
    told = read_failure(read_frame(failure_frame(kind(text, hint=hint)))[1])
    assert (told.message, told.hint) == (text, hint)
    assert type(told) is (Failed if kind is BrokenChannel else kind)


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused_in_words(message: bytes) -> None:
    try:
        kind, content = read_frame(message)
    except BrokenChannel:
        return
    for read in (read_request, read_size, read_number):
        try:
            read(content)
        except BrokenChannel:
            continue
    assert isinstance(read_failure(content), StackyardError)
    assert frame(kind, content) == message


def test_data_comes_in_small_frames() -> None:
    for kind in DATA:
        read_frame(frame(kind, bytes(LARGEST_DATA)))
        with pytest.raises(BrokenChannel, match="the most"):
            read_frame(frame(kind, bytes(LARGEST_DATA + 1)))


@settings(deadline=None)
@given(st.data())
def test_no_more_than_the_window_is_ever_under_way_and_it_never_closes_for_good(data: st.DataObject) -> None:
    sender, receiver = Window(), Window()
    under_way: list[int] = []
    lying: list[int] = []
    grants: list[int] = []
    for _ in range(60):
        moves = [move for move, able in {
            "send": sender.room > 0, "arrive": bool(under_way), "take": bool(lying), "grant": bool(grants)
        }.items() if able]  # fmt: skip
        assert moves
        match data.draw(st.sampled_from(moves)):
            case "send":
                count = data.draw(st.integers(1, sender.room))
                sender.sent(count)
                under_way.append(count)
            case "arrive":
                receiver.received(under_way[0])
                lying.append(under_way.pop(0))
            case "take":
                if grant := receiver.taken(lying.pop(0)):
                    grants.append(grant)
            case "grant":
                sender.granted(grants.pop(0))
        assert sum(under_way) + sum(lying) <= WINDOW
    for count in under_way:
        receiver.received(count)
    for count in (*lying, *under_way):
        if grant := receiver.taken(count):
            grants.append(grant)
    for grant in grants:
        sender.granted(grant)
    assert sender.room > WINDOW // 2


def test_who_breaks_the_rules_of_a_window_is_found_out() -> None:
    with pytest.raises(BrokenChannel):
        Window().received(WINDOW + 1)
    with pytest.raises(BrokenChannel):
        Window().granted(1)
    with pytest.raises(ValueError, match="may be"):
        Window().sent(WINDOW + 1)
