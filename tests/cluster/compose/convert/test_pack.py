"""Every model of the conformance pack that Docker printed: it is converted, or each key that cannot be says why."""

from __future__ import annotations

import json

import pytest

from cluster.compose.convert import convert, judge
from cluster.errors import ComposeError
from tests.cluster.compose.convert.plain import Plain
from tests.cluster.compose.test_conformance import PACK

CONVERTED, REFUSED = 525, 137
"""How many are; the rest has values that no node could use, such as paths of Windows."""

pytestmark = pytest.mark.skipif(not PACK.is_dir(), reason=f"there is no conformance pack at {PACK}")


def test_models_of_others_are_converted_or_refused_by_key() -> None:
    converted = refused = 0
    wrong: list[ComposeError] = []
    for line in (PACK / "oracle.jsonl").read_text().replace("@ROOT@", "/srv").splitlines():
        answer = json.loads(line)
        if not answer["ok"]:
            continue
        project = Plain(answer["model"], name="conf")
        verdicts = judge(project)
        assert all(one.text for one in verdicts if one.word != "honoured")
        try:
            convert(project)
            converted += 1
        except ComposeError as error:
            if any(one.refused for one in verdicts):
                refused += 1
            else:
                wrong.append(error)
    assert converted >= CONVERTED
    assert refused <= REFUSED
    assert all(error.field and error.line for error in wrong)
