"""The `stack` command: finds the module of a command when it is called, and shows errors once, here."""

from __future__ import annotations

import gc

gc.set_threshold(50_000, 20, 100)  # before what follows is loaded: the collector would look through it again and again

import importlib  # noqa: E402
import io  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

import click  # noqa: E402

from cli.interrupts import at_once  # noqa: E402
from cluster.errors import Inconsistent, StackyardError  # noqa: E402

# Command -> (module, attribute, short help): the help of the whole program needs no module.
COMMANDS = {
    "deploy": ("cli.commands.deploy", "deploy", "Run a Compose file as a stack, or bring a running one up to date."),
    "plan": ("cli.commands.plan", "plan", "Show what a deploy would do, and touch nothing."),
    "config": ("cli.commands.config", "config", "Print Compose files as one, and what becomes of each key in them."),
    "ls": ("cli.commands.stacks", "ls", "List the stacks."),
    "services": ("cli.commands.services", "services", "List the services."),
    "ps": ("cli.commands.services", "ps", "List the tasks."),
    "top": ("cli.commands.top", "top", "Show what tasks use of CPU, memory, network and disk."),
    "df": ("cli.commands.top", "df", "Show what images, containers and volumes take on the disks of nodes."),
    "inspect": ("cli.commands.inspect", "inspect", "Show all that is known of anything that has a name, as JSON."),
    "explain": ("cli.commands.explain", "explain", "Tell why a service or task does not run, and what would mend it."),
    "events": ("cli.commands.events", "events", "Show what happens in the cluster, in order, and why."),
    "doctor": ("cli.commands.doctor", "doctor", "Examine the network of all nodes, and tell what is wrong with it."),
    "history": ("cli.commands.revisions", "history", "List the revisions of a stack and what each changed."),
    "diff": ("cli.commands.plan", "diff", "Show how a revision of a stack differs from an earlier one."),
    "rollback": ("cli.commands.revisions", "rollback", "Bring a stack or service back to what it was."),
    "update": ("cli.commands.revisions", "update", "Go on with a paused update, or replace tasks."),
    "scale": ("cli.commands.services", "scale", "Run another number of tasks of services."),
    "logs": ("cli.commands.logs", "logs", "Show what the tasks of stacks and services print."),
    "restart": (
        "cli.commands.lifecycle",
        "restart",
        "Have new tasks take the place of those that run.",
    ),
    "stop": ("cli.commands.lifecycle", "stop", "Stop services or stacks; they keep their definitions."),
    "start": ("cli.commands.lifecycle", "start", "Start what was stopped."),
    "kill": ("cli.commands.lifecycle", "kill", "Send a signal to the program of tasks."),
    "attach": ("cli.commands.attach", "attach", "Join the program that a task runs."),
    "wait": ("cli.commands.stacks", "wait", "Wait until a stack has come to its newest revision, or is gone."),
    "exec": ("cli.commands.exec", "exec_command", "Run a command in a task's container, with a terminal or a pipe."),
    "run": ("cli.commands.run", "run", "Run a service's container once more, with another command."),
    "port-forward": ("cli.commands.port_forward", "port_forward", "Lead local ports to ports of a task."),
    "cp": ("cli.commands.cp", "cp", "Copy files into or out of a task's container."),
    "rm": ("cli.commands.stacks", "rm", "Remove stacks, and wait until all of them is gone."),
    "service": ("cli.commands.services", "service", "The commands on services, by Docker's longer names."),
    "secret": ("cli.commands.secrets", "secrets", "Secrets: of stacks, and made apart from them."),
    "configs": ("cli.commands.secrets", "configs", "Configs: likewise. `config` by itself shows what files come to."),
    "network": ("cli.commands.networks", "network", "The networks of the stacks."),
    "volume": ("cli.commands.networks", "volume", "The volumes of the stacks, and where their data is."),
    "node": ("cli.commands.node", "node", "The nodes of the cluster."),
    "init": ("cli.commands.host", "init", "Make this host the first of a new cluster."),
    "join": ("cli.commands.host", "join", "Make this host a node of a cluster."),
    "leave": ("cli.commands.host", "leave", "Take this host out of its cluster."),
    "token": ("cli.commands.token", "token", "With what hosts may join."),
    "autolock": ("cli.commands.unlock", "autolock", "Have managers be locked whenever they start, or not."),
    "unlock": ("cli.commands.unlock", "unlock", "Open this host's manager, which is locked since it started."),
    "unlock-key": ("cli.commands.unlock", "unlock_key", "Print the key that unlocks managers, or replace it."),
    "user": ("cli.commands.user", "user", "People and programs: who may do what, and with what they prove it."),
    "audit": ("cli.commands.audit", "audit", "Show who changed what, and what was refused."),
    "backup": ("cli.commands.backup", "backup", "Write all that the cluster knows into a file."),
    "restore": ("cli.commands.backup", "restore", "Make this host the first of a cluster that is in a backup."),
    "rebalance": ("cli.commands.rebalance", "rebalance", "Move tasks for a better spread over the nodes."),
    "ca": ("cli.commands.ca", "ca", "Show the roots of the cluster's CA, or rotate it."),
    "upgrade": ("cli.commands.upgrade", "upgrade", "Show how far an upgrade of the cluster is, or finish it."),
    "context": ("cli.commands.context", "context", "The clusters that this command can talk to."),
    "dial-stdio": ("cli.commands.dial_stdio", "dial_stdio", "Join the manager's socket, for `stack` over ssh."),
    "lab": ("cli.commands.lab", "lab", "A cluster of several hosts on this machine."),
    "man": ("cli.commands.man", "man", "Print the manual page of this program."),
    "completion": ("cli.commands.completion", "completion", "Print what makes a shell complete words of `stack`."),
    "support-bundle": (
        "cli.commands.support_bundle",
        "support_bundle",
        "Pack what a maintainer needs, without secrets.",
    ),
    "version": ("cli.commands.version", "version", "Show the versions of all parts of the cluster, and which differ."),
}

SECTIONS = {
    "deploy": "Stacks and their tasks",
    "secret": "What stacks use",
    "node": "Nodes and managers",
    "user": "People, and the cluster as a whole",
    "context": "This program",
}
"""With which command the help begins what is called so."""

ALIASES = {"secrets": "secret", "stats": "top"}

_EXTERNAL = ("ls", "inspect", "create", "rm")
"""After `config` these are meant for configs, as with Docker; by itself it shows what Compose files come to."""


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        name = ALIASES.get(name, name)
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        with at_once():
            command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[:1] == ["config"] and set(args[1:2]) & set(_EXTERNAL):
            args = ["configs", *args[1:]]
        if args[:1] == ["help"]:
            if args[1:]:
                args = [*args[1:], "--help"]
            else:
                click.echo(context.get_help())
                context.exit()
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        sections: dict[str, list[tuple[str, str]]] = {}
        title = ""
        for name, (_, _, short) in COMMANDS.items():
            title = SECTIONS.get(name, title)
            sections.setdefault(title, []).append((name.ljust(width), short))
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


def _contexts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from cli.commands.completion import contexts

    return contexts(context, parameter, incomplete)


def _release(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"stack {version('stackyard')}")
        context.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--context", "context_name", metavar="NAME", shell_complete=_contexts,
    help="Talk to this cluster instead of the current one.",
)  # fmt: skip
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_release,
    help="Show the release of this command; `stack version` has those of all parts.",
)  # fmt: skip
@click.pass_context
def stack(context: click.Context, context_name: str | None) -> None:
    """Run Compose files on many hosts.

    Exit codes: 0 done, 1 tried and failed, 2 the request is wrong, 3 something is out of reach.
    """
    context.obj = context_name
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":  # https://no-color.org
        context.color = False


def main() -> NoReturn:
    """Run the command line and exit with the code of what happened.

    At once: to take all modules apart, as Python does before it ends, takes as long as a tenth of a command.
    """
    code = run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def run() -> int:
    """Run the command line and give the code of what happened."""
    code: object
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the locale has no letters for is shown as \u65e5
            stream.reconfigure(errors="backslashreplace")
    try:
        code = stack.main(prog_name="stack", complete_var="_STACK_COMPLETE", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as exit_:
        code = exit_.code
    except StackyardError as error:
        _say(f"error: {error.message}", error.hint)
        code = error.exit_code
    except click.exceptions.Abort:
        _say("interrupted")
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        from cli import usage

        message, hint = usage.told(error)
        _say(f"error: {message}", hint)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; and Python would complain when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"error: {where}{error.strerror or error}")
        code = 1
    except Exception as error:
        if os.environ.get("STACK_DEBUG"):
            raise
        _say(f"a bug in this command: {type(error).__name__}: {error}", "STACK_DEBUG=1 shows where.")
        code = Inconsistent.exit_code
    return code if isinstance(code, int) else 0


def _say(text: str, hint: str = "") -> None:
    """Tell it on standard error, on a terminal folded between words."""
    from cli.output import terminal_width
    from cli.text import folded

    columns = terminal_width(sys.stderr) if sys.stderr.isatty() else 0
    for line in (*text.split("\n"), *(hint.split("\n") if hint else ())):
        said = line.lstrip(" ")
        click.echo("\n".join(folded(said, columns, line.removesuffix(said))), err=True)
