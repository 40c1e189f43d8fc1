"""`stack completion`: what a shell asks this program, and the names that complete a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cli.client.contexts import chosen, load
from cli.commands import names
from cluster.errors import StackyardError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete the commands and options of `stack`, and the names of what the cluster has.

    \b
    bash:  eval "$(stack completion bash)"       in ~/.bashrc
    zsh:   eval "$(stack completion zsh)"        in ~/.zshrc, after compinit
    fish:  stack completion fish > ~/.config/fish/completions/stack.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "stack", "_STACK_COMPLETE").source())


def _completing(*kinds: names.Names) -> Complete:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        """Give what begins like this; a cluster out of reach has nothing to say, and must not say it on the line."""
        from cli.client import Client

        root = context.find_root()
        try:
            with Client(chosen(root.params.get("context_name")), patience=0.0) as client:
                known = {name for kind in kinds for name in kind(client)}
        except StackyardError:
            return []
        given = context.params.get(parameter.name or "") or ()
        return sorted(name for name in known - set(given) if name.startswith(incomplete))

    return complete


stacks = _completing(names.stacks)
services = _completing(names.services)
nodes = _completing(names.nodes)
networks = _completing(names.networks)
volumes = _completing(names.volumes)
secrets = _completing(names.externals("secret"))
configs = _completing(names.externals("config"))
users = _completing(names.users)
stacks_and_services = _completing(names.stacks, names.services)
services_and_tasks = _completing(names.services, names.tasks)
stacks_services_and_tasks = _completing(names.stacks, names.services, names.tasks)
sources = _completing(names.stacks, names.services, names.tasks, names.nodes)
everything = _completing(names.stacks, names.services, names.tasks, names.nodes, names.networks, names.volumes)


def contexts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    try:
        return sorted(name for name in load().contexts if name.startswith(incomplete))
    except StackyardError:
        return []


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete TASK:PATH of a container up to the colon, and what is no task as a file here."""
    from click.shell_completion import CompletionItem

    found = services_and_tasks(context, parameter, incomplete)
    return [CompletionItem(f"{name}:") for name in found] or files(context, parameter, incomplete)
