"""Logs of ten tasks that print 20,000 lines a second in all: whether one misses a line, and what it costs.

    .venv/bin/python -m bench.logs [--seconds 30] [--lab NAME]

Needs a lab that is up, of which nothing else is asked. `stack logs -f` is read by one who keeps up, and by one who
takes nothing for a while in the middle and catches up then. Each line has its number, so that none can be missing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cli.lab import Lab

STACK = str(Path(sys.executable).parent / "stack")
NAME, TASKS, RATE = "bench-logs", 10, 20_000
BATCH = RATE // TASKS // 10
LINE = "%09d and so much that a line has about a hundred bytes, as those of web servers have, more or less\\n"
COMPOSE = f"""
services:
  say:
    image: busybox:1
    init: true
    command:
      - awk
      - |
        BEGIN {{ for (;;) {{ for (k = 0; k < {BATCH}; k++) printf "{LINE}", n++; fflush(); system("usleep 90000") }} }}
    deploy: {{replicas: {TASKS}}}
"""


def processes(lab: Path) -> Iterator[tuple[str, int, float, int]]:
    """Give (program, its process, seconds of a processor, KiB of memory) of the lab with that folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            stat = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if not any(word.startswith(f"{lab}/") for word in words):
            continue
        for program in ("stack-manager", "stack-agent", "dockerd"):
            if any(word.endswith(f"/{program}") or word == program for word in words[:2]):
                used = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
                yield program, int(process.name), used, int(stat[21]) * os.sysconf("SC_PAGE_SIZE") // 1024


def follow(folder: Path, seconds: float, pause: float) -> None:
    began, cpu = time.monotonic(), {ident: used for _, ident, used, _ in processes(folder)}
    reader = subprocess.Popen([STACK, "logs", "-f", "--tail", "0", NAME], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    newest: dict[str, int] = {}
    counts, missing, most = Counter[str](), 0, Counter[str]()
    paused, looked = False, 0.0
    for line in reader.stdout:
        found = re.match(rb"(\S+) \| (\d{9}) ", line)
        if found is None:
            continue
        task, number = found[1].decode(), int(found[2])
        missing += number != newest.get(task, number - 1) + 1
        newest[task] = number
        counts[task] += 1
        now = time.monotonic()
        if now - looked > 1:
            looked = now
            for program, _, _, memory in processes(folder):
                most[program] = max(most[program], memory)
        if pause and not paused and now - began > seconds / 3:
            paused = True
            time.sleep(pause)
        if now - began > seconds:
            break
    took = time.monotonic() - began
    reader.terminate()
    who = f"one who pauses for {pause:g} s" if pause else "one who keeps up"
    print(f"{who}: {sum(counts.values()) / took:,.0f} lines a second of {len(counts)} tasks, {missing} gaps")
    spent: dict[str, float] = {}
    for program, ident, used, _ in processes(folder):
        spent[program] = spent.get(program, 0.0) + used - cpu.get(ident, used)
    for program, used in sorted(spent.items()):
        share = 100 * used / took
        print(f"    {program:14} {share:4.0f} % of a core, the largest {most[program] / 1024:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--lab", default=os.environ.get("STACKYARD_LAB", "lab"))
    given = parser.parse_args()
    os.environ["STACKYARD_LAB"] = given.lab
    deploy = [STACK, "deploy", "-f", "-", NAME]
    subprocess.run(deploy, input=COMPOSE.encode(), check=True, stdout=subprocess.DEVNULL)
    data = Lab(name=given.lab).layout.data_dir
    try:
        follow(data, given.seconds, 0.0)
        follow(data, given.seconds, given.seconds / 3)
    finally:
        subprocess.run([STACK, "rm", NAME], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
