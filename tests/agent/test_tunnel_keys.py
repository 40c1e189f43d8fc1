"""How a node's keys follow one another."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.network.wireguard import PORTS, OwnKey, is_key
from agent.tunnel_keys import LIFE, PATIENCE, Kept, TunnelKeys, new_key, turn

OLD, NEW = Kept(OwnKey("o", "old", PORTS[0]), 1000.0), Kept(OwnKey("n", "new", PORTS[1]), 1000.0 + LIFE)


def made(port: int) -> OwnKey:
    return OwnKey("f", "fresh", port)


@pytest.mark.parametrize(
    ("kept", "now", "met", "expected"),
    [
        pytest.param((), 5.0, False, (Kept(made(PORTS[0]), 5.0),), id="the first key"),
        pytest.param((OLD,), OLD.made_at + LIFE - 1, False, (OLD,), id="young"),
        pytest.param(
            (OLD,), OLD.made_at + LIFE, False, (OLD, Kept(made(PORTS[1]), OLD.made_at + LIFE)),
            id="old: another one is announced",
        ),
        pytest.param((OLD, NEW), NEW.made_at + 60, False, (OLD, NEW), id="announced, not known to all"),
        pytest.param((OLD, NEW), NEW.made_at + 60, True, (NEW, OLD), id="known to all"),
        pytest.param((OLD, NEW), NEW.made_at + PATIENCE, False, (NEW, OLD), id="some never hear of it"),
        pytest.param((NEW, OLD), NEW.made_at + LIFE - 1, True, (NEW, OLD), id="the last one is still listened to"),
        pytest.param(
            (NEW, OLD), NEW.made_at + LIFE, True, (NEW, Kept(made(PORTS[0]), NEW.made_at + LIFE)),
            id="its place is taken",
        ),
    ],
)  # fmt: skip
def test_the_next_step(kept: tuple[Kept, ...], now: float, met: bool, expected: tuple[Kept, ...]) -> None:
    assert turn(kept, now, met=met, make=made) == expected


def test_keys_are_kept_where_only_root_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = TunnelKeys(path)
    [key] = keys.keys
    assert is_key(key.public) and is_key(key.private) and key.port == PORTS[0]
    assert [told.public for told in keys.announced] == [key.public]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TunnelKeys(path).keys == (key,)
    assert key.private not in repr(key)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2, "keys": []}'], ids=repr)
def test_what_cannot_be_read_is_made_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    assert len(TunnelKeys(path).keys) == 1


def test_no_two_keys_are_the_same() -> None:
    assert len({new_key(1).private for _ in range(5)}) == 5
