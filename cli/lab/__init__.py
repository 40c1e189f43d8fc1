"""A cluster of several hosts on one Linux machine: each node is a set of namespaces with an engine and an agent.

It makes and breaks nodes, cables and programs, and finds out from the kernel how they stand. It never talks of stacks
and services, never imports the manager or the agent (it starts them as programs), and touches nothing on the machine
but names that begin with the lab's own.
"""

from cli.lab.lab import Lab, NodeStatus
from cli.lab.layout import Layout, NodeLayout

__all__ = ["Lab", "Layout", "NodeLayout", "NodeStatus"]
