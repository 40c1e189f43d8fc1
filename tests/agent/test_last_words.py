"""What is told of a failed task's log, and what is kept back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.last_words import MASK, check_said, last_lines


@pytest.mark.parametrize(
    ("log", "told"),
    [
        pytest.param(b"", (), id="nothing"),
        pytest.param(b"1\n2\n3\n4\n5\n6\n", ("2", "3", "4", "5", "6"), id="the last five"),
        pytest.param(b"one\n\n  two \r\n", ("one", "two"), id="no empty lines"),
        pytest.param(b"\x1b[31mred\x1b[0m\x07 tab\there\xff", ("red  tab here�",), id="what a terminal would obey"),
        pytest.param(b"x" * 300, ("x" * 199 + "…",), id="long lines are cut"),
    ],
)
def test_the_last_lines_of_a_log_are_told_for_people(log: bytes, told: tuple[str, ...]) -> None:
    assert last_lines(log) == told


KEY = b"-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"


@pytest.mark.parametrize(
    ("log", "secrets", "told"),
    [
        pytest.param(b"login root:open sesame@db", (b"open sesame\n",), (f"login root:{MASK}@db",), id="within a line"),
        pytest.param(b"pw\nhunter2 hunter2", (b"hunter2",), ("pw", f"{MASK} {MASK}"), id="each time"),
        pytest.param(b"no: hunter22", (b"hunter2", b"hunter22"), (f"no: {MASK}",), id="the longer one first"),
        pytest.param(b"bad: MIIEvQIBADANBg", (KEY,), (f"bad: {MASK}",), id="a line of a key"),
        pytest.param(b"x" * 190 + b"open sesame", (b"open sesame",), ("x" * 190 + MASK,), id="before lines are cut"),
        pytest.param(b"\x1b[1mopen\x1b[0m sesame", (b"open sesame",), (MASK,), id="in colours"),
        pytest.param(b"cat 7 of 17", (b"7",), (f"cat {MASK} of 17",), id="a short one only as a word"),
        pytest.param(b"all is well", (b"", b"\n \n"), ("all is well",), id="an empty one is none"),
        pytest.param(b"a.c abc", (b"abc1", b".*", b"a.c"), (f"{MASK} abc",), id="not as a pattern"),
    ],
)
def test_secrets_are_kept_back(log: bytes, secrets: tuple[bytes, ...], told: tuple[str, ...]) -> None:
    assert last_lines(log, secrets) == told


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=4, max_size=12), min_size=1), st.binary())
def test_no_secret_is_ever_told(secrets: list[str], around: bytes) -> None:
    log = around + "".join(secrets).encode() + around
    told = " ".join(last_lines(log, [secret.encode() for secret in secrets]))
    assert not any(secret in told for secret in secrets)


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        pytest.param(1, b"", "the check said nothing, with exit code 1", id="nothing"),
        pytest.param(7, b"asking\n\x1b[31mno\n", 'the check said "no", with exit code 7', id="its last line"),
        pytest.param(1, b"pw hunter2", f'the check said "pw {MASK}", with exit code 1', id="no secrets"),
        pytest.param(-1, b"Health check exceeded timeout (1s)",
                     'the check said "Health check exceeded timeout (1s)"', id="the engine ended it"),
    ],
)  # fmt: skip
def test_what_a_health_check_said_is_one_line(code: int, output: bytes, told: str) -> None:
    assert check_said(code, output, (b"hunter2",)) == told
