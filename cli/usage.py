"""What is said of a command line that is wrong: in the form of our own errors, and with what may have been meant."""

from __future__ import annotations

import click

MEANT = {
    "up": "deploy", "apply": "deploy", "create": "deploy",
    "down": "rm", "undeploy": "rm", "delete": "rm", "remove": "rm", "destroy": "rm",
    "get": "ps", "list": "ls", "tasks": "ps", "pods": "ps", "status": "ps", "alloc": "ps", "job": "services",
    "describe": "explain", "rollout": "wait", "undo": "rollback", "revert": "rollback", "expose": "port-forward",
    "login": "context", "cordon": "node", "container": "ps", "system": "df", "swarm": "init", "build": "lab build",
    "images": "df",
}  # fmt: skip
"""What other programs call our commands."""

_STACKS_OWN = "{} come and go with the stack that defines them: change its file and deploy it."
_INSTEAD = {
    "stack service rm": "Take the service out of the stack's file and deploy it; `stack stop SERVICE` only stops it.",
    "stack service create": "Write the service into a file and deploy that: `stack deploy -f FILE`.",
    "stack service update": "Change the stack's file and deploy it; `stack update --force SERVICE` makes new tasks.",
    "stack volume create": _STACKS_OWN.format("Volumes"),
    "stack network create": _STACKS_OWN.format("Networks"),
    "stack network rm": _STACKS_OWN.format("Networks"),
    "stack network connect": "`stack network attach NETWORK CONTAINER` does it.",
    "stack network disconnect": "`stack network detach NETWORK CONTAINER` does it.",
}
"""What does the work of those of Docker's commands that have no place here."""


def told(error: click.ClickException) -> tuple[str, str]:
    """Give the message and the hint of an error of click's."""
    message = error.format_message().removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return _lower(message), ""
    more = f"`{context.command_path} --help` tells more."
    match error:
        case click.NoSuchCommand():
            word = error.command_name
            alike = [MEANT[word]] if context.parent is None and word in MEANT else _alike(context, word)
            instead = _INSTEAD.get(f"{context.command_path} {word}", "")
            return _lower(error.message.removesuffix(".")), instead or _did_you_mean(alike) or more
        case click.NoSuchOption():
            return _lower(error.message.removesuffix(".")), _did_you_mean(error.possibilities or []) or more
        case click.MissingParameter():
            return _lower(message), f"{context.get_usage()}\n{more}"
        case _:
            return _lower(message), more


def _alike(context: click.Context, word: str) -> list[str]:
    from difflib import get_close_matches

    assert isinstance(context.command, click.Group)
    return get_close_matches(word, context.command.list_commands(context), 3)


def _did_you_mean(alike: list[str]) -> str:
    return f"Did you mean {' or '.join(alike)}?" if alike else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
