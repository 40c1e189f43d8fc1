"""The Python client of a manager's API, without any word to the terminal.

    from cli.client import Client
    from cli.client.contexts import chosen

    with Client(chosen()) as client:
        for task in client.tasks(stack="shop"):
            ...

Answers are the types of `cluster.views`, errors those of `cluster.errors`.
"""

from cli.client.client import Client

__all__ = ["Client"]
