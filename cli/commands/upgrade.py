"""`stack upgrade`."""

from __future__ import annotations

import click

from cli.commands.session import connect
from cli.listing import fitted
from cli.output import Form, format_option, terminal_width
from cluster.views import UpgradeView


@click.command()
@click.option("--status", is_flag=True, help="Show how far it is; so does the command without any option.")
@click.option("--finish", is_flag=True, help="Allow what only the new release knows. There is no way back then.")
@format_option
def upgrade(status: bool, finish: bool, form: Form) -> None:
    """Show which release each manager and agent runs, and finish an upgrade.

    Install the new release on one host after the other and restart its services, managers first; each host can go
    back to the old release. When all run the new one, finish: until then nothing is stored that the old one could
    not read, and what needs that is refused.

    \b
    Example:
      stack upgrade              who runs what, who is behind
      stack upgrade --finish     when nobody is behind
    """
    if status and finish:
        raise click.UsageError("--status and --finish are two things.")
    with connect() as client:
        found = client.finish_upgrade() if finish else client.upgrade()
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    lines = [(one.kind, one.name, one.release or "?", str(one.version or "?"), one.behind) for one in found.programs]
    click.echo(fitted([("KIND", "NAME", "RELEASE", "VERSION", "BEHIND"), *lines], terminal_width() or None))
    click.echo(_words(found))


def _words(found: UpgradeView) -> str:
    if found.version >= found.newest:
        return f"the cluster is of version {found.version}, and no upgrade is under way"
    if found.behind:
        behind = "1 is behind" if len(found.behind) == 1 else f"{len(found.behind)} are behind"
        return f"an upgrade from version {found.version} to {found.newest} is under way; {behind}"
    return f"all run version {found.newest}: `stack upgrade --finish` ends the upgrade from version {found.version}"
