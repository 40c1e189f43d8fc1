"""The views' package: each type is found where its noun is, and no other noun is loaded for it."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

from cluster import views

MODULES = sorted(module.name for module in pkgutil.iter_modules(views.__path__))


@pytest.mark.parametrize("noun", MODULES)
def test_whatever_a_noun_has_is_a_view(noun: str) -> None:
    module = importlib.import_module(f"cluster.views.{noun}")
    made_here = {name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__}
    assert made_here
    for name in made_here:
        assert getattr(views, name) is getattr(module, name)


def test_every_name_on_the_list_is_there() -> None:
    for noun, names in views._NOUNS.items():
        module = importlib.import_module(f"cluster.views.{noun}")
        assert [getattr(views, name) for name in names] == [getattr(module, name) for name in names]


def test_what_is_no_view_is_said_to_be_none() -> None:
    with pytest.raises(AttributeError, match="TaskViews"):
        views.TaskViews  # noqa: B018


def test_a_client_that_lists_tasks_loads_nothing_of_stacks_services_and_people() -> None:
    program = """
import sys
import cli.client.client, cli.commands.services
from cluster.views import TaskView
heavy = {"cluster.model.stack", "cluster.model.service", "cluster.model.container", "cluster.people", "cluster.plans"}
print(*sorted(heavy & sys.modules.keys()))
"""
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []
