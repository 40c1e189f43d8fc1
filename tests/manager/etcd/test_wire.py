"""Keys and prefixes as ranges of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manager.etcd.wire import LAST_KEY, key_bytes, key_text, prefix_range

few_bytes = st.lists(st.sampled_from([0x00, 0x01, 0x2F, 0x61, 0xFE, 0xFF]), max_size=4).map(bytes)


@given(prefix=few_bytes, key=few_bytes.filter(bool))
def test_the_range_of_a_prefix_holds_the_keys_that_begin_with_it_and_no_other(prefix: bytes, key: bytes) -> None:
    start, end = prefix_range(key_text(prefix))
    inside = start <= key and (end == LAST_KEY or key < end)
    assert inside == (key.startswith(prefix) if prefix else True)


@given(key=st.binary(max_size=20))
def test_a_key_that_is_no_text_comes_back_as_the_same_bytes(key: bytes) -> None:
    assert key_bytes(key_text(key)) == key
