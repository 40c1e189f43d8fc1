"""Plans on their way into etcd: guarded, fenced, in one chain, and cut where they must be."""

from __future__ import annotations

import pytest

from cluster.codec import encode, key_for, key_of
from cluster.errors import Inconsistent
from cluster.model.cluster import Claim, ClockMark
from cluster.model.stack import Stack
from manager.commit import CLOCK, Commit, Transaction
from manager.decide.plan import Draft, Plan, Step
from manager.etcd.records import MAX_OPERATIONS, Delete, Put, absent, created_at, unchanged
from manager.picture import ClusterState, Event
from tests.sim.store import Store

FENCE = (created_at("/leader/1", 7),)
OLD = Claim("vni", "1", "net")


def a_claim(number: int) -> Claim:
    return Claim("vni", str(number), "net")


def a_state() -> ClusterState:
    state = ClusterState()
    state.apply([Event(key_of(OLD), encode(OLD), 5)], 9)
    return state


def all_of(commit: Commit) -> list[Transaction]:
    found = []
    while (transaction := commit.next()) is not None:
        found.append(transaction)
        commit.succeeded(100 + len(found))
    return found


def test_a_step_carries_the_fence_the_chain_and_a_guard_for_each_key_that_it_writes() -> None:
    draft = Draft(a_state())
    draft.step("do", puts=[a_claim(2)], deletes=[key_of(OLD)], guards=[key_for(Stack, "app")])
    [transaction] = all_of(Commit(draft.plan(), FENCE, ClockMark(1.0), 3))
    assert set(transaction.compares) == {
        *FENCE,
        unchanged(CLOCK, 3),
        absent(key_of(a_claim(2))),
        unchanged(key_of(OLD), 5),
        absent(key_for(Stack, "app")),
    }
    assert transaction.operations == (
        Put(CLOCK, encode(ClockMark(1.0))),
        Put(key_of(a_claim(2)), encode(a_claim(2))),
        Delete(key_of(OLD)),
    )


def test_many_steps_go_in_few_transactions_each_following_the_one_before() -> None:
    draft = Draft(a_state())
    for number in range(2, 252, 5):
        draft.step("do", puts=[a_claim(number + more) for more in range(5)])
    first, second, third = all_of(Commit(draft.plan(), FENCE, ClockMark(1.0), 0))
    assert [len(t.steps) for t in (first, second, third)] == [19, 19, 12], "a comparison a record, and the fence"
    assert absent(CLOCK) in first.compares
    assert unchanged(CLOCK, 101) in second.compares and unchanged(CLOCK, 102) in third.compares
    assert all(len(t.operations) <= MAX_OPERATIONS and len(t.compares) <= MAX_OPERATIONS for t in (first, second))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(1, None, id="in the same transaction there is nothing to compare"),
        pytest.param(50, "written", id="in a later one it must be as the earlier one left it"),
    ],
)
def test_a_guard_on_what_the_same_plan_wrote(steps: int, expected: str | None) -> None:
    draft = Draft(a_state())
    draft.step("first", puts=[a_claim(2)])
    for number in range(3, 1 + 2 * steps, 2):
        draft.step("between", puts=[a_claim(number), a_claim(number + 1)])
    draft.step("last", puts=[a_claim(1000)], guards=[key_of(a_claim(2))])
    *_, last = all_of(Commit(draft.plan(), FENCE, ClockMark(1.0), 0))
    compared = [compare for compare in last.compares if compare.key == key_of(a_claim(2))]
    assert compared == ([unchanged(key_of(a_claim(2)), 101)] if expected else [absent(key_of(a_claim(2)))])


def test_a_step_is_never_torn_apart() -> None:
    draft = Draft(a_state())
    draft.step("small", puts=[a_claim(2)])
    draft.step("big", puts=[a_claim(number) for number in range(3, 93)])
    draft.step("small", puts=[a_claim(200 + number) for number in range(20)])
    assert [[s.why for s in t.steps] for t in all_of(Commit(draft.plan(), FENCE, ClockMark(1.0), 0))] == [
        ["small", "big"],
        ["small"],
    ]


def test_a_step_that_fits_no_transaction_is_a_bug() -> None:
    claims = tuple(a_claim(number) for number in range(2, 110))
    with pytest.raises(Inconsistent, match="far too big"):
        Draft(a_state()).step("far too big", puts=claims)
    plan = Plan((Step("far too big", claims, (), tuple((key_of(claim), 0) for claim in claims)),))
    with pytest.raises(Inconsistent, match="far too big"):
        Commit(plan, FENCE, ClockMark(1.0), 0).next()


def test_a_record_written_twice_in_a_plan_is_a_bug() -> None:
    draft = Draft(a_state())
    draft.step("once", puts=[a_claim(2)])
    with pytest.raises(Inconsistent, match="twice"):
        draft.step("again", deletes=[key_of(a_claim(2))])


def test_no_steps_make_no_transaction() -> None:
    assert Commit(Plan(), FENCE, ClockMark(1.0), 0).next() is None


def test_a_late_request_is_shut_out_by_the_next_that_gets_in() -> None:
    store, state = Store(), ClusterState()
    store.txn((), (Put("/leader/1", b"m1"),))
    fence = (created_at("/leader/1", store.revision),)

    def a_plan(number: int) -> Transaction:
        draft = Draft(state)
        draft.step("claim", puts=[a_claim(number)])
        transaction = Commit(draft.plan(), fence, ClockMark(1.0), state.revision_of(CLOCK)).next()
        assert transaction is not None
        return transaction

    late, next_ = a_plan(2), a_plan(3)
    assert store.txn(next_.compares, next_.operations).succeeded
    assert not store.txn(late.compares, late.operations).succeeded
    assert not store.txn(next_.compares, next_.operations).succeeded, "nor does it count twice"


def test_a_leader_whose_key_is_gone_writes_nothing() -> None:
    store = Store()
    draft = Draft(ClusterState())
    draft.step("claim", puts=[a_claim(2)])
    transaction = Commit(draft.plan(), FENCE, ClockMark(1.0), 0).next()
    assert transaction is not None
    assert not store.txn(transaction.compares, transaction.operations).succeeded
