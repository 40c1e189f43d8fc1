"""Health checks."""

from __future__ import annotations

from cluster.compose.convert.field import Field
from cluster.model.container import Healthcheck


def convert(check: Field) -> Healthcheck | None:
    if not check.given:
        return None
    test_field = check["test"]
    test = test_field.texts()
    if check["disable"].boolean():
        if test and test != ("NONE",):
            raise check["disable"].error("a health check with a test cannot be disabled as well")
        return Healthcheck(("NONE",))
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise test_field.error(
            "a test that is a list begins with CMD, CMD-SHELL or NONE", hint="Or write the test as one text."
        )
    if test and test[0] != "NONE" and (len(test) == 1 or (test[0] == "CMD-SHELL" and len(test) > 2)):
        raise test_field.error("CMD takes a program and its arguments, CMD-SHELL one text")
    return Healthcheck(
        test=test,
        interval=check["interval"].seconds(),
        timeout=check["timeout"].seconds(),
        start_period=check["start_period"].seconds(),
        start_interval=check["start_interval"].seconds(),
        retries=check["retries"].integer(least=0),
    )
