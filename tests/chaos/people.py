"""Clients that deploy, scale, update secrets and read, each in a thread, and keep account of the answers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.client import Client
from cli.client.contexts import Context
from cluster import compose, views
from cluster.errors import Failed, StackyardError, Unavailable
from tests.chaos.history import Outcome, Read, Write

STACKS = ("red", "blue")
SERVICE = "web"
MOST_REPLICAS = 3
SECRET = "sesame-"
"""How each secret begins: what has that in it, has a secret in it."""

PATIENCE = 8.0
"""Seconds for which a request is tried again, on all managers in turn."""

FILE = """
services:
  web:
    image: "busybox:1"
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]
    environment: {MARK: "%(mark)s"}
    secrets: [key]
    deploy:
      replicas: %(replicas)d
      update_config: {parallelism: 0, monitor: 0s, failure_action: continue}
secrets:
  key: {environment: KEY}
"""


@dataclass
class Account:
    """What clients did and saw. Lists are only ever appended to, by many threads."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    """By mark: what the secret was to be from that write on."""

    odd: list[str] = field(default_factory=list)
    """Answers that no client should get."""


class Person:
    """One client. `number` tells its writes from those of others."""

    def __init__(self, number: int, rng: random.Random, context: Context, account: Account) -> None:
        self._number, self._rng, self._context, self._account = number, rng, context, account
        self._count = 0

    def act(self, client: Client) -> None:
        stack = self._rng.choice(STACKS)
        match self._rng.randrange(4):
            case 0:
                self.deploy(client, stack)
            case 1:
                self._scale(client, stack)
            case _:
                self._read(client, stack)

    def deploy(self, client: Client, stack: str) -> None:
        """Deploy the stack with a secret that it did not have before."""
        mark = self._mark()
        secret = f"{SECRET}{self._rng.getrandbits(96):024x}"
        self._account.secrets[mark] = secret
        text = FILE % {"mark": mark, "replicas": self._rng.randint(1, MOST_REPLICAS)}
        project = compose.read(["c.yml"], {"KEY": secret}, lambda _: text.encode(), name=stack)
        self._write(
            mark,
            stack,
            lambda: client.deploy(project.stack(), mark, contents=project.contents(), resolve_image="never"),
        )

    def _scale(self, client: Client, stack: str) -> None:
        mark = self._mark()
        replicas = {SERVICE: self._rng.randint(1, MOST_REPLICAS)}
        self._write(mark, stack, lambda: client.scale(stack, replicas, mark))

    def _write(self, mark: str, stack: str, ask: Callable[[], views.RevisionReply]) -> None:
        began = time.monotonic()
        reply, outcome = None, Outcome.ACKNOWLEDGED
        try:
            reply = ask()
        except (Unavailable, Failed):
            outcome = Outcome.UNKNOWN
        except StackyardError as error:
            outcome = Outcome.REFUSED
            self._account.odd.append(f"{mark} on {stack} was refused: {type(error).__name__}: {error}")
        ended = time.monotonic()
        revision, changed = (reply.revision, reply.changed) if reply else (0, True)
        self._account.writes.append(Write(mark, stack, began, ended, outcome, revision, changed))

    def _read(self, client: Client, stack: str) -> None:
        try:
            head = client.revision(stack)
            client.tasks(stack)
        except (Unavailable, Failed):
            return
        self._account.reads.append(Read(stack, head.n, head.reason))

    def _mark(self) -> str:
        self._count += 1
        return f"p{self._number}-{self._count}"

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            with Client(self._context, patience=PATIENCE) as client:
                self.act(client)
            over.wait(self._rng.uniform(0.3, 2.0))


class People:
    """All clients; their first deploys are made at once, so that there is something to break."""

    def __init__(self, rng: random.Random, context: Context, count: int = 3) -> None:
        self.account = Account()
        self._people = [Person(n, random.Random(rng.random()), context, self.account) for n in range(1, count + 1)]
        with Client(context) as client:
            for stack in STACKS:
                self._people[0].deploy(client, stack)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        over = threading.Event()
        threads = [threading.Thread(target=person.run, args=(over,)) for person in self._people]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
