"""The file of keys, locked and not: what lies on the disk, and who can read it."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from cluster.errors import Forbidden, Unavailable, UserError
from cluster.unlock import UnlockKey, new_unlock_key, parse_unlock_key, unlock_id
from manager import key_file
from manager.key_file import Keys, Locked

KEYS = Keys("ZGlnZXN0", {"0a1b2c3d": "c2VhbGluZw=="}, "0a1b2c3d")
ONE, OTHER = new_unlock_key(), new_unlock_key()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert key_file.read(path) is None
    path.write_text(key_file.text_of(KEYS))
    assert key_file.read(path) == KEYS
    path.write_text('{"digest":"ZGlnZXN0","sealing":{"0a1b2c3d":"c2VhbGluZw=="},"current":"0a1b2c3d","schema":1}')
    assert key_file.read(path) == KEYS, "as the release before wrote it"

    path.write_text(key_file.text_of(msgspec.structs.replace(KEYS, unlock=ONE)))
    locked = key_file.read(path)
    assert isinstance(locked, Locked) and locked.unlock == unlock_id(ONE)
    assert locked.opened(ONE) == msgspec.structs.replace(KEYS, unlock=ONE)


def test_a_locked_one_tells_nothing_and_opens_with_its_key_alone(tmp_path: Path) -> None:
    text = key_file.text_of(msgspec.structs.replace(KEYS, unlock=ONE))
    for secret in (
        KEYS.digest,
        *KEYS.sealing.values(),
        ONE,
        ONE[-64:],
        base64.b64encode(bytes.fromhex(ONE[-64:])).decode(),
    ):
        assert secret not in text
    (tmp_path / "keys").write_text(text)
    locked = key_file.read(tmp_path / "keys")
    assert isinstance(locked, Locked)
    with pytest.raises(Forbidden) as refused:
        locked.opened(OTHER)
    assert unlock_id(ONE) in refused.value.hint and unlock_id(OTHER) in refused.value.hint
    for at in range(len(locked.data)):
        changed = bytearray(locked.data)
        changed[at] ^= 1
        with pytest.raises(Forbidden):
            msgspec.structs.replace(locked, data=bytes(changed)).opened(ONE)


@pytest.mark.parametrize("text", ["", "nothing", "{}", "[]", '{"type":"locked"}', '{"type":"other","digest":""}'])
def test_what_is_no_such_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(Unavailable, match="cannot be read"):
        key_file.read(tmp_path / "keys")


def test_one_of_a_later_release_is_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text('{"schema": 2, "digests": []}')
    with pytest.raises(Unavailable, match="schema 2, this program reads up to 1"):
        key_file.read(tmp_path / "keys")


def test_unlock_keys_are_read_as_people_paste_them() -> None:
    assert parse_unlock_key(f"  {ONE}\n") == ONE != OTHER
    assert unlock_id(ONE) != unlock_id(OTHER) and unlock_id("") == ""
    assert ONE not in repr(UnlockKey(ONE)) and unlock_id(ONE) not in ONE
    for wrong in ("", "SYUNLOCK-1-", ONE[:-1], ONE + "0", ONE.upper(), ONE.replace("SYUNLOCK-1", "SYUNLOCK-2")):
        with pytest.raises(UserError, match="no unlock key"):
            parse_unlock_key(wrong)
