"""Images that are on their nodes before the tasks that serve there make way for those that need them.

Agents are told of the version that their tasks are to be updated to, and say when its image is there
(`Session.images`), or why they cannot get it: then the update goes on, and fails as it must. A task that is replaced
before its successor starts waits for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.model.task import Task
from cluster.protocol import FETCHES
from manager.decide.slots import ServicePicture
from manager.picture import ClusterState

PATIENCE = 900.0
"""Seconds after which an update goes on although the node of a task has told nothing of the image."""

AWAITS = "waits for the image on "
_MOST_NAMED = 3


def lacks(picture: ServicePicture, task: Task) -> bool:
    """Tell whether the node of a task is still to get the image that it will need for the newest version."""
    state = picture.state
    session = state.sessions.get(task.node or "")
    if session is None or session.version < FETCHES or not state.is_heard(session) or "engine" in session.conditions:
        return False
    return f"{picture.service.uid}/{picture.version}" not in session.images and not _runs_it(picture, task)


def said(state: ClusterState, tasks: Iterable[Task]) -> str:
    """Say for people on which nodes an image is awaited."""
    names = sorted({state.nodes[task.node].name for task in tasks if task.node in state.nodes})
    more = len(names) - _MOST_NAMED
    return AWAITS + ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def holders(state: ClusterState, tasks: Iterable[Task], uid: str, version: int) -> set[str]:
    """Name the nodes of tasks on which the image of a version was pulled ahead."""
    name, found = f"{uid}/{version}", set()
    for node in {task.node for task in tasks if task.node is not None}:
        session = state.sessions.get(node)
        if session is not None and session.images.get(name) == "":
            found.add(node)
    return found


def _runs_it(picture: ServicePicture, task: Task) -> bool:
    """Tell whether a task runs the very image that the newest version asks for."""
    old = picture.state.spec_of(task)
    if old is None or picture.spec.container.pull_policy == "always":
        return False
    new = picture.spec.container
    same = (old.container.image, old.container.platform) == (new.image, new.platform)
    return same and picture.state.digest_of(task) == picture.head.image_digests.get(picture.spec.name, "")
