"""Deploy and remove 3, 30 and 100 replicas on an overlay network of three nodes: Stackyard, Docker Swarm, the engines.

    .venv/bin/python -m bench.deploy [--replicas 3,30,100] [--rounds 3] [--systems stackyard,...]

A lab of its own is made, with three engines. In each round every system has them to itself for its turn, in an order
that changes from round to round, so that drift of the machine's speed falls on all alike. What is printed are medians
and their ratios to Swarm (the faster of its two endpoint modes) and to the engines' floor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from bench.systems import Floor, Stackyard, Swarm, System, lab_of_its_own, with_lab

Figures = dict[tuple[str, str, int], list[float]]


def measure(systems: list[System], replicas: list[int], rounds: int) -> Figures:
    """Give all seconds by (system, "deploy" or "rm", replicas)."""
    figures: Figures = {}
    for turn in range(rounds):
        shift = turn % len(systems)
        for system in systems[shift:] + systems[:shift]:
            system.take_charge()
            try:
                for count in replicas:
                    stack = f"b{turn}x{count}"
                    for what, seconds in (("deploy", system.deploy(stack, count)), ("rm", system.remove(stack))):
                        figures.setdefault((system.name, what, count), []).append(seconds)
                        load = os.getloadavg()[0]
                        print(
                            f"round {turn + 1}: {system.name:13} {what:6} {count:4}  {seconds:7.2f} s  load {load:.1f}"
                        )
                        sys.stdout.flush()
            finally:
                system.step_down()
    return figures


def table(figures: Figures, replicas: list[int]) -> str:
    """Medians with their spread, and the ratios."""
    names = list(dict.fromkeys(name for name, _, _ in figures))
    lines = [f"{'':18}" + "".join(f"{name:>24}" for name in names) + f"{'/ swarm':>10}{'/ floor':>10}"]
    for what in ("deploy", "rm"):
        for count in replicas:
            cells = {name: figures.get((name, what, count), []) for name in names}
            medians = {name: statistics.median(values) for name, values in cells.items() if values}
            row = f"{what} {count:<11}".ljust(18)
            for name in names:
                values = cells[name]
                text = f"{medians[name]:.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"
                row += f"{text:>24}"
            swarm = min((m for name, m in medians.items() if name.startswith("swarm")), default=None)
            for base in (swarm, medians.get("floor")):
                ours = medians.get("stackyard")
                row += f"{ours / base:>10.2f}" if ours and base else f"{'-':>10}"
            lines.append(row)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", default="3,30,100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default="stackyard,swarm vip,swarm dnsrr,floor")
    parser.add_argument("--json", type=Path, help="write all single values to this file")
    words = with_lab(parser).parse_args()
    replicas = [int(word) for word in words.replicas.split(",")]
    with lab_of_its_own(words.lab, words.subnet) as (lab, here):
        systems: list[System] = [
            Stackyard(lab, here), Swarm(lab, here, "vip"), Swarm(lab, here, "dnsrr"), Floor(lab),
        ]  # fmt: skip
        systems = [system for system in systems if system.name in words.systems.split(",")]
        Stackyard(lab, here).step_down()
        figures = measure(systems, replicas, words.rounds)
    print()
    print(table(figures, replicas))
    if words.json:
        words.json.write_text(json.dumps([[*key, values] for key, values in figures.items()], indent=1) + "\n")


if __name__ == "__main__":
    main()
