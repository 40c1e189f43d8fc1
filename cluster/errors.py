"""The errors that people see, sorted by what can be done about them.

    StackyardError                 exit code  HTTP
    ├── UserError                  2          400   the request is wrong: mend it, then ask again
    │   ├── ComposeError                            a Compose file is wrong: file, line and field are told
    │   ├── NotFound                          404   no such stack, service, task or node
    │   ├── Conflict                          409   somebody else holds the name or port, or changed it meanwhile
    │   ├── Forbidden                         403   the caller may not do that
    │   ├── Unauthenticated                   401   the caller did not prove who it is
    │   └── TooMany                           429   the caller asks too often
    ├── Unavailable                3          503   a part is down or out of reach: the same request may work later
    ├── Failed                     1          500   the request was fine and was tried, and did not succeed
    └── Inconsistent               70         500   a bug: an invariant of the cluster's state does not hold

Each error says what is wrong, where, and what to do (`hint`). It is raised where the cause is known and shown once.
"""

from __future__ import annotations

from typing import ClassVar


class StackyardError(Exception):
    """The root of all errors of this project; `hint` says what to do about it."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UserError(StackyardError):
    """The request is wrong; asking the same again will not help."""

    exit_code = 2
    http_status = 400


class ComposeError(UserError):
    """A Compose file cannot be used; `file` and `line` (from 1) tell where, `field` is like `services.web.ports.0`."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, field: str = "", hint: str = ""
    ) -> None:
        self.file, self.line, self.field, self.reason = file, line, field, message
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, field, message) if part), hint=hint)


class NotFound(UserError):
    """There is no such thing; the message names the thing and how to list what there is."""

    http_status = 404


class Conflict(UserError):
    """Somebody else holds what was asked for, or changed it in between."""

    http_status = 409


class Forbidden(UserError):
    """The caller is known and may not do this."""

    http_status = 403


class Unauthenticated(UserError):
    """The caller did not prove who it is, or not any more: no credential, a wrong one, or one that has ended."""

    http_status = 401


class TooMany(UserError):
    """The caller, or somebody at its address, asks too often."""

    http_status = 429


class Unavailable(StackyardError):
    """A part of the cluster is down or out of reach; the same request may work later."""

    exit_code = 3
    http_status = 503


class Failed(StackyardError):
    """The request was understood and tried, and did not succeed."""


class Inconsistent(StackyardError):
    """An invariant of the cluster's state does not hold: a bug, never the user's fault."""

    exit_code = 70
