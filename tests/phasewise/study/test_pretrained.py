"""``model.pretrained=FOLDER`` and ``study.fetch=true`` by the command line, without a download."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from phasewise.study.journal import read_journal
from tests.phasewise.study.whole import call, make_app


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """With a folder ``w`` of the weights of one backbone."""
    (tmp_path / "w").mkdir()
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w/test_resnet.r160.pth")
    return make_app(tmp_path)


@pytest.mark.slow
def test_a_folder_serves_all_backbones_that_it_has(app: Path) -> None:
    words = ("-m", "model.pretrained=w", "hydra.sweep.dir=out", "trainer.max_epochs=1")
    done = call(app, *words, "model.backbone=test_resnet,resnet18")
    assert done.returncode == 2
    assert "model.pretrained=w: no weights for resnet18 among 1 files" in done.stderr
    assert "(trial model.backbone=resnet18,model.pretrained=w" in done.stderr
    torch.save({}, app / "w/resnet18-0123abcd.pth")
    words = (*words, "model.backbone=test_resnet,resnet18", "optimizer.lr=0.01")
    done = call(app, *words)
    assert done.returncode == 0, done.stderr
    book = read_journal(app / "out")
    assert book is not None
    assert {"w/resnet18-0123abcd.pth", "w/test_resnet.r160.pth"} <= {*book.files}
    # each run counts by the content of its own file
    torch.save({"another": torch.zeros(1)}, app / "w/resnet18-0123abcd.pth")
    done = call(app, *words)
    assert done.returncode == 2
    assert "1 obstacle in out:\n  model.backbone=resnet18,model.pretrained=w" in done.stderr
    assert "what model.pretrained=w/resnet18-0123abcd.pth holds has changed since" in done.stderr


@pytest.mark.slow
def test_what_is_there_is_not_fetched_and_nothing_is_trained(app: Path) -> None:
    words = ("-m", "optimizer.lr=0.01,0.02", "model.backbone=test_resnet", "hydra.sweep.dir=out")
    done = call(app, *words, "model.pretrained=w", "study.fetch=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_resnet: w/test_resnet.r160.pth was there") == 1
    assert not (app / "out").exists()
    done = call(app, *words, "study.fetch=true")
    assert "nothing to fetch: no trial has model.pretrained=true" in done.stdout
