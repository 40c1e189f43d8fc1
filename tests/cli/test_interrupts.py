"""Ctrl-C at moments when it used to end in a traceback, or in nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.terminal import Terminal

PROGRAM = """
import os, signal, sys

class InTheMiddle:
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, {handler})
sys.meta_path.insert(0, InTheMiddle)
from cli.program import main
sys.argv = ["stack", "context", "ls"]
main()
"""


def pressed_while(person: Terminal, module: str, handler: str) -> tuple[int, str]:
    """Type `stack context ls`, and Ctrl-C when it comes to load a module; give the exit code and what is told."""
    code = PROGRAM.replace("sys.argv[1]", repr(module)).format(handler=handler)
    done = subprocess.run(
        [sys.executable, "-c", code], env=person.environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["click", "cli.commands.context", "cli.client.contexts"])
def test_while_it_loads_it_ends_at_once(person: Terminal, module: str) -> None:
    assert pressed_while(person, module, "signal.default_int_handler") == (130, "")


def test_where_it_is_ignored_it_stays_so(person: Terminal) -> None:
    assert pressed_while(person, "cli.commands.context", "signal.SIG_IGN") == (0, "NAME  CURRENT  WHERE\n")
