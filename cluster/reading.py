"""Reading what somebody else wrote, who may mean harm."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def untrusted(decoder: msgspec.json.Decoder[T], text: bytes | str) -> T:
    """Read a text. Raises msgspec.MsgspecError for all that cannot be read.

    The decoder itself raises other errors where it is nested too deep, and for a text in it that is no UTF-8.
    """
    try:
        return decoder.decode(text)
    except (RecursionError, UnicodeError) as error:
        raise msgspec.DecodeError(str(error)) from error
