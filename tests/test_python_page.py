"""docs/python.md: its code runs as it stands, in one session, in an empty folder."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def run(block: str, names: dict[str, Any]) -> list[Any]:
    """Execute a block; returns the values of its bare expressions, as a notebook would show."""
    shown = []
    for node in ast.parse(block).body:
        if isinstance(node, ast.Expr):
            code = compile(ast.Expression(node.value), "docs/python.md", "eval")
            shown.append(eval(code, names))
        else:
            exec(compile(ast.Module([node], []), "docs/python.md", "exec"), names)
    return shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ModuleType("page")  # pickling and inspect look for a module
    monkeypatch.setitem(sys.modules, "page", page)
    names = page.__dict__
    assert len(BLOCKS) == 6
    run(BLOCKS[0], names)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("[loss 1/6] model.loss=hinge seed=0")
    study = names["study"]
    assert study.status == "completed"
    assert len(study.trials) == 6 + 6
    assert (tmp_path / "outputs" / "digits" / "report.html").is_file()
    run(BLOCKS[1], names)
    assert "best: val/acc" in capsys.readouterr().out
    means, table, best, findings = run(BLOCKS[2], names)
    trials = names["study"].trials
    for alpha, group in trials.groupby("model.alpha"):
        assert means.loc[alpha, "mean"] == pytest.approx(group["val/acc"].sum() / len(group))
    assert isinstance(table, pd.DataFrame) and list(table.columns) == [0, 1]
    assert best[1] == names["study"].best.value
    assert list(findings.columns) == ["severity", "text"]
    run(BLOCKS[3], names)
    assert names["run"].record.status == "completed"
    (rates,) = run(BLOCKS[4], names)
    assert rates.to_dict() == {
        0.01: pytest.approx(0.6617, abs=1e-4),
        0.1: pytest.approx(0.5717, abs=1e-4),
    }
    *_, history = run(BLOCKS[5], names)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["val/loss"].is_monotonic_decreasing
