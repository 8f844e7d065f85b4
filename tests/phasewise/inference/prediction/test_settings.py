"""What may be typed after ``predict.py``, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.inference.prediction.settings import PredictionSettings as Settings

NEEDED = ["checkpoint=a", "source=b"]


def refused(*words: str) -> str:
    with pytest.raises(UserError) as error:
        Settings.parse(words)
    return str(error.value)


def test_paths_are_taken_as_they_are() -> None:
    settings, _ = Settings.parse(
        ["checkpoint=my run", "source=Über (1)/[a],b=c #1.jpg", "gallery=12"]
    )
    assert settings.checkpoint == ["my run"]
    assert settings.source == "Über (1)/[a],b=c #1.jpg"
    assert settings.gallery == "12"
    assert settings.model_fields_set == {"checkpoint", "source", "gallery"}


def test_values_have_types() -> None:
    words = ["tile=512", "overlap=64", "flip=true", "score=0.5", "on_bad=skip", "batch_size=2"]
    settings, _ = Settings.parse([*NEEDED, *words])
    assert (settings.tile, settings.overlap, settings.flip) == (512, 64, True)
    assert (settings.score, settings.on_bad, settings.batch_size) == (0.5, "skip", 2)


def test_several_checkpoints() -> None:
    assert Settings.parse(["checkpoint=[a, b/c ,d]", "source=x"])[0].checkpoint == [
        "a",
        "b/c",
        "d",
    ]


def test_a_file_with_brackets_is_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[a,b]").touch()
    assert Settings.parse(["checkpoint=[a,b]", "source=x"])[0].checkpoint == ["[a,b]"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("tile=0", "tile=0: must be a whole number >= 1 or null"),
        ("tile=big", "tile=big: must be a whole number >= 1 or null"),
        ("overlap=-1", "overlap=-1: must be a whole number >= 0 or null"),
        ("flip=1", "flip=1: must be true or false"),
        ("score=1.5", "score=1.5: must be a number in [0, 1)"),
        ("batch_size=0", "batch_size=0: must be a whole number >= 1"),
        ("on_bad=ignore", "on_bad=ignore: not one of error, skip"),
        ("pictures=jpeg", "pictures=jpeg: not one of jpg, png, none; did you mean jpg?"),
        ("accelerator=xyz", "accelerator=xyz: not one of auto, cpu, gpu, mps"),
        ("batchsize=2", "batchsize: no such key; did you mean batch_size?"),
        (
            "checkpoint=c",
            "checkpoint=c: checkpoint is given twice, first as checkpoint=a; leave one of them out",
        ),
        ("--flip", "--flip: no such flag; settings are KEY=VALUE, without dashes"),
        ("flip", "flip: a setting is KEY=VALUE; did you mean flip?"),
        ("output=", "output='': must be a text"),
    ],
)
def test_one_wrong_word_is_one_line(word: str, told: str) -> None:
    line, advice = refused(*NEEDED, word).split("\n")
    assert line == told
    assert "--help" in advice


def test_all_wrong_words_are_one_message() -> None:
    message = refused(*NEEDED, "tile=x", "flip=maybe")
    assert message.startswith("2 settings cannot be used:")
    assert "tile=x" in message
    assert "flip=maybe" in message


def test_what_must_be_given() -> None:
    assert refused("source=b").startswith("checkpoint: must be given: checkpoint=PATH")
    assert refused().startswith("2 settings cannot be used:")


def test_a_bare_path_is_probably_the_source(tmp_path: Path) -> None:
    assert f"did you mean source={tmp_path}?" in refused("checkpoint=a", str(tmp_path))


def test_overlap_is_smaller_than_the_tile() -> None:
    assert refused(*NEEDED, "tile=64", "overlap=64").startswith(
        "overlap=64: must be smaller than tile=64"
    )


def test_help_explains_every_key_with_its_default() -> None:
    lines = Settings.help_text().splitlines()
    for key, field in Settings.model_fields.items():
        (row,) = [i for i, line in enumerate(lines) if line.strip().startswith(f"{key}=")]
        shown = lines[row].strip().partition("=")[2]
        defaults = {None: "null", True: "true", False: "false"}
        if not field.is_required():
            default = field.default
            known = not isinstance(default, list) and default in defaults
            assert shown == (defaults[default] if known else str(default))
        assert field.description
        assert field.description.split()[0] in lines[row + 1]
