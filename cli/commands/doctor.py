"""`stack doctor`."""

from __future__ import annotations

import click

from cli.commands.session import connect
from cli.listing import fitted
from cli.output import Form, format_option, terminal_width
from cluster.examination import Diagnosis


@click.command()
@format_option
def doctor(form: Form) -> None:
    """Examine the network of all nodes, and say what is wrong with it and what mends it.

    Every node probes the way to every other: UDP port 4789, the size of packets that pass uncut, checksums left to the
    network card, the clocks. It looks up names and virtual addresses where containers do, and looks for numbers and
    addresses that two have, and for namespaces and links that are left over. What can be put right without harm is put
    right.

    The exit code is 0 when all is well, 1 when something is not.

    \b
    Example:
      $ stack doctor
      WHERE     WHAT                                                    REMEDY
      n1 -> n2  packets to UDP port 4789 of 10.0.0.2 are not answered   Nobody ...
    """
    with connect() as client:
        found = client.doctor()
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo(in_words(found, terminal_width()))
    if any(not finding.mended for finding in found.findings):
        raise SystemExit(1)


def in_words(found: Diagnosis, columns: int) -> str:
    """Tell it in so many columns (0: any number)."""
    nodes = "1 node" if found.nodes == 1 else f"{found.nodes} nodes"
    some = "" if found.ways >= found.nodes * (found.nodes - 1) else " of the"
    looked = f"{nodes}, {found.ways}{some} ways between them"
    looked += f", {found.names} names and {found.vips} virtual addresses" if found.names else ""
    wrong = sum(not finding.mended for finding in found.findings)
    told = "nothing is wrong" if not wrong else "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong"
    rows = [["WHERE", "WHAT", "REMEDY"]]
    rows += [[one.about, one.what, "(done)" if one.mended else one.remedy] for one in found.findings]
    listed = fitted(rows, columns or None) + "\n\n" if found.findings else ""
    return listed + f"Examined {looked}: {told}."
