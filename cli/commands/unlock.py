"""`stack autolock`, `unlock` and `unlock-key`: whether a manager that starts waits for a key that only people keep.

Asked of this host's own manager, as root, unless a context is named.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.client import Client
from cli.commands.session import connect_as_root
from cluster.errors import Conflict, UserError
from cluster.unlock import new_unlock_key, parse_unlock_key


@click.command()
@click.argument("state", type=click.Choice(["on", "off"]))
def autolock(state: str) -> None:
    """Have managers be locked whenever they start, until `stack unlock` is given the key (root on a manager's host).

    Then the key to all secrets and configs lies on no manager's disk but encrypted with the unlock key, which is
    printed: whoever has a disk, or a copy of one, reads none of them. Keep the key apart from the hosts; without it,
    and without a manager that is unlocked, they are lost. What is not encrypted by this are stacks, and the keys of
    certificates.

    A manager that is locked serves nothing, and containers run on. Disks may still have what was written to them
    before: where that matters, `stack secret rotate-key` afterwards makes it worthless.

    \b
    stack autolock on
    """
    if state == "on":
        turn_on()
        return
    with connect_as_root() as client:
        client.set_unlock_key("")
    click.echo("managers start unlocked from now on")


def turn_on() -> None:
    """Lock managers whenever they start, unless they are already."""
    with connect_as_root() as client:
        if client.unlock_key():
            click.echo("managers are locked already whenever they start; `stack unlock-key` shows the key")
            return
        _lock(client)
    click.echo("\nManagers are locked with it whenever they start, and `stack unlock` there asks for it.")


def _lock(client: Client) -> None:
    """The key is printed before it is of any use: should anything fail from here on, whoever asked has it."""
    key = new_unlock_key()
    click.echo(key)
    sys.stdout.flush()
    client.set_unlock_key(key)


@click.command("unlock-key")
@click.option("--rotate", is_flag=True, help="Make another one, and the one before it worthless.")
def unlock_key(rotate: bool) -> None:
    """Print the key that unlocks managers (root on the host of one that is not locked).

    A manager that is off, or locked, while the key is rotated takes the new one where an unlocked manager is in reach,
    and the one before it otherwise: keep that until all have been unlocked.

    \b
    stack unlock-key
    stack unlock-key --rotate
    """
    with connect_as_root() as client:
        key = client.unlock_key()
        if not key:
            raise Conflict("managers start unlocked, so there is no key", hint="`stack autolock on` makes one.")
        if rotate:
            _lock(client)
        else:
            click.echo(key)


@click.command()
@click.option(
    "--unlock-key", "file", type=click.Path(path_type=Path), help="Has the key; otherwise it is asked for, or read."
)
def unlock(file: Path | None) -> None:
    """Open this host's manager, which is locked since it started (root).

    The key comes from a file, from the terminal or from standard input; never from the command line, where every user
    of the host could read it.

    \b
    stack unlock
    stack unlock --unlock-key key.txt
    """
    key = parse_unlock_key(_given(file))
    with connect_as_root() as client:
        client.unlock(key)
    click.echo("this manager is unlocked")


def _given(file: Path | None) -> str:
    if file is not None:
        return file.read_text()
    if sys.stdin is not None and sys.stdin.isatty():
        text: str = click.prompt("Unlock key", hide_input=True, err=True)
        return text
    text = "" if sys.stdin is None else sys.stdin.read()
    if not text.strip():
        raise UserError("there is nobody to ask for the unlock key", hint="Give --unlock-key FILE or standard input.")
    return text
