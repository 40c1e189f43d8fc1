"""Every command, typed at a real terminal: with all nodes up, and with one that is dead. None of them hangs; each says
what is so, and ends with the right exit code. A command that is not in the list fails a test.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.test_readme import shown
from tests.cli.tree import leaves, shape
from tests.integration.conftest import Cluster
from tests.integration.terminal import at_terminal, dead
from tests.patience import PATIENCE

APP = """
services:
  web:
    image: busybox:1
    init: true
    command: sh -c 'echo begun; exec httpd -f -p 80 -h /etc'
    stop_grace_period: 1s
    deploy: {mode: global}
  one:
    image: busybox:1
    init: true
    command: sleep infinity
    stop_grace_period: 1s
    deploy: {placement: {constraints: [node.hostname == n1]}}
  db:
    image: busybox:1
    init: true
    command: sh -c 'httpd -p 80 -h /etc; while true; do echo tick; sleep 1; done'
    stop_grace_period: 1s
    volumes: ["data:/data"]
    deploy: {placement: {constraints: [node.hostname == n3]}}
volumes: {data: {}}
networks: {default: {attachable: true}}
"""
CTRL_C = b"\x03"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Case:
    """What is typed after `stack`, what is then on the screen, and with which code it ends; with a dead node as well,
    where that is something else. What goes on is ended by `leave` once it has shown that.

    In the line {s} is the stack, {lab} the context, {t} how long to wait. `root` asks the manager by its socket.
    """

    line: str
    shows: str = ""
    code: int | None = 0
    dead: str | None = None
    dead_code: int | None = -1
    leave: bytes = b""
    root: bool = False

    def expected(self, broken: bool) -> tuple[str, int | None]:
        told = self.shows if not broken or self.dead is None else self.dead
        return told, self.code if not broken or self.dead_code == -1 else self.dead_code


WAITS = "waits for node n3, which is down"
DOWN = "node n3 is down"
CASES = (
    Case("config -f app.yml", "services:"),
    Case("plan -f app.yml {s}", "would be a new stack", 2, "nothing would change", 0),
    Case("deploy -f app.yml --timeout {t} {s}", "{s} runs, revision 1", 0, WAITS, 1),
    Case("wait --timeout {t} {s}", "{s} runs, revision 1", 0, WAITS, 1),
    Case("ls", "{s}"),
    Case("services {s}", "{s}_web", dead=WAITS),
    Case("service ls {s}", "{s}_web", dead=WAITS),
    Case("ps {s}", "{s}_db.1", dead=WAITS),
    Case("ps --no-trunc {s}_db", "busybox:1@sha256:", dead=WAITS),
    Case("service ps {s}_db", "running", dead=WAITS),
    Case("top {s}", "{s}_one.1", dead="no figures of n3: it is down", leave=CTRL_C),
    Case("df", "build cache", dead="no figures of n3: it is down"),
    Case("inspect n3", '"status": "ready"', dead='"status": "down"'),
    Case("explain {s}_db", "nothing is wrong with it", dead="bring the node back"),
    Case("events -f --since 30m", "{s}_db.1@n3", INTERRUPTED, "neither its agent nor its host", leave=CTRL_C),
    Case("doctor", "Examined 3 nodes", None, "it was not examined: it is down", 1),
    Case("history {s}", "first"),
    Case("diff {s}", "{s}: from nothing to 1"),
    Case("diff {s} 1", "{s}: from"),
    Case("scale {s}_one=2", "scaled {s}_one=2"),
    Case("service scale {s}_one=1", "scaled {s}_one=1"),
    Case("service inspect {s}_one", '"kind": "service"'),
    Case("service rollback {s}_one", "{s}_one is back"),
    Case("rollback {s}_one", "{s}_one is back"),
    Case("rollback --timeout {t} {s} 1", "{s} is back", 0, WAITS, 1),
    Case("update --force {s}_one", "{s}_one is up to date"),
    Case("restart {s}_one", "{s}_one was restarted"),
    Case("stop {s}_one", "{s}_one is stopped"),
    Case("start {s}_one", "{s}_one runs"),
    Case("logs --tail 1 {s}_web", "begun", dead="the node is down"),
    Case("service logs --tail 1 {s}_db", "tick", 0, "the node is down", 3),
    Case("logs -f {s}_db", "tick", INTERRUPTED, "the node is down", leave=CTRL_C),
    Case("kill -s CONT {s}_db.1", "sent CONT to {s}_db.1 on n3", 0, DOWN, 3),
    Case("attach --no-sig-proxy {s}_db.1", "tick", INTERRUPTED, DOWN, 3, leave=CTRL_C),
    Case("exec -it {s}_db.1 sh -c 'until stty size | grep 31; do :; done; exit 7'", "31 200", 7, DOWN, 3),
    Case("run {s}_one echo by itself", "by itself"),
    Case("port-forward {s}_db.1 :80", "leads to port 80", INTERRUPTED, DOWN, 3, leave=CTRL_C),
    Case("cp {s}_db.1:/etc/hostname copied", "", 0, DOWN, 3),
    Case("secret create {s}-k key.txt", "{s}-k is made"),
    Case("secret ls", "{s}-k"),
    Case("secret inspect {s}-k", "{s}-k"),
    Case("secret rotate-key", "with the new key"),
    Case("secret rm {s}-k", "removed {s}-k"),
    Case("configs create {s}-c key.txt", "{s}-c is made"),
    Case("configs ls", "{s}-c"),
    Case("configs inspect {s}-c", "{s}-c"),
    Case("configs rm {s}-c", "removed {s}-c"),
    Case("network ls", "{s}_default"),
    Case("network inspect {s}_default", "{s}_db.1"),
    Case("network convergence", "reachable"),
    Case("network attach --node n3 {s}_default nobody", "", None, "n3", 3),
    Case("network detach {s}_default nobody", "nobody", 2),
    Case("volume ls", "{s}_data", dead="its node is down"),
    Case("volume inspect {s}_data", "{s}_data", dead="its node is down"),
    Case("node ls", "n3    ready", dead="n3    down"),
    Case("node ps n3", "{s}_db.1", dead=WAITS),
    Case("node inspect n3", '"ready"', dead='"down"'),
    Case("node update --label-add disk=ssd n3", "updated n3"),
    Case("node update --label-rm disk n3", "updated n3"),
    Case("node pause n3", "n3 takes no new tasks"),
    Case("node drain --deadline 0s n3", "n3 is empty", 0, "what has its data there waits for it: {s}_db.1", 1),
    Case("node activate n3", "n3 takes tasks"),
    Case("node promote n2", "n2 may become a manager"),
    Case("node demote n2", "n2 is a worker"),
    Case("node rm n3", "node n3 is up", 2, "has the data of volumes {s}_data", 2),
    Case("rebalance --dry-run", "", 0),
    Case("upgrade", "the cluster is of version"),
    Case("version", "agent    n3"),
    Case("support-bundle bundle.tar.gz", "wrote bundle.tar.gz"),
    Case("ca", "ROOT"),
    Case("ca show", "BEGIN CERTIFICATE"),
    Case("token ls", "worker", root=True),
    Case("token show worker", "", root=True),
    Case("token create --once", "", root=True),
    Case("token rotate worker", "", root=True),
    Case("token revoke nobody", "nobody", 2, root=True),
    Case("autolock off", "managers start unlocked", root=True),
    Case("unlock-key", "so there is no key", 2, root=True),
    Case("unlock --unlock-key key.txt", "unlock key", 2, root=True),
    Case("user create {s}-u --role viewer"),
    Case("user ls", "{s}-u"),
    Case("user inspect {s}-u", "{s}-u"),
    Case("user token {s}-u"),
    Case("user update {s}-u --role deployer --stack {s}", "{s}-u"),
    Case("user revoke {s}-u", "{s}-u"),
    Case("user rm {s}-u", "{s}-u"),
    Case("user whoami", "admin"),
    Case("audit --since 30m", "deploy {s}"),
    Case("backup --passphrase-file key.txt kept", "wrote", root=True),
    Case("restore --verify --passphrase-file key.txt kept"),
    Case("context add other unix:///nowhere --no-use", "other is added"),
    Case("context ls", "/nowhere"),
    Case("context inspect other", "/nowhere"),
    Case("context use {lab}", "now talking to {lab}"),
    Case("context show", "{lab}"),
    Case("context rm other", "other is forgotten"),
    Case("man", ".TH STACK"),
    Case("completion bash", "complete"),
    Case("volume rm {s}_data", "is used by service {s}_db", 2),
    Case("rm --timeout 60 {s}", "removed {s}; its volumes stay: {s}_data on n3"),
    Case("volume rm {s}_data", "removed {s}_data", dead="{s}_data is removed once node n3 is back"),
    Case("deploy --detach -f app.yml {s}", "{s}"),
    Case("rm --volumes --timeout 60 {s}", "removed {s}"),
)

ELSEWHERE = {
    "init": "tests/integration/test_hosts.py",
    "join": "tests/integration/test_hosts.py",
    "leave": "tests/integration/test_hosts.py",
    "ca rotate": "tests/cli/test_ca.py",
    "ca finish": "tests/cli/test_ca.py",
    "dial-stdio": "tests/cli/test_ssh.py",
}
"""What needs hosts that are no members yet, or a way by ssh, or changes all certificates. The lab's own commands are
what all of this runs on.
"""


SHOWN_ELSEWHERE = {
    "stack node rm --force n3": "tests/integration/test_nodes.py",
    "stack context add far ssh://root@m1": "tests/cli/test_ssh.py",
}
"""What would take a node from the lab's cluster, or needs a host that is reached by ssh."""


COMMANDS = sorted(name for name, _ in leaves() if not name.startswith("lab "))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_case(command: str) -> None:
    assert command in ELSEWHERE or any(f"{case.line} ".startswith(f"{command} ") for case in CASES)


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_tried_elsewhere_is_tried_there(command: str) -> None:
    text = (Path(__file__).parents[2] / ELSEWHERE[command]).read_text()
    assert all(word in text for word in command.split())


@pytest.mark.parametrize("line", [line for row in shown() for line in row])
def test_what_the_readme_shows_is_typed(line: str) -> None:
    """Each command of the README's table of other programs' commands, with all that it gives there."""
    command, given = shape(shlex.split(line))
    lines = (case.line.format(s="s", lab="lab", t="1") for case in CASES)
    shapes = [shape(["stack", *shlex.split(one)]) for one in lines]
    assert (
        line in SHOWN_ELSEWHERE or command in ELSEWHERE or any(command == case and given <= its for case, its in shapes)
    )


def typed(cluster: Cluster, case: Case, stack_name: str, folder: Path, *, broken: bool) -> str:
    """Type one, and tell what is wrong with what came of it: "" if nothing is."""
    meant = {"s": stack_name, "lab": cluster.lab.layout.name, "t": "3" if broken else "120"}
    shows, code = (part.format(**meant) if isinstance(part, str) else part for part in case.expected(broken))
    environment = cluster.environment | {"TERM": "xterm"}
    if case.root:
        environment["STACK_HOST"] = str(cluster.lab.manager_socket("n1"))
    words = shlex.split(case.line.format(**meant))
    leave = b"" if broken and case.dead_code != -1 else case.leave
    with at_terminal(cluster, *words, columns=200, cwd=folder, env=environment) as person:
        try:
            seen = person.told(until=str(shows) if leave else None)
            if leave and person.process.poll() is None:
                person.types(leave)
            seen += person.told()
        except AssertionError as error:
            return f"$ stack {' '.join(words)}\nhangs: {error}"
        ended = person.process.wait(PATIENCE)
    wrong = [f"does not show {shows!r}"] if str(shows) not in seen else []
    wrong += ["shows a traceback"] if "Traceback" in seen or "a bug in this" in seen else []
    wrong += [f"ends with {ended}, not {code}"] if code is not None and ended != code else []
    return f"$ stack {' '.join(words)}\n{seen}\n{'; '.join(wrong)}" if wrong else ""


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("broken", [False, True], ids=["with all nodes up", "with a dead node"])
def test_each_command_at_a_terminal(cluster: Cluster, tmp_path: Path, broken: bool) -> None:
    name = "every-dead" if broken else "every"
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "key.txt").write_text("a long passphrase\n")

    def type_all() -> list[str]:
        return [wrong for case in CASES if (wrong := typed(cluster, case, name, tmp_path, broken=broken))]

    try:
        if broken:
            cluster.deploy(tmp_path / "app.yml", name)
            with dead(cluster, "n3"):
                wrong = type_all()
        else:
            wrong = type_all()
    finally:
        cluster.stack("rm", "--volumes", name, code=None)
        cluster.stack("node", "activate", "n3", code=None)
    assert not wrong, "\n\n".join(wrong)
