"""The names that things of a cluster have: what completes a word, and what a mistyped one may have been meant to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from cluster.alike import did_you_mean
from cluster.errors import NotFound

if TYPE_CHECKING:  # commands that need no client take their names' completion from here, too
    from cli.client import Client
    from cluster.model.secret import FileKind

Names: TypeAlias = "Callable[[Client], list[str]]"


def stacks(client: Client) -> list[str]:
    return [stack.name for stack in client.stacks()]


def services(client: Client) -> list[str]:
    """Give whole names, and the short ones that only one service has."""
    found = client.services()
    short = [service.service for service in found]
    return [service.name for service in found] + [name for name in short if short.count(name) == 1]


def tasks(client: Client) -> list[str]:
    return [task.name for task in client.tasks()]


def nodes(client: Client) -> list[str]:
    return [node.name for node in client.nodes()]


def networks(client: Client) -> list[str]:
    return [network.name for network in client.networks()]


def volumes(client: Client) -> list[str]:
    return [volume.name for volume in client.volumes()]


def externals(kind: FileKind) -> Names:
    return lambda client: [one.name for one in client.externals(kind)]


def users(client: Client) -> list[str]:
    return [user.name for user in client.users()]


@contextmanager
def suggesting(client: Client, name: str, known: Names) -> Iterator[None]:
    """Have the error that nothing has a name tell which name is like it."""
    try:
        yield
    except NotFound as error:
        names = known(client)
        if name in names:  # something else is missing
            raise
        raise NotFound(error.message, hint=did_you_mean(name, names, error.hint)) from error
