"""HTTP to the managers of one context, over TLS, a UNIX socket or ssh, with the standard library alone.

A request goes to the endpoint that answered last, or to the first that takes a connection, and moves on to the others
when one does not answer. Every request of this API may be sent twice: reads change nothing, writes carry an operation
id or say how things are to be.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cli.client.contexts import Context
from cli.client.dial import race
from cli.client.sparse import sparse
from cluster import errors
from cluster.headers import ROOTS

PATIENCE = 5.0  # seconds in which a manager may come back, or another take over
SILENCE = 15.0  # seconds after which a stream is given up that has an empty line every ten
_PAUSE = 0.3
_AT_ONCE = 2**16
_CONNECT_TIMEOUT = 3.0  # the host of a manager may be off, and then nobody refuses


_SILENT = 1.0  # seconds after which one is told what is waited for

Waiting = Callable[[str, float], None]
"""Is told, once for a request that takes long, why no manager has taken it, and for how many seconds it still may (0:
that a stream begins anew)."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a UNIX socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        dialling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            dialling.settimeout(self.timeout)
            dialling.connect(self._path)
        except OSError:
            dialling.close()
            raise
        self.sock = dialling


class Transport:
    """Sends requests to whichever manager answers. Not for several threads at once."""

    def __init__(
        self, context: Context, *, timeout: float = 30.0, patience: float = PATIENCE, keeps_up: bool = True,
        waiting: Waiting | None = None,
    ) -> None:  # fmt: skip
        """With `keeps_up` the context's files are brought up to date when the cluster's CA was rotated."""
        self._context, self._timeout, self._patience = context, timeout, patience
        self._keeps_up, self._roots = keeps_up, ""
        self._waiting = waiting
        self._targets = list(context.endpoints) or [context.socket or context.ssh]
        self._tls: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._token = _token(context)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None, *, within: float = 0.0
    ) -> bytes:
        """Send a request and read the whole answer. Raises the error that the manager tells, or Unavailable.

        `within` is for how many seconds the manager may be silent, where that is longer than usual.
        """
        response = self._send(method, path, query, body, within=within)
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise errors.Unavailable(f"the connection to the manager was lost: {error}") from error

    def lines(self, path: str, query: dict[str, Any] | None = None, *, end: float = math.inf) -> Iterator[bytes]:
        """Read a stream line by line as it comes. Ends also when the connection is lost: its last line tells.

        So it does when the manager is silent, though streams have an empty line every ten seconds, and at `end`, by the
        monotonic clock.
        """
        for some in self.batches(path, query, end=end):
            yield from some

    def batches(
        self, path: str, query: dict[str, Any] | None = None, *, end: float = math.inf
    ) -> Iterator[list[bytes]]:
        """Read a stream as `lines` does, and give the lines together that have come together."""
        response = self._send("GET", path, query, None)
        # http.client hands the socket over to the answer when it is to be closed with it.
        connection = self._connection.sock if self._connection is not None else None
        try:
            left = b""
            while True:
                if connection is not None:
                    connection.settimeout(max(0.01, min(SILENCE, end - time.monotonic())))
                if not (data := response.read1(_AT_ONCE)):
                    return
                *some, left = (left + data).split(b"\n")
                if some:
                    yield some
        except TimeoutError:
            if time.monotonic() < end:
                self._fell_silent()
        except (OSError, http.client.HTTPException):
            return
        finally:
            self.close()

    def _fell_silent(self) -> None:
        """Have another manager asked next time, and say so."""
        endpoint = self._targets.pop(0)
        self._targets.append(endpoint)
        if self._waiting is not None:
            self._waiting(f"the manager at {endpoint} has been silent for {SILENCE:.0f} s: asking anew", 0)

    def upgrade(self, path: str) -> tuple[socket.socket, bytes, http.client.HTTPMessage]:
        """Open a WebSocket: gives its socket, what was read of it already, and the answer's headers."""
        from cli.client import websocket

        self.close()
        response = self._send("GET", path, None, None, websocket.opening())
        connection, self._connection = self._connection, None
        if response.status != 101 or connection is None:
            raise errors.Failed(f"the manager answered {response.status} where it should open a stream")
        opened: socket.socket = connection.sock
        opened.setblocking(False)
        try:
            read = response.fp.peek()
        except ssl.SSLWantReadError:
            read = b""
        return opened, read, response.headers

    def blocks(self, path: str) -> Iterator[bytes]:
        """Read a stream of blocks, as cluster/backup.py has them. Raises Unavailable when the connection is lost."""
        from cluster import backup

        response = self._send("GET", path, None, None)
        try:
            yield from backup.blocks(response)
        except (OSError, EOFError, http.client.HTTPException) as error:
            raise errors.Unavailable(f"the connection to the manager was lost: {error}") from error
        finally:
            self.close()

    def _send(
        self, method: str, path: str, query: dict[str, Any] | None, body: Any, headers: dict[str, str] | None = None,
        *, within: float = 0.0,
    ) -> http.client.HTTPResponse:  # fmt: skip
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        target = path + ("?" + urllib.parse.urlencode(asked, doseq=True) if asked else "")
        data = None if body is None else msgspec.json.encode(sparse(body))
        waiting, begin = self._waiting, time.monotonic()
        end = begin + self._patience
        while True:
            problems: list[tuple[str, Exception]] = []
            left = list(self._targets)
            while endpoint := self._reached(left, problems):
                try:
                    response = self._ask(method, target, data, headers or {}, max(within, self._timeout))
                    if response.status < 400:
                        self._keep_up(response)
                        return response
                    told = self._error(response)
                except (OSError, http.client.HTTPException) as error:
                    problems.append((endpoint, error))
                else:
                    if response.status != 503:
                        raise told
                    problems.append((endpoint, told))
                self.close()
                left.remove(endpoint)
                # what answers next time is asked first next time
                self._targets.remove(endpoint)
                self._targets.append(endpoint)
            self._check_trust(problems)
            if time.monotonic() > end or not all(_may_pass(error) for _, error in problems):
                raise self._out_of_reach(problems) from problems[0][1]
            if waiting is not None and (now := time.monotonic()) - begin > _SILENT:
                waiting(self._out_of_reach(problems).message, end - now)
                waiting = None
            time.sleep(_PAUSE)

    def _ask(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str], silence: float
    ) -> http.client.HTTPResponse:
        assert self._connection is not None
        self._connection.sock.settimeout(silence)
        if data is not None:
            headers = headers | {"Content-Type": "application/json"}
        if self._token:
            headers = headers | {"Authorization": f"Bearer {self._token}"}
        self._connection.request(method, target, data, headers)
        return self._connection.getresponse()

    def _reached(self, left: list[str], problems: list[tuple[str, Exception]]) -> str:
        """Be connected to one of these endpoints, and give it; "" when that can be had with none of them."""
        if self._connection is not None and self._connection.sock is not None:
            return self._targets[0]
        while left:
            endpoint = left[0]
            try:
                if self._context.endpoints:
                    tls = self._tls_context()
                    found = race(left, _CONNECT_TIMEOUT, tls)
                    problems += found.failures.items()
                    left[:] = [other for other in left if other not in found.failures]
                    if found.connection is None:
                        return ""
                    endpoint = found.winner
                    self._connection = _over_tls(endpoint, found.connection, tls)
                else:
                    self._connection = self._local(endpoint)
                    self._connection.connect()
            except OSError as error:
                problems.append((endpoint, error))
                left.remove(endpoint)
            else:
                self._targets.remove(endpoint)
                self._targets.insert(0, endpoint)
                return endpoint
        return ""

    def _local(self, endpoint: str) -> http.client.HTTPConnection:
        if self._context.socket:
            return UnixConnection(endpoint, _CONNECT_TIMEOUT)
        from cli.client.ssh import SshConnection

        return SshConnection(endpoint, _CONNECT_TIMEOUT)

    def _tls_context(self) -> ssl.SSLContext:
        """Trust who has a server's certificate of this CA: only managers do, by whatever name one reaches them."""
        if self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._context.ca)
                self._tls.check_hostname = False
                if self._context.cert:
                    self._tls.load_cert_chain(self._context.cert, self._context.key)
            except (OSError, ssl.SSLError) as error:
                *others, last = filter(None, (self._context.ca, self._context.cert, self._context.key))
                files = " and ".join(filter(None, (", ".join(others), last)))
                raise errors.UserError(
                    f"the certificates of this context cannot be read: {error}", hint=f"They should be in {files}."
                ) from error
        return self._tls

    def _keep_up(self, response: http.client.HTTPResponse) -> None:
        """Have the context know other roots, when the manager tells of others; and connections to come go by them."""
        told = response.getheader(ROOTS)
        if not told or told == self._roots or not self._context.endpoints or not self._keeps_up:
            return
        known = told == hashlib.sha256(Path(self._context.ca).read_bytes()).hexdigest()
        if not known:
            from cli.client.roots import keep_up

            known = keep_up(self._context)
            self._tls = None
        self._roots = told if known else ""

    def _error(self, response: http.client.HTTPResponse) -> errors.StackyardError:
        from cluster.views import ErrorBody

        text = response.read()
        try:
            told = msgspec.json.decode(text, type=ErrorBody)
        except msgspec.MsgspecError:
            return errors.Failed(f"the manager answered {response.status}: {text[:200].decode(errors='replace')}")
        kind = getattr(errors, told.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.StackyardError)):
            kind = errors.UserError if response.status < 500 else errors.Failed
        return kind(told.error, hint=told.hint)

    def _check_trust(self, problems: Sequence[tuple[str, Exception]]) -> None:
        """Raise Forbidden when managers hang up because of our certificate."""
        if self._tls is None or not any(_hung_up(error) for _, error in problems):
            return
        from cli.client.trust import fault

        if reason := fault(self._context):
            raise errors.Forbidden(
                reason, hint="Get a new one: on a manager's host `stack init` writes it, in a lab `stack lab up`."
            ) from problems[0][1]

    def _out_of_reach(self, problems: Sequence[tuple[str, Exception]]) -> errors.StackyardError:
        for _, error in problems:
            if isinstance(error, errors.Unavailable):  # a manager answers, and knows better what is missing
                return error
        told = "; ".join(f"{endpoint}: {_said(error)}" for endpoint, error in problems)
        if any(isinstance(error, ssl.SSLError) and not _may_pass(error) for _, error in problems):
            return errors.Forbidden(
                f"the manager and this context do not trust one another ({told})",
                hint="The context is of another cluster, or its certificate has expired.",
            )
        if any(isinstance(error, PermissionError) for _, error in problems):
            return errors.Forbidden(f"no permission to open the manager's socket ({told})", hint="It is root's.")
        if self._context.socket and isinstance(problems[-1][1], FileNotFoundError):
            return errors.Unavailable(
                f"no manager answers ({told})",
                hint="That is the socket of a manager on this host, for root: type this on the host of one, in a lab "
                "`stack lab exec n1 -- stack ...`.",
            )
        return errors.Unavailable(
            f"no manager answers ({told})", hint="Is it running? In a lab: `stack lab status`, `stack lab start n1`."
        )


def _over_tls(endpoint: str, connected: ssl.SSLSocket, tls: ssl.SSLContext) -> http.client.HTTPConnection:
    url = urllib.parse.urlsplit(endpoint)
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=tls)
    connection.sock = connected
    return connection


def _token(context: Context) -> str:
    if not context.token:
        return ""
    try:
        return Path(context.token).read_text().strip()
    except OSError as error:
        raise errors.UserError(
            f"the token of this context cannot be read: {error}", hint="`stack context add` adds the context again."
        ) from error


def _hung_up(error: Exception) -> bool:
    return isinstance(error, ConnectionError | ssl.SSLError) and not isinstance(
        error, ConnectionRefusedError | ssl.SSLCertVerificationError
    )


def _said(error: Exception) -> str:
    """Give what the system says of an error, without its number."""
    return (isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror) or str(error)


def _may_pass(error: Exception) -> bool:
    """Tell whether it may pass within seconds: a manager that restarts, not one that gives a reason or mistrusts us."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return True
    return not isinstance(error, ssl.SSLError | PermissionError | errors.StackyardError)
