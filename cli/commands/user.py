"""`stack user`: people and programs, what they may do, and with what they prove who they are."""

from __future__ import annotations

import click

from cli.commands import completion, names
from cli.commands.names import suggesting
from cli.commands.session import connect
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import Form, age, format_option, joined, local_time
from cli.times import lifetime
from cluster.model.user import UserRole
from cluster.people import CredentialView, NewUser, UserChange, UserView

_ROLES = click.Choice(["viewer", "deployer", "operator", "admin"])
_STACK_HELP = "A stack that a viewer or deployer is kept to, such as shop or 'team-*'; may be repeated."


@click.group(cls=Group)
def user() -> None:
    """People and programs: who may do what, and with what they prove it.

    \b
    viewer    sees stacks, services, tasks and nodes (all, or those of --stack)
    deployer  deploys, scales and removes the stacks of --stack, and enters their
              tasks; nothing in them may lead out of a container into its host,
              but with --privileged
    operator  does so with all stacks; nodes, external secrets and configs
    admin     makes users besides

    \b
    stack user create ann --role deployer --stack shop --stack 'team-*'
    stack user create ci --role deployer --stack shop > ci.token
    stack user revoke ann
    """


@user.command()
@click.argument("name")
@click.option("--role", type=_ROLES, required=True)
@click.option("--stack", "stacks", multiple=True, metavar="PATTERN", help=_STACK_HELP)
@click.option("--privileged", is_flag=True, help="Let a deployer deploy what gets hold of a host, too.")
@click.option("--expires", metavar="TIME", help="After how long the token ends, such as 12h, 90d.")
def create(name: str, role: UserRole, stacks: tuple[str, ...], privileged: bool, expires: str | None) -> None:
    """Make a user, and print its token: it is shown this once.

    \b
    stack user create ann --role deployer --stack shop
    stack user create auditor --role viewer
    """
    request = NewUser(name, role, stacks, privileged, lifetime(expires))
    with connect() as client:
        made = client.create_user(request)
    click.echo(made.token)
    _say_what_for(name)


@user.command()
@click.argument("name", shell_complete=completion.users)
@click.option("--expires", metavar="TIME", help="After how long the token ends, such as 12h, 90d.")
def token(name: str, expires: str | None) -> None:
    """Print one more token of a user: it is shown this once. Those that there are stay good.

    \b
    stack user token ann --expires 90d > ann.token
    """
    with connect() as client:
        made = client.create_user_token(name, lifetime(expires))
    click.echo(made.token)
    _say_what_for(name)


def _say_what_for(name: str) -> None:
    click.echo(f"{name} uses it so: stack context add NAME --manager HOST --token-file FILE", err=True)


@user.command()
@list_options
def ls(listing: Listing) -> None:
    """List the users.

    \b
    stack user ls
    """
    with connect() as client:
        found = client.users()
    show(found, _COLUMNS, listing)


@user.command()
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.users)
@format_option
def inspect(wanted: tuple[str, ...], form: Form) -> None:
    """Tell all of users but their tokens, of which only a hash is kept.

    \b
    stack user inspect ann
    """
    with connect() as client:
        found = []
        for name in wanted:
            with suggesting(client, name, names.users):
                found.append(client.user(name))
    show(found, _COLUMNS, Listing(form))
    for one in found:
        if form == "table" and one.credentials:
            click.echo(f"\n{one.name}:")
            show(one.credentials, _CREDENTIALS, Listing(form))


@user.command()
@click.argument("name", shell_complete=completion.users)
@click.option("--role", type=_ROLES)
@click.option("--stack", "stacks", multiple=True, metavar="PATTERN", help=_STACK_HELP + " In place of those before.")
@click.option("--privileged/--no-privileged", default=None, help="Whether a deployer may get hold of hosts.")
def update(name: str, role: UserRole | None, stacks: tuple[str, ...], privileged: bool | None) -> None:
    """Change what a user may do, at once. Its tokens and certificates stay good.

    \b
    stack user update ann --role deployer --stack shop --stack 'team-*'
    """
    with connect() as client, suggesting(client, name, names.users):
        changed = client.update_user(name, UserChange(role, stacks or None, privileged))
    click.echo(f"{name} is now {_what(changed)}")


@user.command()
@click.argument("name", shell_complete=completion.users)
@click.argument("ident", metavar="[ID]", required=False)
def revoke(name: str, ident: str | None) -> None:
    """Make all tokens and certificates of a user worthless, or the one with that ID; what it has open ends.

    \b
    stack user revoke ann
    stack user revoke ann 0123456789ab
    """
    with connect() as client, suggesting(client, name, names.users):
        left = client.revoke_credentials(name, ident).credentials
    click.echo(f"revoked; {name} has {len(left)} left")


@user.command()
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.users)
def rm(wanted: tuple[str, ...]) -> None:
    """Take users out, with all that they prove themselves with.

    \b
    stack user rm ann
    """
    with connect() as client:
        for name in wanted:
            with suggesting(client, name, names.users):
                client.remove_user(name)
            click.echo(f"removed {name}")


@user.command()
def whoami() -> None:
    """Tell whom the manager takes you for.

    \b
    stack user whoami
    """
    with connect() as client:
        me = client.me()
    stacks = f" of {joined(me.stacks)}" if me.stacks else ""
    ends = "" if me.expires_at is None else f", until {local_time(me.expires_at)}"
    click.echo(f"{me.name}, {'privileged ' if me.privileged else ''}{me.role}{stacks}{ends}")


def _what(one: UserView) -> str:
    return f"{'privileged ' if one.privileged else ''}{one.role}" + (f" of {joined(one.stacks)}" if one.stacks else "")


def _ends(one: CredentialView) -> str:
    if one.expired:
        return "ended"
    return "never" if one.expires_at is None else local_time(one.expires_at)


_COLUMNS = {
    "NAME": lambda one: one.name,
    "ROLE": lambda one: ("privileged " if one.privileged else "") + one.role,
    "STACKS": lambda one: joined(one.stacks) or "all",
    "CREDENTIALS": lambda one: str(sum(not held.expired for held in one.credentials)),
    "CREATED": lambda one: f"{age(one.created_at)} ago, by {one.author}",
}
_CREDENTIALS = {
    "ID": lambda one: one.id,
    "KIND": lambda one: one.kind,
    "CREATED": lambda one: f"{age(one.created_at)} ago",
    "ENDS": _ends,
}
