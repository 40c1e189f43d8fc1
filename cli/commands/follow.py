"""Follow a deploy, a scaling or a removal to its end: live on a terminal, a line for each change otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from cli.client import Client
from cli.output import table
from cluster.errors import Failed
from cluster.views import Progress, ServiceProgress


def follow(client: Client, stack: str, revision: int, *, removing: bool = False, timeout: float | None = None) -> None:
    """Wait until the revision is reached, or the stack gone. Raises Failed with the reason, also after `timeout`."""
    verb = "removing" if removing else "deploying"
    view = _Live() if sys.stderr.isatty() else _Lines()
    end = None if timeout is None else time.monotonic() + timeout
    last: Progress | None = None
    try:
        with view:
            for last in _bounded(client.progress(stack, revision, removing=removing), end):
                view.update(last)
    except KeyboardInterrupt:
        back = "`stack ls` and `stack ps` show how far it is."
        click.echo(f"\n{verb} {stack} goes on without this terminal. {back}", err=True)
        raise
    except TimeoutError:
        raise Failed(
            f"{verb} {stack} was not done within {timeout:g} s: {_troubles(last)}",
            hint=f"It goes on; `stack ps {stack}` shows how far it is.",
        ) from None
    if last is not None and last.failed:
        raise Failed(f"{stack}: {last.failed}", hint=f"`stack ps {stack}` shows the tasks, `stack logs` their output.")


def _bounded(progress: Iterator[Progress], end: float | None) -> Iterator[Progress]:
    for one in progress:
        yield one
        if end is not None and time.monotonic() > end and not (one.done or one.failed):
            raise TimeoutError


def _troubles(progress: Progress | None) -> str:
    if progress is None:
        return "nothing was heard of it"
    waiting = [service for service in progress.services if service.done < service.wanted]
    return "; ".join(
        f"{service.service} {service.done} of {service.wanted}" + (f" ({service.message})" if service.message else "")
        for service in waiting
    )


def _cells(service: ServiceProgress) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(service.states.items()))
    return [service.service, f"{service.done}/{service.wanted}", states, service.message]


class _Lines:
    """One line whenever a service got further, for logs of CI."""

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {}

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


class _Live:
    """A table that is drawn anew in place."""

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=10, transient=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        from rich.text import Text

        if progress.services:
            self._live.update(
                Text(table([["SERVICE", "DONE", "TASKS", ""], *(_cells(service) for service in progress.services)]))
            )
