"""Follow a deploy, a scaling or a removal to its end: live on a terminal, a line for each change otherwise."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from cli.client import Client
from cli.output import joined, table, terminal_width
from cli.text import folded
from cli.times import Seconds
from cluster.errors import Failed, StackyardError, Unavailable

if TYPE_CHECKING:
    from rich.text import Text

    from cluster.model.stack import StackSpec
    from cluster.views import Progress, RevisionReply, ServiceProgress

GIVE_UP_AFTER = 30.0
"""Seconds without any service getting further, while tasks keep failing, after which waiting is of no use."""

FAILURES_TO_GIVE_UP = 3

HELP_AFTER = 5.0
"""Seconds without any service getting further after which a view says what more there is to type."""

_BELOW = " " * 4

_TURN = re.compile(r"waits [0-9.]+ s before restart [0-9]+: ")

timeout_option = click.option(
    "--timeout",
    type=Seconds(),
    default=600,
    metavar="TIME",
    help="Wait at most so long: 90, 5m, 1h (10m; 0: for ever).",
)


settle_option = click.option(
    "--settle",
    type=Seconds(),
    default=1,
    metavar="TIME",
    help="Then see whether all still run after so long (1s).",
)


def follow(
    client: Client,
    stack: str,
    revision: int,
    services: Sequence[str] = (),
    *,
    removing: bool = False,
    timeout: float = 0,
    settle: float = 0,
    doing: str = "deploying",
) -> None:
    """Wait until the revision is reached, or the stack gone. Raises Failed with the reason, also after `timeout`.

    Where `services` are named, nobody waits for others, which may wait for a node that is down.

    `doing` is what this is called.

    A revision is reached when, `settle` seconds after all tasks ran, they still do and none has failed meanwhile.
    """
    verb = "removing" if removing else doing
    end = time.monotonic() + timeout if timeout else None
    view = _Live(transient=removing) if sys.stderr.isatty() else _Lines()
    hopes = _Hopes()
    last: Progress | None = None
    reached: Progress | None = None
    try:
        with view:
            while True:
                left = None if end is None else max(0.0, end - time.monotonic())
                for last in client.progress(stack, revision, services, removing=removing, timeout=left):
                    view.update(last)
                    if not removing:
                        hopes.check(last, time.monotonic(), flapping=reached is not None)
                if last is None or last.failed or removing or not settle or (reached and _same(reached, last)):
                    break
                reached = last
                time.sleep(settle)
    except KeyboardInterrupt:
        click.echo(
            f"{verb} {stack} goes on without this terminal.\n"
            f"`stack ps {stack}` shows how far it is, `stack wait {stack}` waits for it again.",
            err=True,
        )
        raise click.exceptions.Exit(130) from None
    except Unavailable as error:
        raise Unavailable(
            f"how far {verb} {stack} is cannot be seen any more: {error.message}",
            hint=f"The cluster goes on with it; once a manager answers, `stack wait {stack}` waits for it again.",
        ) from error
    except TimeoutError:
        raise Failed(
            f"{verb} {stack} was not done within {timeout:g} s:{_troubles(last)}",
            hint=f"It goes on: `stack ps {stack}` shows how far, `stack wait {stack}` waits for it again.",
        ) from None
    if last is not None and last.failed:
        raise Failed(
            f"{stack}: {_cause(last.failed, last.services)}{_last_words(last.services)}",
            hint="\n".join((*last.remedies, f"`stack ps {stack}` shows the tasks, `stack logs` their output.")),
        )


def tell_changes(reply: RevisionReply) -> None:
    """Say what a new revision of a stack makes different, before that is waited for."""
    if reply.changes:
        click.echo(f"{reply.stack} goes from revision {reply.revision - 1} to {reply.revision}:", err=True)
    for change in reply.changes:
        click.echo("\n".join(folded(change, terminal_width(sys.stderr), "  ", "    ")), err=True)


def finish(
    client: Client,
    reply: RevisionReply,
    services: Sequence[str],
    *,
    doing: str,
    done: str,
    detach: bool,
    timeout: float,
    settle: float,
) -> None:
    """Follow a change to its end and say `done`, unless nobody is to wait. Raises as `follow` does."""
    if not reply.changed:
        click.echo(f"{reply.stack} is like that already (revision {reply.revision})", err=True)
    if detach:
        click.echo(f"{reply.stack} goes to revision {reply.revision}")
        return
    follow(client, reply.stack, reply.revision, services, timeout=timeout, settle=settle, doing=doing)
    click.echo(done)


def tell_ports(client: Client, spec: StackSpec) -> None:
    """Say where a stack answers, on standard error: of each service the TCP ports that the file publishes by number."""
    published = {
        name: [port for port in service.ports if port.published and port.protocol == "tcp" and not port.host_ip]
        for name, service in spec.services.items()
        if not service.stopped and service.replicas and not service.mode.is_job
    }
    if not any(published.values()):
        return
    address = ""
    with suppress(StackyardError):  # the deploy is done, whoever may not see nodes or cannot any more
        address = next((node.address for node in client.nodes() if node.status == "ready"), "")
    for name, ports in published.items():
        everywhere = [port.published for port in ports if port.mode == "ingress"]
        own = [port.published for port in ports if port.mode != "ingress"]
        host = f"[{address}]" if ":" in address else address
        example = f", such as http://{host}:{everywhere[0]}" if everywhere and address else ""
        for numbers, where in ((everywhere, f"of every node{example}"), (own, "of the nodes where its tasks run")):
            if numbers:
                what = f"port{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
                click.echo(f"{name} answers at {what} {where}", err=True)


def _same(one: Progress, other: Progress) -> bool:
    """Tell whether nothing has failed between two ends that were both reached."""
    return [service.failures for service in one.services] == [service.failures for service in other.services]


class _Hopes:
    """Notices when tasks only ever fail."""

    def __init__(self) -> None:
        self._best: dict[str, int] = {}
        self._since: float | None = None

    def check(self, progress: Progress, now: float, *, flapping: bool = False) -> None:
        """Raise Failed when no service has got further for a while, and one of those that wait keeps failing.

        When `flapping`, all have run already and something fell: a service that runs right now may be the one.
        """
        further = [one for one in progress.services if one.done > self._best.get(one.service, 0)]
        self._best.update((one.service, one.done) for one in further)
        if further or self._since is None:
            self._since = now
        failing = [
            one
            for one in progress.services
            if one.failures >= FAILURES_TO_GIVE_UP and (flapping or one.done < one.wanted)
        ]
        if failing and now - self._since > GIVE_UP_AFTER:
            told = [
                f"{one.service} failed {one.failures} times: {_TURN.sub('', _cause(one.message, [one]))}"
                + _last_words([one])
                for one in failing
            ]
            lines = f" {told[0]}" if len(told) == 1 else "".join(f"\n{_BELOW}{one}" for one in told)
            raise Failed(
                f"{progress.stack}:{lines}",
                hint="Mend the file and deploy again; the cluster keeps trying.\n"
                f"`stack ps --all {progress.stack}` shows the tasks, `stack logs` their output.",
            )


def _cause(text: str, services: Iterable[ServiceProgress]) -> str:
    """Give what is said of services without the last lines of their tasks, which are quoted below it."""
    from cluster.model.task import IT_SAID

    for one in services:
        if one.log:
            text = text.replace(f", {IT_SAID}{one.log[-1]}", "")
    return text


def _last_words(services: Iterable[ServiceProgress]) -> str:
    """Quote the last lines of failed tasks."""
    quoted = (f"\n    {one.service} | {line}" for one in services for line in one.log)
    return "".join(quoted)


def _troubles(progress: Progress | None) -> str:
    """Tell of each that waits: in the line that is begun, or several in lines below it."""
    if progress is None:
        return " nothing was heard of it"
    waiting = [service for service in progress.services if service.done < service.wanted or service.leaving]
    told = (
        f"{one.service} {one.done} of {one.wanted}"
        + (f", {one.leaving} yet to end" if one.leaving else "")
        + (f": {one.message}" if one.message else "")
        for one in waiting
    )
    lines = (*told, *progress.waits)
    return f" {lines[0]}" if len(lines) == 1 else "".join(f"\n    {line}" for line in lines)


def _cells(service: ServiceProgress) -> list[str]:
    states = joined(f"{count} {state}" for state, count in sorted(service.states.items()))
    ending = joined(f"{count} {what}" for what, count in sorted(service.others.items()))
    if not ending and service.leaving:
        ending = f"{service.leaving} yet to end"
    count = f"{service.done}/{service.wanted}" + (" completed" if service.mode.is_job else "")
    return [service.service, count, joined((states, ending)), service.message]


class _Lines:
    """One line whenever a service got further, for logs of CI."""

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {}
        self._waits: tuple[str, ...] = ()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        for service in progress.services:
            name, count, _, message = _cells(service)
            told = [count, message]
            if self._seen.get(name) != told:
                self._seen[name] = told
                click.echo("  ".join(part for part in (name, count, message) if part), err=True)
        if progress.waits != self._waits:
            self._waits = progress.waits
            for wait in progress.waits:
                click.echo(wait, err=True)


class _Live:
    """A table that is drawn anew in place; a `transient` one is gone in the end."""

    def __init__(self, *, transient: bool) -> None:
        self._transient = transient
        self._progress: Progress | None = None
        self._since = 0.0

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=10,
            transient=self._transient,
            get_renderable=self._drawn,
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        done = [one.done for one in progress.services]
        if self._progress is None or done != [one.done for one in self._progress.services]:
            self._since = time.monotonic()
        self._progress = progress

    def _drawn(self) -> Text:
        from rich.text import Text

        size = self._console.size
        waited = time.monotonic() - self._since
        lines = drawn(self._progress, size.width, size.height, waited) if self._progress is not None else []
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


def drawn(progress: Progress, columns: int, rows: int, waited: float = 0) -> list[str]:
    """Give what a terminal of that size shows: a line for each service, below it why it comes no further.

    Where there are too few rows, services that are done are only counted. `waited` are the seconds for which no service
    got further.
    """
    lines = _services(progress.services, columns)
    done = [one for one in progress.services if one.done >= one.wanted and not one.leaving]
    if len(lines) + len(progress.waits) >= rows and done:
        lines = _services([one for one in progress.services if one not in done], columns)
        lines.append(f"and {len(done)} more, which {'is' if len(done) == 1 else 'are'} done")
    return [*lines, *progress.waits, *(_help(progress, columns) if waited >= HELP_AFTER else ())]


def _help(progress: Progress, columns: int) -> list[str]:
    """Say what to type about what comes no further: on the screen, while that is so."""
    stuck = [one.service for one in progress.services if one.message and one.done < one.wanted]
    if progress.removing or progress.failed or not stuck:
        return []
    told = f"`stack explain {progress.stack}_{stuck[0]}` tells more; Ctrl-C ends this view, and nothing else."
    return folded(told, columns)


def _services(services: Sequence[ServiceProgress], columns: int) -> list[str]:
    if not services:
        return []
    head, *bodies = table([["SERVICE", "DONE", "TASKS"], *(_cells(one)[:3] for one in services)]).splitlines()
    lines = [head]
    for one, body in zip(services, bodies, strict=True):
        lines += [body, *folded(_cause(one.message, [one]), columns, _BELOW)] if one.message else [body]
        lines += [f"{_BELOW}| {line}" for line in one.log]
    return lines
