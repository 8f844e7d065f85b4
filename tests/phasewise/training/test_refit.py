"""``data.refit``: the validation samples train too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from phasewise.data.datamodule import StoreDataModule
from phasewise.data.joined import JoinedStore
from phasewise.data.store import Store
from phasewise.errors import UserError
from phasewise.training.run import train
from reid.data import ReidData
from tests.conftest import TINY
from tests.localization.conftest import TINY_ANIMALS
from tests.phasewise.training.directory import assert_same_run, record_of
from tests.reid.conftest import TINY_REID
from tests.segmentation.conftest import TINY_BEADS
from tests.voc_folder import VocFolder

Make = Callable[..., DictConfig]
REFIT = ("data.refit=true", "objective.keep=last")
CPU = torch.device("cpu")


def read(cfg: DictConfig) -> StoreDataModule:
    data: StoreDataModule = instantiate(cfg.data, seed=cfg.seed)
    data.setup()
    return data


def rows(data: StoreDataModule, split: str, order: Tensor | None = None) -> dict[str, Tensor]:
    index = torch.arange(len(data.splits.stores[split])) if order is None else order
    return {k: v for k, v in data.gather(split, index, CPU).items() if k != "index"}


@pytest.mark.parametrize(
    ("tiny", "counts"),
    [
        (TINY, {"train": 12, "val": 4, "test": 4}),
        (TINY_BEADS, {"train": 12, "val": 4, "test": 4}),
        (TINY_ANIMALS, {"train": 12, "val": 4, "test": 4}),
        # 10 identities of 3 x 2 images, of which 4 validate
        (TINY_REID, {"train": 60, "val": 36, "test": 36}),
    ],
    ids=["multitask", "segmentation", "localization", "reid"],
)
@pytest.mark.parametrize("ram", [4096, 0])
def test_training_sees_the_samples_of_both_splits(
    make_config: Make, tiny: tuple[str, ...], counts: dict[str, int], ram: int
) -> None:
    words = (*tiny, f"data.ram_limit_mb={ram}")
    apart, together = read(make_config(*words)), read(make_config(*words, *REFIT))
    assert together.summary().counts == counts
    assert together.summary().split_hash != apart.summary().split_hash
    (warning,) = together.splits.warnings
    assert warning.file == "refit=true"
    assert "seen in training" in warning.reason
    for split in ("val", "test"):
        assert together.splits.names[split] == apart.splits.names[split]
    one, other = rows(apart, "train"), rows(apart, "val")
    found = rows(together, "train")
    assert found.keys() == one.keys()
    if isinstance(together, ReidData):
        found["image"], _ = found["image"].sort(0)
        images = torch.cat([one["image"], other["image"][~other["is_query"]]])
        assert found["image"].equal(images.sort(0).values)
        assert found["label"].unique().tolist() == list(range(10))
        assert len(together.splits.class_names) == 10
    else:
        names = apart.splits.names
        assert together.splits.names["train"] == names["train"] + names["val"]
        for field, value in found.items():
            assert value.equal(torch.cat([one[field], other[field]])), field


def test_a_folder_whose_splits_have_different_numbers_of_objects(
    make_config: Make, tmp_path: Path
) -> None:
    voc = VocFolder(tmp_path / "voc")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    voc.write_xml("val-0", f"<object><name>cat</name>{box}</object>" * 3)
    words = ("data=voc", f"data.root={voc.root}", "data.image_size=32", *REFIT)
    data = read(make_config(*words, f"data.cache_dir={tmp_path / 'cache'}"))
    found = rows(data, "train")
    assert (found["labels"] > 0).sum(1).tolist() == [1, 1, 1, 1, 3, 1]
    assert found["boxes"].shape == (6, 3, 4)


def test_identities_of_validation_train_as_without_validation(
    make_config: Make, tmp_path: Path
) -> None:
    words = (*TINY_REID, "objective.keep=last", "trainer.max_epochs=2")
    train(make_config(*words, "data.validation=none"), tmp_path / "none")
    train(make_config(*words, "data.refit=true"), tmp_path / "refit")
    one, other = record_of(tmp_path / "none"), record_of(tmp_path / "refit")
    assert one.fingerprint != other.fingerprint
    assert (one.last, one.test) == (other.last, other.test)


@pytest.mark.slow
def test_a_refit_trains_from_the_disk_as_from_memory(make_config: Make, tmp_path: Path) -> None:
    words = (*TINY, *REFIT, "trainer.max_epochs=2", "data.augment=[flip]")
    train(make_config(*words), tmp_path / "memory")
    train(make_config(*words, "data.ram_limit_mb=0"), tmp_path / "disk")
    assert_same_run(tmp_path / "memory", tmp_path / "disk")
    record = record_of(tmp_path / "memory")
    assert record.data["counts"]["train"] == 12
    assert record.objective["epoch"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*TINY, "data.refit=true"), "data.refit=true: needs objective.keep=last"),
        (
            (*TINY, *REFIT, "early_stopping.patience=3"),
            "data.refit=true: needs early_stopping.patience=null",
        ),
        (
            (*TINY_REID, *REFIT, "data.validation=test"),
            "data.refit=true: has nothing to add with data.validation=test",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    make_config: Make, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_config(*words)
    assert told in str(caught.value)


def test_the_learning_rate_may_still_go_by_validation(make_config: Make) -> None:
    make_config(*TINY, *REFIT, "scheduler=plateau")


# The joined store


def test_a_joined_store_gives_what_a_single_one_would() -> None:
    generator = torch.Generator().manual_seed(0)
    first = Store({"a": torch.rand(5, 2, generator=generator), "b": torch.arange(5)})
    second = Store({"b": torch.arange(5, 8), "c": torch.zeros(3), "a": torch.rand(3, 2)})
    joined = JoinedStore(first, second)
    whole = Store({field: torch.cat([first[field], second[field]]) for field in ("a", "b")})
    assert (len(joined), list(joined.keys())) == (8, ["a", "b"])
    assert "a" in joined
    assert "c" not in joined
    assert (joined.nbytes, joined.device) == (whole.nbytes, whole.device)
    for index in ([7, 0, 5, 0, 4], [1, 2], [6], []):
        rows = torch.tensor(index, dtype=torch.int64)
        found, wanted = joined.gather(rows), whole.gather(rows)
        assert found.keys() == wanted.keys()
        assert all(found[field].equal(wanted[field]) for field in wanted)
        assert joined.gather(rows, ["b"]).keys() == {"b"}
    moved = joined.to("cpu")
    for field in ("a", "b"):
        assert joined[field].equal(whole[field])
        assert moved[field].equal(whole[field])
