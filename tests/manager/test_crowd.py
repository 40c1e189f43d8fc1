"""Which connections stay where there are too many."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from manager.crowd import Crowd

OFFICE, HOME = "192.0.2.1", "192.0.2.2"


def a_crowd(most: int = 4, each: int = 2) -> Crowd[str]:
    return Crowd(most, each)


def test_all_stay_while_there_is_room() -> None:
    crowd = a_crowd()
    assert [crowd.enter(who, where) for who, where in [("a", OFFICE), ("b", OFFICE), ("c", HOME)]] == [None] * 3
    assert len(crowd) == 3


def test_who_has_rested_longest_at_an_address_makes_way_for_the_next_from_there() -> None:
    crowd = a_crowd()
    for who in "ab":
        crowd.enter(who, OFFICE)
    crowd.work("a")
    crowd.rest("a")
    assert crowd.enter("c", OFFICE) == "b"
    assert crowd.enter("d", OFFICE) == "a"
    assert crowd.enter("e", HOME) is None, "other addresses are not concerned"


def test_what_is_at_work_stays_and_the_newcomer_goes() -> None:
    crowd = a_crowd()
    for who in "ab":
        crowd.enter(who, OFFICE)
        crowd.work(who)
    assert crowd.enter("c", OFFICE) == "c" and len(crowd) == 2
    crowd.rest("b")
    assert crowd.enter("c", OFFICE) == "b"


def test_where_all_are_too_many_the_one_that_has_rested_longest_anywhere_makes_way() -> None:
    crowd = a_crowd()
    for who, where in [("a", OFFICE), ("b", OFFICE), ("c", HOME), ("d", HOME)]:
        crowd.enter(who, where)
    crowd.work("a")
    assert crowd.enter("e", "192.0.2.3") == "b"
    crowd.leave("c")
    assert crowd.enter("f", "192.0.2.4") is None


def test_a_network_that_anyone_gets_counts_as_one_address() -> None:
    crowd = a_crowd()
    for number in range(2):
        crowd.enter(f"a{number}", f"2001:db8::{number:x}")
    assert crowd.enter("b", "2001:db8::ffff") == "a0"
    assert crowd.enter("c", "2001:db8:0:1::1") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("enter", "work", "rest", "leave")),
        st.integers(0, 11),
        st.integers(1, 3).map(lambda n: str(ipaddress.IPv4Address(n))),
    )
)


@given(STEPS)
def test_never_more_than_allowed_and_never_one_at_work_sent_away(steps: list[tuple[str, int, str]]) -> None:
    crowd = Crowd[int](5, 3)
    here: dict[int, str] = {}
    working: set[int] = set()
    for step, who, where in steps:
        if step == "enter" and who not in here:
            out = crowd.enter(who, where)
            here[who] = where
            if out is not None:
                assert out in here and out not in working
                del here[out]
        elif step == "work" and who in here:
            working.add(who)
            crowd.work(who)
        elif step == "rest":
            working.discard(who)
            crowd.rest(who)
        elif step == "leave":
            working.discard(who)
            here.pop(who, None)
            crowd.leave(who)
        assert len(crowd) == len(here) <= 5
        assert all(list(here.values()).count(place) <= 3 for place in here.values())
