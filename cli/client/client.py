"""What can be asked of a cluster, call by call."""

from __future__ import annotations

import base64
import importlib
import math
import os
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from cli.client import logs
from cli.client.contexts import Context
from cli.client.transport import PATIENCE, Transport, Waiting
from cluster import views
from cluster.errors import Failed, NotFound, Unavailable


class _Later:
    """A module that is loaded when something of it is first asked for: each is for a few commands only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    from cli.client.channel import Channel
    from cluster import membership, people, plans, unlock
    from cluster.channel import Purpose
    from cluster.events import ClusterEvent
    from cluster.examination import Diagnosis
    from cluster.model.node import Role
    from cluster.model.secret import FileKind
    from cluster.model.stack import StackRevision, StackSpec
    from cluster.usage import DiskView, UsageView
else:
    membership, people, plans, unlock = map(
        _Later, ("cluster.membership", "cluster.people", "cluster.plans", "cluster.unlock")
    )

T = TypeVar("T")

_PATIENCE = 60.0
_WIRING = 45.0
"""Seconds in which agents find and wire a container, or it is said why not."""
_EXAMINATION = 120.0
_DISK = 90.0
_PAUSE = 0.3


class Client:
    """One cluster's API. Errors are those of `cluster.errors`."""

    def __init__(self, context: Context, *, patience: float = PATIENCE, waiting: Waiting | None = None) -> None:
        """`patience` is for how many seconds a request waits for a manager that may be restarting; see `Transport`."""
        self._transport = Transport(context, patience=patience, waiting=waiting)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._transport.close()

    def version(self) -> views.VersionView:
        return self._get(views.VersionView, "/version")

    def cluster(self) -> views.ClusterView:
        return self._get(views.ClusterView, "/cluster")

    def ca(self) -> views.CaView:
        """Tell which roots the cluster's CA has, and how far a rotation is."""
        return self._get(views.CaView, "/ca/rotation")

    def roots(self) -> str:
        """The roots that managers are to be trusted by (PEM), the one that signs first."""
        return self._transport.call("GET", "/v1/ca/bundle").decode()

    def rotate_ca(self) -> views.CaView:
        """Begin to put another root in the place of the CA's. Raises Conflict while that is under way."""
        return self._ask(views.CaView, "POST", "/ca/rotation")

    def finish_ca(self, *, force: bool) -> views.CaView:
        """Trust the old root no more. Raises Conflict, without force, when some still need it."""
        return self._ask(views.CaView, "POST", "/ca/rotation/finish", {"force": str(force).lower()})

    def upgrade(self) -> views.UpgradeView:
        """Tell which release each manager and agent runs, and which version of records the cluster writes."""
        return self._get(views.UpgradeView, "/upgrade")

    def finish_upgrade(self) -> views.UpgradeView:
        """Let the cluster write what its older release does not know. Raises Conflict while somebody runs that."""
        return self._ask(views.UpgradeView, "POST", "/upgrade/finish")

    def stacks(self) -> list[views.StackView]:
        return self._get(list[views.StackView], "/stacks")

    def services(self, stack: str | None = None) -> list[views.ServiceView]:
        return self._get(list[views.ServiceView], "/services", stack=stack)

    def tasks(
        self, stack: str | None = None, service: str | None = None, node: str | None = None
    ) -> list[views.TaskView]:
        return self._get(list[views.TaskView], "/tasks", stack=stack, service=service, node=node)

    def explain(self, name: str) -> views.Explanation:
        """Explain a service, or a task by its name or the beginning of its id."""
        return self._get(views.Explanation, f"/explain/{name}")

    def doctor(self) -> Diagnosis:
        """Have all nodes and the ways between them examined, which takes up to a minute where something is wrong."""
        from cluster.examination import Diagnosis

        return _read(Diagnosis, self._transport.call("POST", "/v1/doctor", within=_EXAMINATION))

    def usage(self, stack: str | None = None, service: str | None = None, node: str | None = None) -> UsageView:
        """Read once what running tasks have used; two answers make rates."""
        from cluster.usage import UsageView

        return self._get(UsageView, "/usage", stack=stack, service=service, node=node)

    def disk(self, node: str | None = None) -> DiskView:
        """Have engines sum up what lies on their disks, which may take a minute."""
        from cluster.usage import DiskView

        return _read(DiskView, self._transport.call("GET", "/v1/disk", {"node": node}, within=_DISK))

    def networks(self) -> list[views.NetworkView]:
        return self._get(list[views.NetworkView], "/networks")

    def network(self, ident: str) -> views.NetworkDetail:
        """Tell who has which address in a network, by its id."""
        return self._get(views.NetworkDetail, f"/networks/{ident}")

    def attach(
        self,
        network: str,
        container: str,
        *,
        node: str = "",
        aliases: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> views.AttachmentView:
        """Make a container that was started by hand a member of a network, on whichever node it is."""
        request = views.AttachRequest(container, node, tuple(aliases), tuple(addresses))
        path = f"/v1/networks/{_quoted(network)}/attachments"
        return _read(views.AttachmentView, self._transport.call("POST", path, None, request, within=_WIRING))

    def detach(self, network: str, container: str, *, node: str = "") -> None:
        path = f"/v1/networks/{_quoted(network)}/attachments/{_quoted(container)}"
        self._transport.call("DELETE", path, {"node": node}, None, within=_WIRING)

    def convergence(self) -> views.ConvergenceView:
        """How long changes take to reach all nodes that are in session with the manager that answers."""
        return self._get(views.ConvergenceView, "/networks/convergence")

    def metrics(self) -> str:
        """Give what Prometheus reads of the manager that answers."""
        return self._transport.call("GET", "/v1/metrics").decode()

    def task_metrics(self) -> str:
        """Give what Prometheus reads of the networks of tasks, on nodes in session with the manager that answers."""
        return self._transport.call("GET", "/v1/metrics/tasks").decode()

    def volumes(self) -> list[views.VolumeView]:
        """List the volumes whose data is on one node."""
        return self._get(list[views.VolumeView], "/volumes")

    def volume(self, name: str) -> views.VolumeView:
        return self._get(views.VolumeView, f"/volumes/{name}")

    def remove_volume(self, name: str) -> views.VolumeRemoval:
        """Remove a volume that nothing uses, with its data. Raises Conflict with who uses it."""
        return self._ask(views.VolumeRemoval, "DELETE", f"/volumes/{_quoted(name)}")

    def nodes(self) -> list[views.NodeView]:
        return self._get(list[views.NodeView], "/nodes")

    def rebalance(
        self,
        *,
        dry_run: bool = False,
        include_single: bool = False,
        max_unavailable: int = 1,
        automatic: float | Literal["off"] | None = None,
    ) -> views.RebalanceView:
        """Have tasks moved for a better spread, or only be told which; see `views.RebalanceRequest`."""
        request = views.RebalanceRequest(_operation(), dry_run, include_single, max_unavailable, automatic)
        return self._ask(views.RebalanceView, "POST", "/rebalance", body=request)

    def rebalance_progress(self) -> views.RebalanceView:
        return self._get(views.RebalanceView, "/rebalance")

    def node(self, name: str) -> views.NodeView:
        return self._get(views.NodeView, f"/nodes/{name}")

    def remove_node(self, name: str, *, force: bool = False) -> None:
        self._transport.call("DELETE", f"/v1/nodes/{name}", {"force": str(force).lower()}, None)

    def update_node(self, name: str, change: views.NodeChange) -> views.NodeView:
        return self._ask(views.NodeView, "PATCH", f"/nodes/{name}", body=change)

    def join_tokens(self) -> membership.JoinTokens:
        return self._get(membership.JoinTokens, "/join-tokens")

    def tokens(self) -> list[membership.TokenView]:
        return self._get(list[membership.TokenView], "/tokens")

    def create_token(self, role: Role, *, expires_in: float | None = None, once: bool = False) -> membership.TokenReply:
        """Make a join token; `expires_in` is in seconds, None for never."""
        return self._ask(membership.TokenReply, "POST", "/tokens", body=membership.NewToken(role, expires_in, once))

    def rotate_token(self, role: Role) -> membership.TokenReply:
        return self._ask(membership.TokenReply, "POST", f"/tokens/{role}/rotate")

    def revoke_token(self, ident: str) -> None:
        self._transport.call("DELETE", f"/v1/tokens/{_quoted(ident)}")

    def me(self) -> people.SelfView:
        """Tell whom the manager takes this client for."""
        return self._get(people.SelfView, "/me")

    def own_certificate(self, csr: str) -> membership.CertificateReply:
        return self._ask(
            membership.CertificateReply, "POST", "/me/certificate", body=people.NewUserCertificate(csr)
        )  # fmt: skip

    def users(self) -> list[people.UserView]:
        return self._get(list[people.UserView], "/users")

    def user(self, name: str) -> people.UserView:
        return self._get(people.UserView, f"/users/{_quoted(name)}")

    def create_user(self, request: people.NewUser) -> people.UserTokenReply:
        return self._ask(people.UserTokenReply, "POST", "/users", body=request)

    def update_user(self, name: str, change: people.UserChange) -> people.UserView:
        return self._ask(people.UserView, "PATCH", f"/users/{_quoted(name)}", body=change)

    def create_user_token(self, name: str, expires_in: float | None = None) -> people.UserTokenReply:
        """Give a user one more token; `expires_in` is in seconds, None for never."""
        return self._ask(
            people.UserTokenReply, "POST", f"/users/{_quoted(name)}/tokens", body=people.NewUserToken(expires_in)
        )  # fmt: skip

    def revoke_credentials(self, name: str, credential: str | None = None) -> people.UserView:
        """Make one credential of a user worthless, or all."""
        one = "" if credential is None else f"/{_quoted(credential)}"
        return self._ask(people.UserView, "DELETE", f"/users/{_quoted(name)}/credentials{one}")

    def remove_user(self, name: str) -> None:
        self._transport.call("DELETE", f"/v1/users/{_quoted(name)}")

    def audit(
        self, *, since: float = 0.0, user: str | None = None, stack: str | None = None, limit: int = 200
    ) -> list[people.AuditEntry]:
        """Give the newest entries of the audit log that match, oldest first; `since` is cluster time."""
        return self._get(list[people.AuditEntry], "/audit", since=since, user=user, stack=stack, limit=limit)

    def deploy(
        self,
        spec: StackSpec,
        reason: str = "",
        base_revision: int | None = None,
        contents: dict[tuple[str, str], bytes] | None = None,
        *,
        atomic: bool = False,
        force: tuple[str, ...] = (),
        resolve_image: views.ResolveImage = "always",
    ) -> views.RevisionReply:
        """Make a stack be as `spec` says, as a new revision of it if anything differs or services are in `force`.

        `contents` are those of its secrets and configs, by ("secret" or "config", key). An `atomic` deploy is undone
        whole when the new tasks of one service fail. `resolve_image` tells which images are looked up in registries.
        `base_revision` refuses it when the stack is at another revision (0: not there yet).
        """
        request = _deploy_request(spec, contents, reason, base_revision, atomic, force, resolve_image)
        return self._ask(views.RevisionReply, "PUT", f"/stacks/{spec.name}", body=request)

    def plan(
        self,
        spec: StackSpec,
        base_revision: int | None = None,
        contents: dict[tuple[str, str], bytes] | None = None,
        *,
        force: tuple[str, ...] = (),
        resolve_image: views.ResolveImage = "always",
    ) -> plans.PlanView:
        """Tell what `deploy` would do as things stand. Raises what it would."""
        request = _deploy_request(spec, contents, "", base_revision, False, force, resolve_image)
        return self._ask(plans.PlanView, "POST", f"/stacks/{spec.name}/plan", body=request)

    def diff(self, stack: str, base: int | None = None, revision: int | None = None) -> plans.DiffView:
        """Tell how a revision (None: the newest) differs from `base` (None: the one before it)."""
        return self._get(plans.DiffView, f"/stacks/{stack}/diff", base=base, revision=revision)

    def externals(self, kind: FileKind) -> list[views.ExternalView]:
        return self._get(list[views.ExternalView], f"/{kind}s")

    def external(self, kind: FileKind, name: str) -> views.ExternalView:
        return self._get(views.ExternalView, f"/{kind}s/{name}")

    def create_external(
        self, kind: FileKind, name: str, data: bytes, labels: dict[str, str], stacks: tuple[str, ...] = ()
    ) -> views.ExternalView:
        """Make one; deployers may use it in the stacks that `stacks` (patterns with *) name."""
        request = views.ExternalRequest(base64.b64encode(data).decode(), labels, stacks)
        return self._ask(views.ExternalView, "PUT", f"/{kind}s/{name}", body=request)

    def remove_external(self, kind: FileKind, name: str) -> None:
        self._transport.call("DELETE", f"/v1/{kind}s/{name}")

    def rotate_secrets_key(self) -> views.SealingView:
        """Have all secrets and configs sealed with a new key."""
        return self._ask(views.SealingView, "POST", "/secrets-key/rotate")

    def unlock(self, key: str) -> None:
        """Open the manager that is asked, which is locked since it started; raises Forbidden for a wrong key."""
        self._transport.call("POST", "/v1/unlock", body=unlock.UnlockKey(key))

    def unlock_key(self) -> str:
        """Give the key that unlocks managers; "" where they start unlocked."""
        return self._get(unlock.UnlockKey, "/unlock-key").key

    def set_unlock_key(self, key: str) -> None:
        """Have managers be locked with that key whenever they start, or not any more if it is ""."""
        if key:
            self._transport.call("PUT", "/v1/unlock-key", body=unlock.UnlockKey(key))
        else:
            self._transport.call("DELETE", "/v1/unlock-key")

    def scale(self, stack: str, replicas: dict[str, int], reason: str = "") -> views.RevisionReply:
        request = views.ScaleRequest(replicas, _operation(), reason)
        return self._ask(views.RevisionReply, "POST", f"/stacks/{stack}/scale", body=request)

    def revisions(self, stack: str) -> list[views.RevisionView]:
        """List the revisions of a stack that are kept, newest first."""
        return self._get(list[views.RevisionView], f"/stacks/{stack}/revisions")

    def revision(self, stack: str, n: int | None = None) -> StackRevision:
        """Give a whole revision of a stack (None: the newest); secrets and configs are digests in it."""
        from cluster.model.stack import StackRevision

        return self._get(StackRevision, f"/stacks/{stack}/revisions/{'head' if n is None else n}")

    def roll_back(
        self, stack: str, revision: int | None = None, services: tuple[str, ...] = (), reason: str = ""
    ) -> views.RevisionReply:
        """Make a stack, or some of its services, what they were; None is when they were different last."""
        request = views.RollbackRequest(_operation(), revision, services, reason)
        return self._ask(views.RevisionReply, "POST", f"/stacks/{stack}/rollback", body=request)

    def update(
        self, stack: str, services: tuple[str, ...] = (), *, proceed: bool, force: bool, reason: str = ""
    ) -> views.RevisionReply:
        """Go on with paused updates, or force one, of all services of a stack or some."""
        request = views.UpdateRequest(_operation(), services, proceed, force, reason)
        return self._ask(views.RevisionReply, "POST", f"/stacks/{stack}/update", body=request)

    def switch(
        self, stack: str, services: tuple[str, ...] = (), *, running: bool, reason: str = ""
    ) -> views.RevisionReply:
        """Start or stop all services of a stack or some."""
        request = views.SwitchRequest(_operation(), running, services, reason)
        return self._ask(views.RevisionReply, "POST", f"/stacks/{stack}/switch", body=request)

    def remove(self, stack: str, *, volumes: bool = False) -> views.RemoveReply:
        return self._ask(views.RemoveReply, "DELETE", f"/stacks/{stack}", {"volumes": str(volumes).lower()})

    def progress(
        self,
        stack: str,
        revision: int,
        services: Sequence[str] = (),
        *,
        removing: bool = False,
        timeout: float | None = None,
    ) -> Iterator[views.Progress]:
        """Follow a revision (of some services, if they are named) to its end, over restarts of managers; the last one
        has `done` or `failed`.

        Raises TimeoutError after `timeout`, and Unavailable when no manager answers for a minute.
        """
        last_heard = time.monotonic()
        end = math.inf if timeout is None else last_heard + timeout

        while True:
            try:
                for line in self._transport.lines(
                    f"/v1/stacks/{stack}/progress",
                    {"revision": revision, "service": list(services) or None},
                    end=end,
                ):
                    last_heard = time.monotonic()
                    if not line.strip():
                        continue
                    progress = _read(views.Progress, line)
                    yield progress
                    if progress.done or progress.failed:
                        return
                    if last_heard > end:
                        break
            except NotFound:
                if not removing:
                    raise
                yield views.Progress(stack, revision, removing=True, done=True)
                return
            except Unavailable:
                if time.monotonic() - last_heard > _PATIENCE:
                    raise
            if time.monotonic() >= end:
                raise TimeoutError
            time.sleep(_PAUSE)

    def logs(
        self,
        names: Sequence[str],
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[list[views.LogLine]]:
        """Read what stacks, services and tasks print, each line once, over restarts of managers.

        What is followed is merged as it comes, and given together as it came together; else it is sorted by time.
        """
        ask = partial(
            logs.read, self._transport, names, partial(_read, views.LogLine), follow=follow, since=since, until=until
        )
        if tail is not None and until is not None:
            return logs.last(ask(tail=None), tail)  # engines would count from the end of the log
        return ask(tail=tail) if follow else logs.in_order(ask(tail=tail))

    def events(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        until: float | None = None,
        tail: int | None = None,
        filters: tuple[str, ...] = (),
    ) -> Iterator[ClusterEvent]:
        """Read the cluster's events (`KEY=VALUE` filters them), each once and in order, over restarts of managers.

        One of the type `stream` says that some are lost at its place.
        """
        from cli.client import events
        from cluster.events import ClusterEvent

        query = {"follow": str(follow).lower(), "since": since, "until": until, "tail": tail, "filter": filters}
        return events.read(self._transport, lambda text: _read(ClusterEvent, text), query)

    def channel(self, task: str, purpose: Purpose) -> Channel:
        """Open a channel to a task, `stack_service.slot`: the stack may be left out, and the slot where any will do."""
        from cli.client.channel import open_channel

        return open_channel(self._transport, task, purpose)

    def run(self, service: str, request: views.RunRequest) -> views.OneOffView:
        """Have a service's container run once more, with another command."""
        return self._ask(views.OneOffView, "POST", f"/services/{_quoted(service)}/runs", body=request)

    def attend(self, oneoff: str) -> Channel:
        """Open the channel with which an attended one-off task starts, and goes; by its id."""
        from cli.client.channel import attend

        return attend(self._transport, oneoff)

    def remove_run(self, name: str) -> None:
        """Stop and forget a one-off task, by its name or id."""
        self._transport.call("DELETE", f"/v1/runs/{_quoted(name)}")

    def backup(self) -> Iterator[bytes]:
        """Give the frames of a backup (cluster/backup.py), in the clear; it is whole with its End."""
        return self._transport.blocks("/v1/backup")

    def _get(self, answer: type[T], path: str, **query: Any) -> T:
        return self._ask(answer, "GET", path, query)

    def _ask(self, answer: type[T], method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> T:
        return _read(answer, self._transport.call(method, f"/v1{path}", query, body))


def _deploy_request(
    spec: StackSpec,
    contents: dict[tuple[str, str], bytes] | None,
    reason: str,
    base_revision: int | None,
    atomic: bool,
    force: tuple[str, ...],
    resolve_image: views.ResolveImage,
) -> views.DeployRequest:
    sent = {place: base64.b64encode(data).decode() for place, data in (contents or {}).items()}
    secrets = {key: text for (kind, key), text in sent.items() if kind == "secret"}
    configs = {key: text for (kind, key), text in sent.items() if kind == "config"}
    return views.DeployRequest(
        spec, _operation(), reason, base_revision, secrets, configs, force=force, atomic=atomic,
        resolve_image=resolve_image,
    )  # fmt: skip


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _operation() -> str:
    """A random id; the module secrets would take a tenth of the start of a command."""
    return os.urandom(8).hex()


def _read(answer: type[T], data: bytes) -> T:
    try:
        return msgspec.json.decode(data, type=answer)
    except msgspec.MsgspecError as error:
        raise Failed(
            f"the manager's answer cannot be read: {error}", hint="`stack version` tells whether versions differ."
        ) from error
