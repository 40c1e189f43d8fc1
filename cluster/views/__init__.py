"""What the manager's API takes and answers: the cluster as people see it, so that a client has nothing left to join.

Bodies are JSON objects of these types. A stream (progress, logs) is NDJSON: one Progress or LogLine a line. An error is
an ErrorBody with the HTTP status of its kind in `cluster.errors`.

A module for each noun, loaded when one of its types is first asked for here: a command that lists tasks has no use for
the model of a stack, which takes as long to load as the rest of the program.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.views.authority import CaView as CaView
    from cluster.views.authority import MissingView as MissingView
    from cluster.views.authority import RootView as RootView
    from cluster.views.deploy import DeployRequest as DeployRequest
    from cluster.views.deploy import ResolveImage as ResolveImage
    from cluster.views.errors import ErrorBody as ErrorBody
    from cluster.views.explain import Explanation as Explanation
    from cluster.views.explain import NodeFit as NodeFit
    from cluster.views.explain import Trouble as Trouble
    from cluster.views.logs import LogLine as LogLine
    from cluster.views.networks import AttachmentView as AttachmentView
    from cluster.views.networks import AttachRequest as AttachRequest
    from cluster.views.networks import ConvergenceView as ConvergenceView
    from cluster.views.networks import DelayView as DelayView
    from cluster.views.networks import MemberView as MemberView
    from cluster.views.networks import NetworkDetail as NetworkDetail
    from cluster.views.networks import NetworkView as NetworkView
    from cluster.views.nodes import NodeChange as NodeChange
    from cluster.views.nodes import NodeView as NodeView
    from cluster.views.oneoffs import OneOffView as OneOffView
    from cluster.views.oneoffs import RunRequest as RunRequest
    from cluster.views.progress import Progress as Progress
    from cluster.views.progress import ServiceProgress as ServiceProgress
    from cluster.views.rebalance import MoveView as MoveView
    from cluster.views.rebalance import RebalanceRequest as RebalanceRequest
    from cluster.views.rebalance import RebalanceView as RebalanceView
    from cluster.views.secrets import ExternalRequest as ExternalRequest
    from cluster.views.secrets import ExternalView as ExternalView
    from cluster.views.secrets import SealingView as SealingView
    from cluster.views.services import ServiceView as ServiceView
    from cluster.views.stacks import RemoveReply as RemoveReply
    from cluster.views.stacks import RevisionReply as RevisionReply
    from cluster.views.stacks import RevisionView as RevisionView
    from cluster.views.stacks import RollbackRequest as RollbackRequest
    from cluster.views.stacks import ScaleRequest as ScaleRequest
    from cluster.views.stacks import StackPhase as StackPhase
    from cluster.views.stacks import StackView as StackView
    from cluster.views.stacks import SwitchRequest as SwitchRequest
    from cluster.views.stacks import UpdateRequest as UpdateRequest
    from cluster.views.system import ClusterView as ClusterView
    from cluster.views.system import EtcdView as EtcdView
    from cluster.views.system import ManagerView as ManagerView
    from cluster.views.system import VersionView as VersionView
    from cluster.views.tasks import TaskView as TaskView
    from cluster.views.upgrade import ProgramView as ProgramView
    from cluster.views.upgrade import UpgradeView as UpgradeView
    from cluster.views.volumes import VolumeRemoval as VolumeRemoval
    from cluster.views.volumes import VolumeView as VolumeView

API_VERSION = "v1"

_NOUNS = {
    "errors": ("ErrorBody",),
    "system": ("EtcdView", "VersionView", "ManagerView", "ClusterView"),
    "authority": ("RootView", "MissingView", "CaView"),
    "upgrade": ("ProgramView", "UpgradeView"),
    "nodes": ("NodeView", "NodeChange"),
    "rebalance": ("RebalanceRequest", "MoveView", "RebalanceView"),
    "deploy": ("ResolveImage", "DeployRequest"),
    "stacks": (
        "ScaleRequest",
        "RollbackRequest",
        "SwitchRequest",
        "UpdateRequest",
        "RevisionReply",
        "RemoveReply",
        "StackPhase",
        "StackView",
        "RevisionView",
    ),
    "services": ("ServiceView",),
    "tasks": ("TaskView",),
    "explain": ("Trouble", "NodeFit", "Explanation"),
    "secrets": ("ExternalRequest", "ExternalView", "SealingView"),
    "networks": (
        "AttachmentView",
        "AttachRequest",
        "NetworkView",
        "NetworkDetail",
        "MemberView",
        "DelayView",
        "ConvergenceView",
    ),
    "volumes": ("VolumeRemoval", "VolumeView"),
    "oneoffs": ("RunRequest", "OneOffView"),
    "progress": ("ServiceProgress", "Progress"),
    "logs": ("LogLine",),
}
_NOUN_OF = {name: noun for noun, names in _NOUNS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _NOUN_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(f"cluster.views.{_NOUN_OF[name]}"), name)
    return found
