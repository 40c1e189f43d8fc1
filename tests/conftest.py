"""The order of tests, and which of them a worker of pytest-xdist runs together.

Quick tests go first, whatever their room: what needs a lab can take minutes to say what a table says at once. Among
them those that compute for long: what is long and late keeps one worker busy while the others wait.
"""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

# Properties are about what is true, not about how long that takes on a busy machine. The rest is as Hypothesis has it
# here: where CI is set, the same examples each time.
settings.register_profile("patient", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("patient")

_WEIGHTS = {"root": 1, "etcd": 1, "engine": 2, "lab": 3}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (_weight(item), not item.get_closest_marker("long")))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    # Thousands of tests are a large heap, of which nothing ever goes: the collector need not walk through it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how far histories went, and write the names of what failed to where `scripts/test` reads them."""
    told = (told for report in terminalreporter.getreports("passed") for told in report.user_properties)
    if steps := sum(int(str(value)) for name, value in told if name == "steps"):
        terminalreporter.write_line(f"{steps} steps of random histories kept the invariants")
    path = os.environ.get("STACKYARD_FAILED_TESTS")
    if path and "PYTEST_XDIST_WORKER" not in os.environ:  # one process has what all of them found
        reports = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
        with open(path, "a") as file:
            file.writelines(f"{name}\n" for name in sorted({_ungrouped(report.nodeid) for report in reports}))


def _ungrouped(name: str) -> str:
    """xdist puts an @ and the group behind the name of a test that has one, which pytest does not find again."""
    test, _, group = name.rpartition("@")
    return test if group == "lab" or (test and group.startswith(test.partition("::")[0])) else name


def _weight(item: pytest.Item) -> int:
    return max((_WEIGHTS.get(mark.name, 0) for mark in item.iter_markers()), default=0)


def _group(item: pytest.Item) -> str:
    """What tests share costs time to make: those of a group go to one worker. None is for those that share nothing."""
    if item.get_closest_marker("lab"):
        # each worker has a lab of its own for the tests of the whole; the other one is not worth making twice
        return "lab" if "lab" in getattr(item, "fixturenames", ()) else ""
    if _weight(item):
        params = getattr(getattr(item, "callspec", None), "params", {})
        return " ".join([item.nodeid.partition("::")[0], *(str(params[x]) for x in ("host", "version") if x in params)])
    return ""
