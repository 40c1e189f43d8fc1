"""The file of a backup: what was written is read again, and whatever happened to it is noticed."""

from __future__ import annotations

import functools
import io

import msgspec
import pytest

from cluster import backup
from cluster.backup import End, Entries, Frame, Manifest, Sealer, SealingKeys, frames
from cluster.errors import Forbidden, StackyardError, UserError

SALT = bytes(range(backup.SALT))
DERIVE = functools.cache(backup._derive)
WHOLE: list[Frame] = [
    Manifest("c1", 100.0, 7, "1.0", ("https://10.0.0.1:2377",)),
    SealingKeys(b"{}"),
    Entries((("/stackyard/a", b"1"), ("/stackyard/b", b"\x00\xff"))),
    Entries((("/stackyard/c", b"x" * 1000),)),
    End(3),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key takes a tenth of a second to derive, which is the point of it, and is the same each time."""
    monkeypatch.setattr(backup, "_derive", DERIVE)


def written(told: list[Frame], passphrase: str = "open sesame") -> bytes:
    sealer = Sealer(passphrase, SALT)
    return sealer.line + b"".join(map(sealer.seal, told))


def read(data: bytes, passphrase: str = "open sesame") -> list[Frame]:
    return list(frames(io.BytesIO(data), passphrase))


def test_what_is_written_is_read_again_and_nothing_of_it_is_in_clear() -> None:
    data = written(WHOLE)
    assert read(data) == WHOLE
    assert b"stackyard/a" not in data and b"xxxx" not in data and b"sesame" not in data


def test_with_another_passphrase_it_is_refused_by_that_reason() -> None:
    with pytest.raises(Forbidden, match="not the passphrase"):
        read(written(WHOLE), "open barley")


def test_wherever_it_is_cut_off_it_is_refused() -> None:
    data = written(WHOLE)
    line = data.index(b"\n") + 1
    for end in range(line, len(data), 7):
        with pytest.raises(UserError, match="damaged or cut off"):
            read(data[:end])
    with pytest.raises(UserError, match="no backup"):
        read(data[: line - 1])


def test_wherever_a_bit_is_turned_it_is_refused() -> None:
    data = written(WHOLE)
    for at in range(0, len(data), 11):
        with pytest.raises(StackyardError):
            read(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


def sealed(told: list[Frame]) -> tuple[bytes, list[bytes]]:
    sealer = Sealer("open sesame", SALT)
    return sealer.line, [sealer.seal(frame) for frame in told]


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([0, 1, 3, 2, 4], id="blocks change places"),
        pytest.param([0, 1, 2, 4], id="one is left out"),
        pytest.param([0, 1, 2, 2, 3, 4], id="one is there twice"),
        pytest.param([0, 1, 2, 3], id="the last is left out"),
        pytest.param([0, 1, 2, 3, 4, 4], id="more follows the last"),
        pytest.param([], id="there is none"),
    ],
)
def test_blocks_are_taken_in_their_order_only(order: list[int]) -> None:
    line, blocks = sealed(WHOLE)
    with pytest.raises(UserError, match="damaged or cut off"):
        read(line + b"".join(blocks[number] for number in order))


def test_what_does_not_begin_with_a_manifest_or_miscounts_is_refused() -> None:
    with pytest.raises(UserError, match="damaged"):
        read(written(WHOLE[1:]))
    with pytest.raises(StackyardError, match="counts 4 keys and has 3"):
        read(written([*WHOLE[:-1], End(4)]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(WHOLE).replace(b"BACKUP 1 ", b"BACKUP 2 ", 1), id="by its first line"),
        pytest.param(written([msgspec.structs.replace(WHOLE[0], schema=2), *WHOLE[1:]]), id="by its manifest"),
    ],
)
def test_what_a_newer_release_wrote_is_refused_by_that_reason(data: bytes) -> None:
    with pytest.raises(UserError, match="schema 2, this program reads up to 1"):
        read(data)


@pytest.mark.parametrize("data", [b"", b"services:\n  web: {}\n", b"\x00" * 1000])
def test_what_is_no_backup_is_refused_by_that_reason(data: bytes) -> None:
    with pytest.raises(UserError, match="no backup"):
        read(data)
