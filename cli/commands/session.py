"""What commands share: the client of the chosen context, and names as people give them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from cli.client.contexts import DEFAULT_SOCKET, Context, chosen
from cli.client.transport import PATIENCE, Transport
from cluster.errors import NotFound, UserError

if TYPE_CHECKING:
    from cli.client import Client
    from cluster.views import ServiceView


def context() -> Context:
    """Give the cluster that was chosen with --context, STACK_CONTEXT or STACK_HOST."""
    return chosen(click.get_current_context().find_root().obj)


def connect(*, patience: float = PATIENCE) -> Client:
    """Give the client of the chosen cluster. `patience` is as for `Client`."""
    return _client(context(), patience)


def connect_as_root() -> Client:
    """Give the client of this host's own manager, by its socket, unless a context was named."""
    name = click.get_current_context().find_root().obj
    asked = name is not None or os.environ.get("STACK_HOST") or os.environ.get("STACK_CONTEXT")
    return _client(context() if asked else Context(socket=str(DEFAULT_SOCKET)), PATIENCE)


def transport() -> Transport:
    """Give the way to the chosen cluster, for what needs no types of its API: they take long to load."""
    return Transport(context(), waiting=_waiting)


def _client(chosen: Context, patience: float) -> Client:
    from cli.client import Client

    return Client(chosen, patience=patience, waiting=_waiting)


def _waiting(why: str, seconds: float) -> None:
    """Tell a person why nothing comes, and whoever reads a stream why it paused: above a view, where one is drawn.

    The view takes what is written to `sys.stderr`; click would write past it, into its last line.
    """
    if not seconds:
        sys.stderr.write(f"{why}\n")
    elif sys.stderr.isatty():
        sys.stderr.write(f"{why}; asking again for {seconds:.0f} s\n")


def find_service(client: Client, name: str, kind: str = "service") -> ServiceView:
    """Give the service that is meant: `stack_service`, or `service` where only one stack has it.

    `kind` says what could have been meant, for the error.
    """
    services = client.services()
    exact = [service for service in services if service.name == name]
    found = exact or [service for service in services if service.service == name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(service.name for service in found)
        raise UserError(f"{name} can mean several services: {names}", hint="Give the whole name.")
    from cluster.alike import did_you_mean

    known = {known for service in services for known in (service.name, service.service)}
    known |= {service.stack for service in services if "stack" in kind}
    raise NotFound(
        f"there is no {kind} {name}",
        hint=did_you_mean(name, known, "`stack ls` and `stack services` list what there is."),
    )
