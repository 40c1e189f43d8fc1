"""Rounds of chaos on a lab of its own, until the time or the rounds are over, or something is broken."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time

from cli.client.contexts import chosen
from cli.lab import Lab
from tests.chaos.rounds import Broken, Chaos


def say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long rounds are begun")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="how many rounds at most")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="the same seed chooses the same blows"
    )
    parser.add_argument("--lab", default="chaos", help="the lab's name")
    parser.add_argument("--subnet", default="10.74.0.0/24", help="the lab's network")
    parser.add_argument("--keep", action="store_true", help="leave the lab up if something is broken, to look at it")
    words = parser.parse_args()
    say(f"seed {words.seed}")
    with tempfile.TemporaryDirectory(prefix="stackyard-chaos-") as folder:
        os.environ |= {"XDG_CONFIG_HOME": folder, "STACKYARD_LAB": words.lab}
        lab = Lab(words.lab, words.subnet, say=say)
        lab.down()
        code = 0
        try:
            lab.up(nodes=3, managers=3)
            chaos = Chaos(lab, words.seed, say)
            end = time.monotonic() + 60 * words.minutes
            chaos.begin(chosen(None))
            rounds = 0
            while rounds < words.rounds and time.monotonic() < end:
                chaos.round()
                rounds += 1
            if leaks := chaos.leaks():
                raise Broken("secrets lie open in " + ", ".join(leaks))
            say(f"{rounds} rounds, and all held (seed {words.seed})")
        except Broken as broken:
            say(f"broken (seed {words.seed}):\n{broken}")
            code = 1
        finally:
            if not (code and words.keep):
                lab.down()
        return code


if __name__ == "__main__":
    sys.exit(main())
