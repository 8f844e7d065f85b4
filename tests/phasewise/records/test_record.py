from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from phasewise.config.fingerprint import fingerprint, named_files
from phasewise.errors import UserError
from phasewise.records.notes import Diagram, Limit, Notes, Shares
from phasewise.records.record import RECORD, RunRecord, environment, git_commit, read_record
from phasewise.records.schema import FINAL

ROOT = Path(__file__).parents[3]


def start(directory: Path, **changes: Any) -> RunRecord:
    settings: dict[str, Any] = {
        "task": "multitask",
        "fingerprint": "0123456789abcdef",
        "overrides": ["seed=3"],
        "seed": 3,
        "metric": "val/mIoU",
        "mode": "max",
    }
    return RunRecord.start(directory, **(settings | changes))


def test_a_started_run_is_on_disk_and_unfinished(tmp_path: Path) -> None:
    start(tmp_path / "new" / "run")
    content = json.loads((tmp_path / "new" / "run" / RECORD).read_text())
    assert list(content)[:3] == ["schema", "status", "error"]
    assert content["schema"] == 1
    assert content["status"] == "running"
    assert content["objective"] == {
        "metric": "val/mIoU",
        "mode": "max",
        "value": None,
        "epoch": None,
    }
    assert content["test"] is None
    assert "directory" not in content
    read = read_record(tmp_path / "new" / "run")
    assert read is not None
    assert not read.is_final


def test_a_finished_run_reads_back_as_written(tmp_path: Path) -> None:
    record = start(tmp_path, environment={"python": "3.11"}, data={"counts": {"train": 2}})
    record.finish(
        "completed",
        value=0.61,
        epoch=7,
        best={"val/mIoU": 0.61},
        last={"val/mIoU": 0.6},
        test={"test/mIoU": 0.5},
        baselines={"majority": {"val/mIoU": 0.2}},
        cost={"seconds": 1.5},
    )
    read = read_record(tmp_path)
    assert read == record
    assert read is not None
    assert read.is_final
    assert read.data == {"counts": {"train": 2}}
    assert os.listdir(tmp_path) == [RECORD]


def test_notes_read_back_as_written(tmp_path: Path) -> None:
    record = start(tmp_path)
    curves = {"p": [0.1, 0.5], "loss": [2.5, 1e-05]}
    record.notes = Notes(
        (Limit("train/share", 0.5, "too few", "more"),),
        (Diagram("losses", "dice [1, 2]", "Losses.", curves, log=("loss",)),),
        (Diagram("references", "dice", "Losses.", curves),),
        (Shares("pixels", "share", "Pixels.", {"all": {"in": 0.25, "out": 0.75}}),),
    )
    record.finish("completed")
    assert read_record(tmp_path) == record
    assert '"loss": [ 2.5, 1e-05 ]' in (tmp_path / RECORD).read_text()


@pytest.mark.parametrize(
    "notes",
    [
        {"limits": [{"metric": "a", "lest": 1}]},
        {"limits": 1},
        {"diagrams": [{"name": "a", "label": "a", "caption": "a", "curves": {"x": [1]}}]},
        {"diagrams": [{"name": "a", "label": "", "caption": "", "curves": {"x": [1], "y": []}}]},
        {"shares": [{"name": "a", "title": "", "caption": "", "bars": {"x": {"y": 0.9}}}]},
        {"shares": [{"name": "a", "title": "", "caption": "", "bars": {"x": {"y": 2, "z": -1}}}]},
        {"shares": [{"name": "a", "title": "", "caption": "", "bars": {"x": {"y": 1}, "z": {}}}]},
        {"shares": [{"name": "a", "title": "", "caption": "", "bars": {}}]},
    ],
)
def test_notes_that_are_none_are_told(
    tmp_path: Path, notes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    content = start(tmp_path).as_dict() | {"notes": notes}
    (tmp_path / RECORD).write_text(json.dumps(content))
    assert read_record(tmp_path) is None
    assert "notes" in caplog.text or "of a: " in caplog.text


def test_shares_that_are_measured_again_replace_those_of_their_name() -> None:
    old, new, other = (
        Shares(name, "share", "", {"all": {"in": part, "out": 1 - part}})
        for name, part in (("a", 0.1), ("a", 0.2), ("b", 0.3))
    )
    assert Notes(shares=(old,)).with_shares([other, new]).shares == (new, other)


def test_what_json_lacks_is_null_or_a_number(tmp_path: Path) -> None:
    record = start(tmp_path, overrides=OmegaConf.create(["a=1"]), data={"files": (Path("a"),)})
    best = {"nan": math.nan, "inf": np.float32(-np.inf), "half": np.float32(0.5), "n": np.int64(3)}
    record.finish("completed", value=math.inf, epoch=np.int64(2), best=best)  # type: ignore[arg-type]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads((tmp_path / RECORD).read_text(), parse_constant=refuse)
    assert content["best"] == {"nan": None, "inf": None, "half": 0.5, "n": 3}
    assert content["objective"]["value"] is None
    assert content["objective"]["epoch"] == 2
    assert content["overrides"] == ["a=1"]
    assert content["data"] == {"files": ["a"]}


def test_what_a_record_cannot_hold_is_an_error_and_keeps_the_old_one(tmp_path: Path) -> None:
    record = start(tmp_path)
    with pytest.raises(TypeError, match="object"):
        record.finish("completed", cost={"thing": object()})
    read = read_record(tmp_path)
    assert read is not None
    assert read.status == "running"


def test_a_crash_while_writing_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = start(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"record\.json: No space left.*\n.*same command continues"):
        record.finish("completed")
    read = read_record(tmp_path)
    assert read is not None
    assert read.status == "running"
    assert os.listdir(tmp_path) == [RECORD]


def test_a_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        start(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        start(tmp_path / "file" / "run")


def test_interrupted_runs_deserve_another_go(tmp_path: Path) -> None:
    assert frozenset({"completed", "failed", "out_of_memory", "diverged"}) == FINAL
    record = start(tmp_path)
    record.finish("interrupted", error="stopped")
    assert not record.is_final
    with pytest.raises(ValueError, match="running"):
        record.finish("running")


def test_no_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "nowhere") is None
    assert read_record(tmp_path / "file") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ('{"schema": 1, "stat', "EOF while parsing a string"),
        ("[" * 100_000, "recursion"),
        ("[]", "should be an object"),
        ('{"schema": 2, "status": "completed"}', "schema: Input should be 1"),
        ('{"schema": 1, "status": "fine"}', "status: Input should be 'completed', 'failed'"),
        ('{"schema": 1, "status": ["completed"]}', "status: Input should be"),
        ('{"schema": 1, "status": "completed"}', "error: Field required"),
        ("\udcff", "Invalid JSON"),
    ],
)
def test_a_damaged_record_is_none_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, reason: str
) -> None:
    (tmp_path / RECORD).write_bytes(content.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING):
        assert read_record(tmp_path) is None
    assert reason in caplog.text
    assert str(tmp_path / RECORD) in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("best", None, "best: Input should be an object"),
        ("overrides", "seed=3", "overrides: Input should be a valid array"),
        ("best", {"val/mIoU": "0.5"}, "best.val/mIoU: Input should be a valid number"),
        ("best", {"val/mIoU": True}, "best.val/mIoU: Input should be a valid number"),
        ("seed", "1", "seed: Input should be a valid integer"),
        ("objective", {"metric": "val/mIoU"}, "objective.mode: Field required"),
    ],
)
def test_a_record_with_a_wrong_field_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, value: object, reason: str
) -> None:
    content = start(tmp_path).as_dict()
    (tmp_path / RECORD).write_text(json.dumps(content | {key: value}))
    assert read_record(tmp_path) is None
    assert reason in caplog.text


NADAM = "torch.optim.NAdam"
CONFIG: dict[str, Any] = {
    "seed": 0,
    "test": "auto",
    "logger": "none",
    "task": {"name": "multitask", "schema": "multitask.schema.MultitaskConfig"},
    "data": {"root": None, "image_size": 96, "cache_dir": "cache", "ram_limit_mb": 4096},
    "model": {"pretrained": False, "backbone": "resnet18"},
    "optimizer": {"lr": 0.001},
    "trainer": {"limit_train_batches": 1.0, "enable_progress_bar": True},
    "figures": {"images": 4},
}


def changed(**values: Any) -> str:
    config = OmegaConf.create(CONFIG)
    for key, value in values.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    return fingerprint(config)


def test_fingerprint_is_of_the_plain_config_in_any_order() -> None:
    plain = fingerprint(CONFIG)
    assert len(plain) == 16
    assert int(plain, 16) >= 0
    assert plain == fingerprint(OmegaConf.create(CONFIG))
    assert plain == fingerprint(dict(reversed(CONFIG.items())))
    assert plain == changed(optimizer__lr=float("1e-3"))
    assert plain != changed(optimizer__lr=0.002)
    assert CONFIG["data"]["root"] is None
    assert "root" in CONFIG["data"]


def test_fingerprint_resolves_interpolations() -> None:
    assert changed(optimizer__lr="${other}", other=0.001) == changed(other=0.001)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hydra", {"job": {"num": "???"}, "x": "${hydra:job.num}"}),
        ("study", {"phases": {"a": "seed=0,1"}}),
        ("logger", "wandb"),
        ("test", True),
        ("figures__images", 0),
        ("data__root", "elsewhere"),
        ("data__cache_dir", "elsewhere"),
        ("data__ram_limit_mb", 1),
        ("trainer__enable_progress_bar", False),
        ("task__schema", "other.Schema"),
    ],
)
def test_fingerprint_leaves_out_paths_and_logging(key: str, value: object) -> None:
    assert changed(**{key: value}) == fingerprint(CONFIG)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("task__name", "reid"),
        ("data__image_size", 64),
        ("trainer__limit_train_batches", 1),  # one batch; 1.0 is all of them
        ("model__pretrained", True),
        ("new", None),
    ],
)
def test_fingerprint_tells_the_rest_apart(key: str, value: object) -> None:
    assert changed(**{key: value}) != fingerprint(CONFIG)


def test_fingerprint_does_without_the_keys_it_leaves_out() -> None:
    assert fingerprint({"seed": 0}) == fingerprint({"seed": 0, "figures": None})
    assert fingerprint({"seed": 0, "trainer": None}) != fingerprint({"seed": 0})


def test_weights_count_by_content(tmp_path: Path) -> None:
    here, there, other = tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "c.pt"
    here.write_bytes(b"weights")
    shutil.copy(here, there)
    other.write_bytes(b"other weights")
    marks = [changed(model__pretrained=str(path)) for path in (here, there, other)]
    assert marks[0] == marks[1] != marks[2]
    config = CONFIG | {"model": CONFIG["model"] | {"pretrained": str(here)}}
    by_hand = {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in {"logger", "figures", "test"}
    }
    by_hand["model"]["pretrained"] = {"sha256": hashlib.sha256(b"weights").hexdigest()}
    by_hand["data"] = {"image_size": 96}
    by_hand["task"] = {"name": "multitask"}
    by_hand["trainer"] = {"limit_train_batches": 1.0}
    text = json.dumps(by_hand, sort_keys=True)
    assert marks[0] == hashlib.sha256(text.encode()).hexdigest()[:16]
    absent = [changed(model__pretrained=str(tmp_path / name)) for name in ("x", "y")]
    assert absent[0] != absent[1]


def test_a_file_of_weights_counts_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    marks = []
    for content in (b"weights", b"other weights"):
        Path("weights").write_bytes(content)
        marks.append(changed(model__pretrained="weights"))
    assert marks[0] != marks[1]


def test_weights_are_read_again_only_when_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = hashlib.file_digest

    def digest(file: Any, name: str) -> Any:
        read.append(file.name)
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    os.utime(path, ns=(0, 10**18))
    marks = [changed(model__pretrained=str(path)) for _ in range(3)]
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(0, 10**18 + 1))
    marks += [changed(model__pretrained=str(path)) for _ in range(3)]
    path.write_bytes(b"more weights")
    os.utime(path, ns=(0, 10**18 + 1))
    marks += [changed(model__pretrained=str(path)) for _ in range(3)]
    assert marks == [marks[0]] * 3 + [marks[3]] * 3 + [marks[6]] * 3
    assert len(set(marks)) == len(read) == 3


def test_environment_names_versions_and_nothing_of_this_machine() -> None:
    found = environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"].split(".")[0].isdigit()
    assert {"omegaconf", "hydra-core", "git", "machine"} <= found.keys()
    text = json.dumps(found)
    assert str(ROOT) not in text
    assert os.uname().nodename not in text


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "phasewise.records.record, phasewise.study.table",
            {"torch", "lightning", "pandas", "pydantic"},
        ),
        (
            "phasewise.study.sweeper",
            {"torch", "lightning", "pandas"},
        ),  # it checks configs, with pydantic
    ],
)
def test_nothing_heavy_is_imported(modules: str, heavy: set[str]) -> None:
    code = (
        f"import {modules}, phasewise.records.record, sys; phasewise.records.record.environment();"
    )
    code += f"print(sorted({heavy!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True).strip() == "[]"


def test_unknown_keys_of_others_are_no_obstacle(tmp_path: Path) -> None:
    content = start(tmp_path).as_dict()
    content["objective"] |= {"unit": "%", "value": 3}
    content["cost"] |= {"epochs": 2, "fast_dev_run": True}
    (tmp_path / RECORD).write_text(json.dumps(content | {"tool": "mine"}))
    read = read_record(tmp_path)
    assert read is not None
    assert read.objective["unit"] == "%"
    assert [type(read.objective["value"]), read.cost["fast_dev_run"]] == [int, True]


def test_git_commit(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*words: str) -> str:
        user = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", *user, *words]
        return subprocess.check_output(command, cwd=tmp_path, text=True, stderr=subprocess.DEVNULL)

    assert git_commit(tmp_path) is None
    git("init")
    assert git_commit(tmp_path) is None
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "a tag must not replace the commit")
    full = git("rev-parse", "HEAD").strip()
    assert git_commit(tmp_path) == full[:12]
    (tmp_path / "untracked").touch()
    assert git_commit(tmp_path) == full[:12]
    (tmp_path / "file").write_text("b")
    assert git_commit(tmp_path) == f"{full[:12]}-dirty"
    (tmp_path / "inner").mkdir()
    assert git_commit(tmp_path / "inner") is None


def test_a_trials_part_in_a_study_and_records_of_before(tmp_path: Path) -> None:
    part = {"name": "demo", "places": [{"phase": "lr", "number": 1, "role": "candidate"}]}
    start(tmp_path, study=part)
    record = read_record(tmp_path)
    assert record is not None and record.study == part
    content = json.loads((tmp_path / RECORD).read_text())
    del content["study"]
    (tmp_path / RECORD).write_text(json.dumps(content))
    record = read_record(tmp_path)
    assert record is not None and record.study == {}


def test_code_of_own_parts_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package, alone = tmp_path / "ownparts" / "heads.py", tmp_path / "ownpart.py"
    package.parent.mkdir()
    config = CONFIG | {"model": {"head": {"_target_": "ownparts.heads.Head"}}}
    config |= {"loss": {"name": {"_target_": "ownpart.Loss"}}, "optimizer": {"_target_": NADAM}}
    marks = []
    for texts in (("one", "one"), ("second", "one"), ("one", "second"), ("one", "one")):
        for file, text in zip((package, alone), texts, strict=True):
            file.write_text(text)
        marks.append(fingerprint(config))
    assert marks[0] == marks[3]
    assert len(set(marks)) == 3
    code = {it.key: it.path for it in named_files(config) if it.is_code}
    assert code == {"model.head": str(package), "loss.name": str(alone)}
