"""The Python client of a manager's API, without any word to the terminal.

    from cli.client import Client
    from cli.client.contexts import chosen

    with Client(chosen()) as client:
        for task in client.tasks(stack="shop"):
            ...

Answers are the types of `cluster.views`, errors those of `cluster.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """Load all the types of the API only where they are used: commands that need none start in half of the time."""
    if name != "Client":
        raise AttributeError(name)
    from cli.client.client import Client

    return Client
