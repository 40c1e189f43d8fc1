"""`stack port-forward`: ports of a task, here."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from functools import partial

import click

from cli.client.channel import open_channel
from cli.client.forward import forward, listen
from cli.commands import completion
from cli.commands.session import context, transport
from cli.interrupts import at_once
from cluster.errors import UserError

_PORTS = re.compile(r"(?:(?P<address>\[[0-9a-fA-F:]+\]|[^:]+):)?(?:(?P<local>\d*):)?(?P<remote>\d+)")


@click.command()
@click.argument("task", shell_complete=completion.services_and_tasks)
@click.argument("ports", nargs=-1, required=True, metavar="[[ADDRESS:]LOCAL:]PORT...")
def port_forward(task: str, ports: tuple[str, ...]) -> None:
    """Lead local TCP ports to ports of a task, published or not, until Ctrl-C.

    TASK is web.2, shop_web.2 or the beginning of a task's id; web alone is the first of its tasks that runs, chosen
    anew for each connection. Programs that listen only inside of their container are reached, too.

    \b
    stack port-forward web 8080:80
    stack port-forward db.1 5432 0.0.0.0:9000:9000
    """
    wanted = [_parse(text) for text in ports]
    chosen = context()
    with ExitStack() as stack:
        with closing(transport()) as way, closing(open_channel(way, task, "port")) as channel:
            shown = f"{channel.task} on {channel.node}"
        listeners = {}
        for address, local, remote in wanted:
            listener = stack.enter_context(listen(address, local))
            listeners[listener] = remote
            click.echo(f"{address}:{listener.getsockname()[1]} leads to port {remote} of {shown}")
        with at_once():
            forward(chosen, task, listeners, partial(click.echo, err=True))


def _parse(text: str) -> tuple[str, int, int]:
    if text.lower().endswith("/udp"):
        raise UserError(f"{text}: UDP is not forwarded, only TCP", hint="`stack exec` runs a client in a container.")
    match = _PORTS.fullmatch(text.removesuffix("/tcp"))
    if match is None:
        raise UserError(f"{text!r} names no ports", hint="Write PORT, LOCAL:PORT or ADDRESS:LOCAL:PORT.")
    address, local, remote = match["address"], match["local"], int(match["remote"])
    if address is not None and address.isdigit():  # 8080:80, where both groups could take the first number
        address, local = None, address
    here = remote if local is None else int(local or 0)
    if not (0 <= here <= 65535 and 0 < remote <= 65535):
        raise UserError(f"{text!r} names a port that there is not")
    return (address or "127.0.0.1").strip("[]"), here, remote
