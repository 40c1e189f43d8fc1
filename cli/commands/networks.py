"""`stack network` and `stack volume`: what stacks made of them."""

from __future__ import annotations

import click

from cli.commands import completion, names
from cli.commands.names import suggesting
from cli.commands.session import connect
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import Form, age, format_option, joined
from cluster.alike import did_you_mean
from cluster.errors import Failed, NotFound
from cluster.views.volumes import NODE_DOWN

_NETWORK = {
    "NAME": lambda n: n.name,
    "STACK": lambda n: n.stack or "-",
    "SUBNETS": lambda n: joined(n.subnets),
    "VNI": lambda n: str(n.vni),
    "INTERNAL": lambda n: "yes" if n.internal else "no",
    "ENCRYPTED": lambda n: "yes" if n.encrypted else "no",
    "TASKS": lambda n: str(n.endpoints),
    "ATTACHED": lambda n: str(sum(one.state == "attached" for one in n.attachments)) if n.attachable else "-",
}

_SPARE = ("VNI", "ATTACHED", "INTERNAL", "ENCRYPTED", "SUBNETS")

_ATTACHMENT = {
    "CONTAINER": lambda a: a.name,
    "NODE": lambda a: a.node,
    "ADDRESSES": lambda a: joined(a.addresses) or "-",
    "ALIASES": lambda a: joined(a.aliases),
    "STATE": lambda a: a.state,
    "MESSAGE": lambda a: a.message,
}

_MEMBER = {
    "ADDRESSES": lambda m: joined(m.addresses),
    "OF": lambda m: m.kind,
    "NODE": lambda m: m.node or "-",
    "NAME": lambda m: m.name,
}

_VOLUME = {
    "NAME": lambda v: v.name,
    "NODE": lambda v: v.node,
    "STACK": lambda v: v.stack or "-",
    "USED BY": lambda v: joined(v.used_by) or "-",
    "CREATED": lambda v: age(v.created_at) + " ago",
    "PROBLEM": lambda v: v.problem,
}


@click.group(cls=Group)
def network() -> None:
    """The networks between containers, over all nodes. They come and go with the stacks that define them."""


@network.command("ls")
@list_options
def list_networks(listing: Listing) -> None:
    """List the networks.

    \b
    stack network ls
    stack network ls --filter stack=shop
    """
    with connect() as client:
        found = client.networks()
    show(found, _NETWORK, listing, spare=_SPARE)


@network.command("inspect")
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.networks)
@format_option
def inspect_networks(wanted: tuple[str, ...], form: Form) -> None:
    """Tell all of networks, by their whole names: also who has which address in them.

    \b
    Example:
      stack network inspect shop_default
    """
    with connect() as client:
        known = {network.name: network.id for network in client.networks()}
        if missing := [name for name in wanted if name not in known]:
            hint = did_you_mean(missing[0], known, "`stack network ls` lists them.")
            raise NotFound(f"there is no network {', '.join(missing)}", hint=hint)
        found = [client.network(known[name]) for name in wanted]
    if form == "json":
        show(found, {}, Listing(form))
        return
    for number, one in enumerate(found):
        click.echo("\n" * (number > 0), nl=False)
        asked = [f"gateway {joined(one.gateways)}"] if one.gateways else []
        asked += [f"MTU {one.mtu}"] if one.mtu else []
        more = {"ASKED FOR": lambda _, asked=asked: joined(asked)} if asked else {}
        show([one.network], _NETWORK | more, Listing(), spare=_SPARE)
        click.echo()
        show(one.members, _MEMBER, Listing())
        if one.network.attachments:
            click.echo()
            show(one.network.attachments, _ATTACHMENT, Listing())


@network.command("attach")
@click.argument("network_name", metavar="NETWORK", shell_complete=completion.networks)
@click.argument("container")
@click.option(
    "--node", default="", shell_complete=completion.nodes,
    help="The node that the container is on, where others have one of that name.",
)  # fmt: skip
@click.option("--alias", "aliases", multiple=True, help="Another name for it on the network, beside its own.")
@click.option("--ip", "addresses", multiple=True, help="The address that it is to have, IPv4 or IPv6.")
@format_option
def attach(
    network_name: str, container: str, node: str, aliases: tuple[str, ...], addresses: tuple[str, ...], form: Form
) -> None:
    """Make a container that was started by hand a member of a network.

    The network says `attachable: true`. The container is looked for on all nodes; started with `--dns 127.0.0.11` it
    finds the services of the network by name, and in any case they find it by its own name and aliases. It stays a
    member when it is restarted, until it is removed or taken off.

    \b
    Example: docker run -d --name debug --dns 127.0.0.11 alpine sleep 1d
             stack network attach shop_default debug --alias probe
    """
    with connect() as client, suggesting(client, network_name, names.networks):
        made = client.attach(network_name, container, node=node, aliases=aliases, addresses=addresses)
    show([made], _ATTACHMENT, Listing(form))


@network.command("detach")
@click.argument("network_name", metavar="NETWORK", shell_complete=completion.networks)
@click.argument("container")
@click.option(
    "--node", default="", shell_complete=completion.nodes,
    help="The node that the container is on, where others have one of that name.",
)  # fmt: skip
def detach(network_name: str, container: str, node: str) -> None:
    """Take a container off a network that it was attached to; it runs on.

    \b
    Example: stack network detach shop_default debug
    """
    with connect() as client, suggesting(client, network_name, names.networks):
        client.detach(network_name, container, node=node)
    click.echo(f"{container} is taken off {network_name}.")


@network.command("convergence")
@format_option
def show_convergence(form: Form) -> None:
    """Tell how long changes take to be in force on all nodes.

    From the word that a task is healthy until names, virtual addresses and published ports lead to it on every node,
    and from the decision that it stops until nothing does; as measured since its start by the manager that answers,
    with the nodes that are in session with it. Nodes that have not confirmed a change for a second are named.

    \b
    stack network convergence
    """
    with connect() as client:
        found = client.convergence()
    if form == "json":
        show([found], {}, Listing(form))
        return
    show(
        (("reachable", found.reachable), ("unreachable", found.unreachable)),
        {
            "CHANGE": lambda row: row[0],
            "MEASURED": lambda row: str(row[1].count),
            "P50": lambda row: _seconds(row[1].p50),
            "P99": lambda row: _seconds(row[1].p99),
            "LONGEST": lambda row: _seconds(row[1].longest),
        },
        Listing(),
    )
    click.echo(f"by manager {found.manager}, on {found.nodes} node{'s' * (found.nodes != 1)}")
    if found.unconfirmed:
        click.echo(f"{found.unconfirmed} more were not confirmed by every node within 30 s")
    for name, since in sorted(found.behind.items()):
        click.echo(f"node {name} has not confirmed a change for {since:.0f} s")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


@click.group(cls=Group)
def volume() -> None:
    """The volumes whose data is on one node, where the tasks that use it run.

    They outlive their stack, and are found again by a later one of the same name, until `stack volume rm` removes them,
    or `stack rm --volumes` with their stack.
    """


@volume.command("ls")
@list_options
def list_volumes(listing: Listing) -> None:
    """List the volumes and where they are: not those of global services, nor those that all nodes reach.

    \b
    stack volume ls --filter node=n2
    """
    with connect() as client:
        found = client.volumes()
    show(found, _VOLUME, listing, spare=("CREATED", "STACK"))


@volume.command("inspect")
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.volumes)
@format_option
def inspect_volumes(wanted: tuple[str, ...], form: Form) -> None:
    """Tell all of volumes, by their whole names.

    \b
    stack volume inspect shop_data
    """
    with connect() as client:
        found = []
        for name in wanted:
            with suggesting(client, name, names.volumes):
                found.append(client.volume(name))
    show(found, _VOLUME, Listing(form))


@volume.command("rm")
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.volumes)
def remove_volumes(wanted: tuple[str, ...]) -> None:
    """Remove volumes that nothing uses, with their data, by their whole names; those of stacks that are gone too.

    One whose node is away is removed once that is back; until then no task gets it.

    \b
    stack volume rm shop_data
    """
    with connect() as client:
        for name in wanted:
            with suggesting(client, name, names.volumes):
                done = client.remove_volume(name)
            if done.gone:
                click.echo(f"removed {name}")
            elif done.problem == NODE_DOWN:
                click.echo(f"{name} is removed once node {done.node} is back, which is down")
            else:
                raise Failed(
                    f"volume {name} on node {done.node} is not gone yet: {done.problem}",
                    hint="It goes as soon as that is over; `stack volume ls` tells.",
                )
