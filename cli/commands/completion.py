"""`stack completion`: what a shell asks this program, and the names that complete a word."""

from __future__ import annotations

from collections.abc import Callable

import click

from cli.client import Client
from cli.client.contexts import chosen
from cluster.errors import StackyardError

Names = Callable[[click.Context, click.Parameter, str], list[str]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete the commands, options, stacks, services and tasks of `stack`.

    \b
    bash:  eval "$(stack completion bash)"                              in ~/.bashrc
    zsh:   eval "$(stack completion zsh)"                               in ~/.zshrc, after compinit
    fish:  stack completion fish > ~/.config/fish/completions/stack.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "stack", "_STACK_COMPLETE").source())


def _completing(list_names: Callable[[Client], list[str]]) -> Names:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        """Give what begins like this; a cluster out of reach has nothing to say, and must not say it on the line."""
        root = context.find_root()
        try:
            with Client(chosen(root.params.get("context_name")), patience=0.0) as client:
                names = list_names(client)
        except StackyardError:
            return []
        given = context.params.get(parameter.name or "") or ()
        return sorted(name for name in set(names) - set(given) if name.startswith(incomplete))

    return complete


def _stacks(client: Client) -> list[str]:
    return [stack.name for stack in client.stacks()]


def _services(client: Client) -> list[str]:
    services = client.services()
    short = [service.service for service in services]
    return [service.name for service in services] + [name for name in short if short.count(name) == 1]


stacks = _completing(_stacks)
services = _completing(_services)
stacks_and_services = _completing(lambda client: _stacks(client) + _services(client))
services_and_tasks = _completing(lambda client: _services(client) + [task.name for task in client.tasks()])
