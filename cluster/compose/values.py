"""Typed reading of nodes: text, numbers, lists, pairs. Values that came out of variables are text and are cast here."""

from __future__ import annotations

from cluster.compose import scalars
from cluster.compose.tree import Mapping, Node, Scalar, Sequence, Timestamp

_TRUE = ("true", "yes", "on", "1", "y", "t")
_FALSE = ("false", "no", "off", "0", "n", "f")


def describe(node: Node) -> str:
    """Say in a word or two what was found, for errors."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool(value)):
            return f"the truth value {scalars.write(value)}"
        case Scalar(value=int(value) | float(value)):
            return f"the number {scalars.write(value)}"
        case Scalar(value=Timestamp(text)):
            return f"the date {text}"
        case _:
            return "text"


def text(node: Node) -> str:
    """Read text; a number or truth value must be in quotes."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        hint = "Put it in quotes." if isinstance(node, Scalar) and node.value is not None else ""
        raise node.where.error(f"text is wanted here, not {describe(node)}", hint=hint)
    if "\0" in node.value:
        raise node.where.error("the text holds a NUL character")
    return node.value


def filled_text(node: Node) -> str:
    """Read text that must not be empty."""
    value = text(node)
    if not value.strip():
        raise node.where.error("the text is empty")
    return value


def loose_text(node: Node) -> str | None:
    """Read what may be text, a number or a truth value, as text; None for nothing."""
    if isinstance(node, Scalar) and isinstance(node.value, int | float):
        return scalars.write(node.value)
    if isinstance(node, Scalar) and node.value is None:
        return None
    return text(node)


def integer(node: Node, *, least: int | None = None, most: int | None = None) -> int:
    """Read a whole number, also from text such as a variable gave."""
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, str):
        value = scalars.resolve(value.strip())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise node.where.error(f"a whole number is wanted here, not {_quoted(node)}")
    if (least is not None and value < least) or (most is not None and value > most):
        limits = [f"at least {least}"] if least is not None else []
        limits += [f"at most {most}"] if most is not None else []
        raise node.where.error(f"{value} is out of range: it must be {' and '.join(limits)}")
    return value


def number(node: Node) -> float:
    """Read a number, also from text."""
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, str):
        value = scalars.resolve(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise node.where.error(f"a number is wanted here, not {_quoted(node)}")
    return value


def boolean(node: Node) -> bool:
    """Read a truth value, also from text such as a variable gave."""
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise node.where.error(f"true or false is wanted here, not {_quoted(node)}")


def one_of(node: Node, *choices: str) -> str:
    """Read one of a few words."""
    value = text(node)
    if value not in choices:
        raise node.where.error(f"{value!r} is none of {', '.join(choices)}")
    return value


def items(node: Node | None) -> tuple[Node, ...]:
    """Give the items of a list; nothing is an empty one."""
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return ()
    if not isinstance(node, Sequence):
        raise node.where.error(f"a list is wanted here, not {describe(node)}")
    return node.items


def mapping(node: Node | None) -> Mapping:
    """Give the node as a mapping; nothing is an empty one."""
    if node is None:
        return Mapping()
    if isinstance(node, Scalar) and node.value is None:
        return Mapping({}, node.where)
    if not isinstance(node, Mapping):
        raise node.where.error(f"a mapping is wanted here, not {describe(node)}")
    return node


def texts(node: Node | None) -> tuple[str, ...]:
    """Give a list of texts."""
    return tuple(text(item) for item in items(node))


def pairs(node: Node | None) -> dict[str, str]:
    """Give a mapping of names to loose text; a name without a value has an empty one."""
    return {key: loose_text(value) or "" for key, value in mapping(node).entries.items()}


def _quoted(node: Node) -> str:
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return repr(node.value if len(node.value) <= 40 else node.value[:37] + "...")
    return describe(node)
