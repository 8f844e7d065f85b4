"""The frame of the scripts: what is said of an error that nobody foresaw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from phasewise.cli.script import run_script
from phasewise.cli.settings import ScriptSettings
from phasewise.errors import UserError


class Some(ScriptSettings):
    SCRIPT: ClassVar = "some.py"
    PATHS: ClassVar = ()


def told(capsys: pytest.CaptureFixture[str], error: Exception | str) -> tuple[int, str]:
    def run(settings: Some, others: Sequence[str]) -> None:
        if isinstance(error, str):
            json.loads(error)
        else:
            raise error

    with pytest.raises(SystemExit) as stop:
        run_script(Some, run, [])
    return int(stop.value.code or 0), capsys.readouterr().err


def test_an_unforeseen_error_says_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the project and, where it came up in a library, there: such an error may not come back."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    code, text = told(capsys, "{")
    what, ours, library, hint = text.splitlines()
    assert code == 1
    assert what.startswith("some.py: JSONDecodeError: Expecting property name")
    assert ours.startswith(f"at {Path(__file__)}, line ") and ours.endswith(", in run")
    assert "decoder.py, line " in library
    assert hint == "HYDRA_FULL_ERROR=1 shows all of the way there"
    code, text = told(capsys, AttributeError("'NoneType' object has no attribute 'name'"))
    assert [line.partition(",")[0] for line in text.splitlines()] == [
        "some.py: AttributeError: 'NoneType' object has no attribute 'name'",
        f"at {Path(__file__)}",
        hint,
    ]


def test_a_mistake_is_told_without_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, UserError("no such file")) == (2, "some.py: no such file\n")
