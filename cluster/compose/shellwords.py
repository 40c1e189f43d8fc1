"""A command as text, split into words as Docker does: like a shell, but no variable or pattern is looked at."""

from __future__ import annotations

from cluster.compose.tree import Wrong

_SPACE = " \t\r\n"
_ENDS = ";&|<>"


def split(text: str) -> list[str]:
    """Give the words; what a shell would take for the end of the command ends it here too. Raises Wrong."""
    words: list[str] = []
    word: list[str] = []
    begun = escaped = single = double = back = dollar = False
    for character in text:
        quoted = single or double or back or dollar
        if escaped:
            word.append(character)
            begun, escaped = True, False
        elif character == "\\" and not single:
            escaped = True
        elif character in _SPACE and not quoted:
            if begun:
                words.append("".join(word))
            word, begun = [], False
        elif character == '"' and not single and not dollar:
            begun, double = begun or double, not double
        elif character == "'" and not double and not dollar:
            begun, single = begun or single, not single
        elif character in _ENDS and not quoted:
            if character == ">" and word and word[0].isdecimal():
                begun = False
            break
        else:
            if character == "`" and not (single or double or dollar):
                back = not back
            elif character == "(" and not (single or double or back):
                if dollar or not word or word[-1] != "$":
                    raise Wrong("a bracket in the command is not in quotes")
                dollar = True
            elif character == ")" and not (single or double or back):
                dollar = not dollar
            word.append(character)
            begun = True
    if escaped or single or double or back or dollar:
        raise Wrong("a quote, bracket or backslash in the command is not closed")
    return [*words, "".join(word)] if begun else words
