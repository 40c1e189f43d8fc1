"""The `stack` program."""

from __future__ import annotations

from cli.interrupts import at_once


def main() -> None:
    with at_once():
        from cli.main import main as run
    run()
