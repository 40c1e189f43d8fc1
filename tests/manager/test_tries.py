"""How often an address may try a wrong token."""

from __future__ import annotations

from manager.tries import AT_ONCE, EACH, REMEMBERED, Tries


def exhausted(tries: Tries, address: str, now: float) -> None:
    for _ in range(AT_ONCE):
        assert tries.wait(address, "c", now) == 0.0
        tries.wrong(address, now)
    assert tries.wait(address, "c", now) > 0.0


def test_an_address_has_so_many_tries_and_gets_them_back_one_after_another() -> None:
    tries = Tries()
    exhausted(tries, "192.0.2.1", 100.0)
    assert tries.wait("192.0.2.2", "c", 100.0) == 0.0, "others are not concerned"
    wait = tries.wait("192.0.2.1", "c", 100.0)
    assert wait == EACH
    assert tries.wait("192.0.2.1", "c", 100.0 + wait) == 0.0
    tries.wrong("192.0.2.1", 100.0 + wait)
    assert tries.wait("192.0.2.1", "c", 100.0 + wait) > 0.0, "it was one"


def test_who_was_right_from_there_is_not_kept_waiting_by_others() -> None:
    tries = Tries()
    tries.right("192.0.2.1", "mine")
    exhausted(tries, "192.0.2.1", 0.0)
    assert tries.wait("192.0.2.1", "mine", 0.0) == 0.0
    assert tries.wait("192.0.2.2", "mine", 0.0) == 0.0


def test_a_network_that_anyone_gets_counts_as_one_address() -> None:
    tries = Tries()
    for number in range(AT_ONCE):
        tries.wrong(f"2001:db8::{number:x}", 0.0)
    assert tries.wait("2001:db8::ffff", "c", 0.0) > 0.0
    assert tries.wait("2001:db8:0:1::1", "c", 0.0) == 0.0


def test_what_is_remembered_is_bounded() -> None:
    tries = Tries()
    for number in range(2 * REMEMBERED):
        tries.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        tries.right("192.0.2.1", str(number))
    assert len(tries._wrong) == len(tries._right) == REMEMBERED
