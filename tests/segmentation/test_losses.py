from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor

from segmentation.losses import TERMS, SegmentationLoss, loss_diagram

NAMES = tuple(TERMS)
OVERLAP = ("dice", "tversky")
DEFAULTS = {
    "dice_weight": 0.7,
    "schedule_epochs": 0,
    "pos_alpha": 0.25,
    "gamma": 2.0,
    "fp_weight": 0.3,
    "fn_weight": 0.7,
    "smooth": 1.0,
    "reduce": "batch",
}


def make(name: str, **settings: Any) -> SegmentationLoss:
    return SegmentationLoss(name, **{**DEFAULTS, **settings})


def only(terms: dict[str, Tensor]) -> Tensor:
    """The value of a loss of one term."""
    (value,) = terms.values()
    return value


def total(loss: SegmentationLoss, logits: Tensor, mask: Tensor) -> Tensor:
    weights = loss.weights()
    return torch.stack([weights[k] * v for k, v in loss(logits, mask).items()]).sum()


def gradients(loss: SegmentationLoss, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    leaf = logits.clone().requires_grad_()
    terms = loss(leaf, mask)
    return {
        name: torch.autograd.grad(value, leaf, retain_graph=True)[0]
        for name, value in terms.items()
    }


def random_batch(seed: int = 0, void: float = 0.2, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, 6, 6, generator=generator)
    mask = (torch.rand(batch, 6, 6, generator=generator) < 0.3).to(torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < void] = 255
    return logits, mask


def logit(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).view(1, 2, 2).logit()


# Foreground .9 and .6, background .2, and a void pixel that is all wrong.
HAND_LOGITS = logit(0.9, 0.6, 0.2, 0.999)
HAND_MASK = torch.tensor([[[1, 1], [0, 255]]], dtype=torch.uint8)


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", ["batch", "image"])
def test_dice_by_hand(reduce: str) -> None:
    # I = 1.5, sum of p = 1.7, foreground = 2.
    for smooth in (0.01, 1.0, 5.0):
        value = only(make("dice", smooth=smooth, reduce=reduce)(HAND_LOGITS, HAND_MASK))
        assert value.item() == pytest.approx(1 - (3 + smooth) / (3.7 + smooth), rel=1e-5)


@pytest.mark.parametrize("reduce", ["batch", "image"])
def test_tversky_by_hand(reduce: str) -> None:
    # I = 1.5, FP = .2, FN = .1 + .4; weights and smooth of the classic form are halved.
    value = only(make("tversky", smooth=1.0, reduce=reduce)(HAND_LOGITS, HAND_MASK))
    expected = 1 - (1.5 + 0.5) / (1.5 + 0.3 * 0.2 + 0.7 * 0.5 + 0.5)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_fn_weight_punishes_misses_and_fp_weight_false_alarms() -> None:
    mask = torch.tensor([[[1, 1], [0, 0]]])
    missing, alarming = logit(0.9, 0.1, 0.1, 0.1), logit(0.9, 0.9, 0.9, 0.1)
    recall = make("tversky", fp_weight=0.3, fn_weight=0.7)
    precise = make("tversky", fp_weight=0.7, fn_weight=0.3)
    assert only(recall(missing, mask)) > only(precise(missing, mask)) + 0.05
    assert only(recall(alarming, mask)) < only(precise(alarming, mask)) - 0.05


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_by_hand(gamma: float) -> None:
    parts = [
        0.25 * 0.1**gamma * -math.log(0.9),
        0.25 * 0.4**gamma * -math.log(0.6),
        0.75 * 0.2**gamma * -math.log(0.8),
    ]
    value = only(make("focal", gamma=gamma)(HAND_LOGITS, HAND_MASK))
    assert value.item() == pytest.approx(sum(parts) / 3, rel=1e-5)


def test_pos_alpha_weighs_the_foreground() -> None:
    foreground = torch.tensor([[[1, 255], [255, 255]]])
    background = torch.tensor([[[0, 255], [255, 255]]])
    loss = make("focal", pos_alpha=0.9, gamma=0.0)
    logits = logit(0.5, 0.5, 0.5, 0.5)
    assert only(loss(logits, foreground)).item() == pytest.approx(0.9 * math.log(2))
    assert only(loss(logits, background)).item() == pytest.approx(0.1 * math.log(2))


def test_bce_by_hand() -> None:
    expected = -(math.log(0.9) + math.log(0.6) + math.log(0.8)) / 3
    assert only(make("bce")(HAND_LOGITS, HAND_MASK)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["combined", "dice_bce"])
def test_pairs_hold_the_terms_that_they_name(name: str) -> None:
    logits, mask = random_batch()
    loss = make(name)
    second = {"combined": "focal", "dice_bce": "bce"}[name]
    assert loss.names == ("dice", second)
    terms = loss(logits, mask)
    assert tuple(terms) == loss.names
    for term in loss.names:
        assert terms[term].shape == ()
        assert terms[term].item() == only(make(term)(logits, mask)).item()
    expected = 0.7 * terms["dice"] + 0.3 * terms[second]
    assert total(loss, logits, mask).item() == pytest.approx(expected.item())


# --- SMP, where the definitions coincide ------------------------------------------------------
# smooth = 2 x SMP's, fp_weight = alpha, fn_weight = beta, pos_alpha = alpha of focal.


def assert_same(mine: Callable, theirs: Callable, logits: Tensor, mask: Tensor) -> None:
    """Values and gradients."""
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    values = [mine(leaves[0], mask), theirs(leaves[1], mask.long())]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
    got, want = (torch.autograd.grad(v, x)[0] for v, x in zip(values, leaves, strict=True))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smooth", [0.02, 1.0, 20.0])
def test_dice_equals_smp(seed: Any, smooth: float) -> None:
    loss = make("dice", smooth=smooth)
    reference = smp.DiceLoss("binary", smooth=smooth / 2, ignore_index=255)
    assert_same(
        lambda x, y: only(loss(x, y)), lambda x, y: reference(x[:, None], y), *random_batch(seed)
    )


@pytest.mark.parametrize(("fp", "fn"), [(0.3, 0.7), (0.7, 0.3), (0.5, 0.5), (1.0, 1.0), (2.0, 0)])
def test_tversky_equals_smp(fp: float, fn: float) -> None:
    loss = make("tversky", fp_weight=fp, fn_weight=fn, smooth=3.0)
    reference = smp.TverskyLoss("binary", alpha=fp, beta=fn, smooth=1.5, ignore_index=255)
    assert_same(
        lambda x, y: only(loss(x, y)), lambda x, y: reference(x[:, None], y), *random_batch()
    )


def test_dice_is_tversky_of_two_halves() -> None:
    logits, mask = random_batch()
    for reduce in ("batch", "image"):
        halves = make("tversky", fp_weight=0.5, fn_weight=0.5, smooth=7.0, reduce=reduce)
        dice = make("dice", smooth=7.0, reduce=reduce)
        assert only(halves(logits, mask)).item() == pytest.approx(only(dice(logits, mask)).item())


@pytest.mark.parametrize("gamma", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.8, 1.0])
def test_focal_equals_smp(alpha: float, gamma: float) -> None:
    loss = make("focal", pos_alpha=alpha, gamma=gamma)
    reference = smp.FocalLoss("binary", alpha=alpha, gamma=gamma, ignore_index=255)
    assert_same(lambda x, y: only(loss(x, y)), reference, *random_batch())


def test_bce_equals_smp() -> None:
    """Whose mean is over all pixels, void included."""
    logits, mask = random_batch()
    reference = smp.SoftBCEWithLogitsLoss(ignore_index=255)
    share = (mask != 255).float().mean()
    loss = make("bce")
    assert_same(
        lambda x, y: only(loss(x, y)), lambda x, y: reference(x, y.float()) / share, logits, mask
    )
    _, full = random_batch(void=0.0)
    assert_same(lambda x, y: only(loss(x, y)), lambda x, y: reference(x, y.float()), logits, full)


# --- gradients --------------------------------------------------------------------------------


def reference(name: str, logits: np.ndarray, mask: np.ndarray, reduce: str, gamma: float) -> float:
    """The definitions in float64, pixel by pixel."""
    p = 1 / (1 + np.exp(-logits))
    fp, fn = (0.5, 0.5) if name == "dice" else (0.3, 0.7)

    def ratio(p: Any, y: Any) -> Any:
        hits, alarms, misses = p[y == 1].sum(), p[y == 0].sum(), (1 - p[y == 1]).sum()
        return 1 - (2 * hits + 1) / (2 * hits + 2 * fp * alarms + 2 * fn * misses + 1)

    if name in OVERLAP:
        if reduce == "batch":
            return ratio(p, mask)
        return float(np.mean([ratio(a, b) for a, b in zip(p, mask, strict=True)]))
    q, y = np.where(mask == 1, p, 1 - p)[mask != 255], mask[mask != 255]
    if name == "bce":
        return -np.log(q).mean()
    return (np.where(y == 1, 0.25, 0.75) * (1 - q) ** gamma * -np.log(q)).mean()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {"reduce": reduce}) for name in OVERLAP for reduce in ("batch", "image")),
        *(("focal", {"gamma": gamma}) for gamma in (0.0, 0.3, 1.0, 2.0)),
        ("bce", {}),
    ],
)
def test_gradients_equal_finite_differences(name: Any, settings: Any) -> None:
    logits, mask = random_batch()
    loss = make(name, **settings)
    found = gradients(loss, logits, mask)[name]
    values, labels, step = logits.double().numpy(), mask.numpy(), 1e-5
    arguments = (labels, loss.reduce, loss.gamma)
    assert only(loss(logits, mask)).item() == pytest.approx(reference(name, values, *arguments))
    expected = np.zeros_like(values)
    for at in np.ndindex(values.shape):
        shift = np.zeros_like(values)
        shift[at] = step
        up, down = (reference(name, values + s, *arguments) for s in (shift, -shift))
        expected[at] = (up - down) / (2 * step)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-7)
    assert (found[mask == 255] == 0).all()
    assert (found[mask != 255] != 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_are_finite(name: Any, gamma: float) -> None:
    logits = torch.tensor([1e4, -1e4, 100.0, -100.0, 20.0, 0.0]).repeat(2, 6, 1)
    mask = torch.zeros(2, 6, 6, dtype=torch.uint8)
    mask[0, :3] = 1
    for reduce in ("batch", "image"):
        loss = make(name, gamma=gamma, reduce=reduce)
        for value in loss(logits, mask).values():
            assert value.isfinite()
        for gradient in gradients(loss, logits, mask).values():
            assert gradient.isfinite().all()
            assert gradient.abs().sum() > 0


def test_a_confident_mistake_is_still_corrected() -> None:
    """Far from the truth, cross-entropy and focal loss keep a gradient; 1e4 is not clipped."""
    logits, mask = torch.full((1, 2, 2), -1e4), torch.ones(1, 2, 2, dtype=torch.uint8)
    assert only(make("bce")(logits, mask)).item() == 1e4
    assert only(make("focal", gamma=0.5)(logits, mask)).item() == pytest.approx(2500)
    for name, slope in (("bce", -0.25), ("focal", -0.25 / 4)):
        assert gradients(make(name), logits, mask)[name].flatten().tolist() == [slope] * 4


# --- perfect, empty, full ---------------------------------------------------------------------


@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_perfect_predictions_cost_nothing(name: Any, reduce: str) -> None:
    _, mask = random_batch()
    mask[1][mask[1] == 1] = 0  # an image without foreground, rightly left empty
    logits = 60.0 * (2.0 * (mask == 1) - 1)
    for value in make(name, reduce=reduce)(logits, mask).values():
        assert 0 <= value.item() < 1e-6


@pytest.mark.parametrize("smooth", [0.1, 1.0, 50.0])
def test_nothing_found(smooth: float) -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.uint8)
    mask[0, :2] = 1
    logits = torch.full((1, 10, 10), -80.0)
    dice = only(make("dice", smooth=smooth)(logits, mask))
    assert dice.item() == pytest.approx(1 - smooth / (20 + smooth))
    tversky = only(make("tversky", smooth=smooth)(logits, mask))
    assert tversky.item() == pytest.approx(1 - smooth / (2 * 0.7 * 20 + smooth))


def test_everything_called_foreground() -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.uint8)
    mask[0, :2] = 1
    logits = torch.full((1, 10, 10), 80.0)
    assert only(make("dice")(logits, mask)).item() == pytest.approx(1 - 41 / 121)
    tversky = only(make("tversky")(logits, mask))
    assert tversky.item() == pytest.approx(1 - 41 / (40 + 2 * 0.3 * 80 + 1))
    assert only(make("bce")(logits, mask)).item() == pytest.approx(0.8 * 80)
    assert only(make("focal")(logits, mask)).item() == pytest.approx(0.75 * 0.8 * 80)


@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("smooth", [0.5, 1.0, 10.0])
def test_an_empty_mask_costs_what_is_found_in_it(smooth: float, reduce: str) -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, 0] = 255
    logits = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = logits[mask == 0].sigmoid().sum().item()
    settings = {"smooth": smooth, "reduce": reduce}
    dice = only(make("dice", **settings)(logits, mask))
    assert dice.item() == pytest.approx(1 - smooth / (found + smooth))
    tversky = only(make("tversky", **settings)(logits, mask))
    assert tversky.item() == pytest.approx(1 - smooth / (2 * 0.3 * found + smooth))
    free = only(make("tversky", fp_weight=0.0, **settings)(logits, mask))
    assert free.item() == 0


@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_false_positives_on_empty_masks_are_punished(name: Any, reduce: str) -> None:
    logits, mask = random_batch()
    mask[mask == 1] = 0
    loss = make(name, reduce=reduce)
    assert all(value > 0 for value in loss(logits, mask).values())
    for gradient in gradients(loss, logits, mask).values():
        assert gradient.isfinite().all()
        assert (gradient[mask == 0] > 0).all()
        assert (gradient[mask == 255] == 0).all()


def test_smp_leaves_them_unpunished() -> None:
    """What the behaviour above differs from; if SMP changes, its docstring should too."""
    logits, mask = random_batch(void=0.0)
    leaf = logits.clone().requires_grad_()
    value = smp.DiceLoss("binary", smooth=0.5)(leaf[:, None], torch.zeros_like(mask).long())
    assert value.item() == 0
    assert (torch.autograd.grad(value, leaf)[0] == 0).all()


# --- void -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [7.0, 1e4, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_void_pixels_change_nothing(name: Any, bad: Any) -> None:
    logits, mask = random_batch(void=0.4)
    changed = logits.where(mask != 255, bad)
    for reduce in ("batch", "image"):
        loss = make(name, reduce=reduce)
        before, after = loss(logits, mask), loss(changed, mask)
        assert {k: v.item() for k, v in before.items()} == {k: v.item() for k, v in after.items()}
        for gradient in gradients(loss, changed, mask).values():
            assert gradient.isfinite().all()
            assert (gradient[mask == 255] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_void_equals_removal(name: Any) -> None:
    logits, mask = random_batch(void=0.0)
    cut = mask.clone()
    cut[:, :, 4:] = 255
    for reduce in ("batch", "image"):
        loss = make(name, reduce=reduce)
        removed = loss(logits[:, :, :4], mask[:, :, :4])
        for term, value in loss(logits, cut).items():
            assert value.item() == pytest.approx(removed[term].item(), rel=1e-6), (term, reduce)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_void_only_are_left_out(name: Any) -> None:
    logits, mask = random_batch()
    mask[1] = 255
    for reduce in ("batch", "image"):
        loss = make(name, reduce=reduce)
        rest = loss(logits[[0, 2]], mask[[0, 2]])
        for term, value in loss(logits, mask).items():
            assert value.item() == pytest.approx(rest[term].item(), rel=1e-6), (term, reduce)


@pytest.mark.parametrize("batch", [3, 0])
@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_labelled_is_zero_with_zero_gradients(name: Any, reduce: str, batch: int) -> None:
    logits, mask = random_batch(batch=batch)
    loss = make(name, reduce=reduce)
    for value in loss(logits, torch.full_like(mask, 255)).values():
        assert value.item() == 0
    for gradient in gradients(loss, logits, torch.full_like(mask, 255)).values():
        assert gradient.shape == logits.shape
        assert (gradient == 0).all()


# --- reduction --------------------------------------------------------------------------------


def test_reductions_of_an_unbalanced_batch() -> None:
    """One image full of foreground and found, one with a single pixel that is missed."""
    mask = torch.zeros(2, 10, 10, dtype=torch.uint8)
    mask[0] = 1
    mask[1, 0, 0] = 1
    logits = torch.full((2, 10, 10), -80.0)
    logits[0] = 80.0
    by_batch = only(make("dice", smooth=1e-3)(logits, mask))
    by_image = only(make("dice", smooth=1e-3, reduce="image")(logits, mask))
    assert by_batch.item() == pytest.approx(1 - 200 / 201, rel=1e-3)
    assert by_image.item() == pytest.approx((0 + 1) / 2, rel=2e-3)


@pytest.mark.parametrize("name", OVERLAP)
def test_the_image_reduction_is_the_mean_of_images_alone(name: Any) -> None:
    logits, mask = random_batch()
    alone = [only(make(name)(x[None], y[None])).item() for x, y in zip(logits, mask, strict=True)]
    both = [only(make(name, reduce=r)(logits, mask)).item() for r in ("image", "batch")]
    assert both[0] == pytest.approx(sum(alone) / 3)
    assert both[1] != pytest.approx(both[0], rel=1e-2)


@pytest.mark.parametrize("name", ["focal", "bce"])
def test_pixel_losses_have_one_reduction(name: str) -> None:
    logits, mask = random_batch()
    values = [only(make(name, reduce=r)(logits, mask)).item() for r in ("image", "batch")]
    assert values[0] == values[1]


# --- precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("foreground", [0.0, 0.12, 1.0])
def test_half_precision_at_full_size(dtype: Any, foreground: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 512, 512, generator=generator).to(dtype).requires_grad_()
    mask = (torch.rand(8, 512, 512, generator=generator) < foreground).to(torch.uint8)
    loss = make("combined")
    terms = loss(logits, mask)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
    (gradient,) = torch.autograd.grad(sum(terms.values()), logits)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: Any, dtype: Any) -> None:
    logits, mask = random_batch()
    logits = logits.to(dtype)
    loss = make(name)
    with torch.autocast("cpu", dtype):
        half = loss(logits, mask)
    for term, value in loss(logits.float(), mask).items():
        assert half[term].dtype == torch.float32
        assert half[term].item() == value.item()


def test_near_perfect_predictions_keep_their_differences() -> None:
    """1 - ratio in float32 would be rounded to multiples of 6e-8."""
    mask = torch.ones(1, 64, 64, dtype=torch.uint8)
    logits = torch.full((1, 64, 64), 20.0)
    missed = 4096 / (1 + math.exp(20))
    value = only(make("dice")(logits, mask))
    assert value.item() == pytest.approx(missed / (2 * 4096 - missed + 1), rel=1e-4)


# --- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["combined", "dice_bce"])
def test_weights_move_from_one_half(name: str) -> None:
    loss = make(name, schedule_epochs=30)
    second = loss.names[1]
    for epoch, share in [(0, 0.5), (15, 0.6), (29, 0.5 + 0.2 * 29 / 30), (30, 0.7), (100, 0.7)]:
        expected = {"dice": share, second: 1 - share}
        assert loss.weights(epoch) == pytest.approx(expected), epoch
    assert loss.weights() == pytest.approx({"dice": 0.7, second: 0.3})


def test_without_a_schedule_the_weights_are_final() -> None:
    loss = make("combined", dice_weight=0.2)
    for epoch in (0, 1, 50, None):
        assert loss.weights(epoch) == pytest.approx({"dice": 0.2, "focal": 0.8})


@pytest.mark.parametrize("name", ["dice", "focal", "bce", "tversky"])
def test_a_single_term_has_all_the_weight(name: str) -> None:
    for epoch in (0, 10, None):
        assert make(name, schedule_epochs=30).weights(epoch) == {name: 1.0}


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lovasz"}, "loss must be one of dice, focal, .* got 'lovasz'"),
        ({"reduce": "mean"}, "reduce must be one of batch, image, got 'mean'"),
        ({"dice_weight": 1.1}, r"dice_weight must be in \[0, 1\], got 1.1"),
        ({"dice_weight": -0.1}, "dice_weight"),
        ({"schedule_epochs": -1}, "schedule_epochs"),
        ({"pos_alpha": 2.0}, "pos_alpha"),
        ({"gamma": -1.0}, "gamma must be >= 0"),
        ({"gamma": math.inf}, "gamma"),
        ({"fp_weight": -1.0}, "fp_weight"),
        ({"fn_weight": math.nan}, "fn_weight"),
        ({"fp_weight": 0.0, "fn_weight": 0.0, "name": "tversky"}, "fp_weight or fn_weight"),
        ({"smooth": 0.0}, "smooth"),
        ({"smooth": -1.0}, "smooth"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"name": "dice", **settings})


def test_shapes_that_would_broadcast_are_refused() -> None:
    logits, mask = random_batch()
    with pytest.raises(ValueError, match="same shape"):
        make("dice")(logits[:, None], mask)


FORMULAE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dice": lambda p: (1 - p) / (1 + p),
    "tversky": lambda p: 0.8 * (1 - p) / (p + 0.8 * (1 - p)),
    "focal": lambda p: -0.3 * (1 - p) ** 1.5 * np.log(p),
    "bce": lambda p: -np.log(p),
}
FORMULAE["combined"] = lambda p: 0.6 * FORMULAE["dice"](p) + 0.4 * FORMULAE["focal"](p)
FORMULAE["dice_bce"] = lambda p: 0.6 * FORMULAE["dice"](p) + 0.4 * FORMULAE["bce"](p)
LABELS = {
    "tversky": "tversky fn_weight 0.8",
    "focal": "focal pos_alpha 0.3 gamma 1.5",
    "combined": "combined dice_weight 0.6 pos_alpha 0.3 gamma 1.5",
    "dice_bce": "dice_bce dice_weight 0.6",
}


@pytest.mark.parametrize("name", TERMS)
def test_diagram_against_closed_forms(name: str) -> None:
    """All foreground pixels have the probability p, the background is right, no smoothing."""
    settings = {"pos_alpha": 0.3, "gamma": 1.5, "fn_weight": 0.8, "dice_weight": 0.6}
    loss = SegmentationLoss(
        name, schedule_epochs=3, fp_weight=0.3, smooth=1e-6, reduce="batch", **settings
    )
    diagram = loss_diagram(loss)
    p, value, slope, *focus = map(np.array, diagram.curves.values())
    assert diagram.label == LABELS.get(name, name)
    assert value == pytest.approx(FORMULAE[name](p), rel=1e-3)
    numeric = (FORMULAE[name](p + 1e-5) - FORMULAE[name](p - 1e-5)) / 2e-5
    assert slope == pytest.approx(np.abs(numeric), rel=1e-3)
    assert len(focus) == ("focal" in loss.names)
    for factor in focus:
        assert factor == pytest.approx((1 - p) ** 1.5, rel=1e-3)


@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_whether_a_loss_depends_on_the_size_of_batches(name: str, reduce: str) -> None:
    logits, mask = random_batch(void=0, batch=4)
    loss = make(name, reduce=reduce)
    whole = total(loss, logits, mask)
    parts = [total(loss, logits[i : i + 1], mask[i : i + 1]) for i in range(4)]
    differs = not torch.allclose(whole, torch.stack(parts).mean(), rtol=1e-6)
    assert loss.is_of_batches == differs == (reduce == "batch" and name not in ("focal", "bce"))


@pytest.mark.parametrize("reduce", ["batch", "image"])
@pytest.mark.parametrize("name", ["dice", "tversky", "combined"])
@pytest.mark.parametrize("extent", [0.0, 1.0, 20.0, 200.0])
def test_the_published_smoothing_is_safe(extent: float, name: str, reduce: str) -> None:
    """1e-6 vanishes beside a pixel in float32; where there is none it is all that is left."""
    loss = make(name, smooth=1e-6, reduce=reduce)
    logits, mask = random_batch(void=0.0)
    mask[0] = 0  # no bead in one image, in the second void alone
    mask[1] = 255
    for sign in (-1, 1):
        for masks in (mask, torch.zeros_like(mask), torch.full_like(mask, 255)):
            found = sign * extent * (logits.abs() + 1)
            assert 0 <= total(loss, found, masks).item() < math.inf
            slopes = gradients(loss, found, masks)
            assert all(slope.isfinite().all() for slope in slopes.values())
    assert only(make("dice", smooth=1e-6)(logits, mask)).item() == pytest.approx(
        only(make("dice", smooth=1e-12)(logits, mask)).item(), rel=1e-5
    )
