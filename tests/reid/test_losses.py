from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from reid.losses import (
    METRICS,
    MININGS,
    SOFT,
    BatchHardTriplet,
    Euclidean,
    ReidLoss,
    positive_share,
)

NAMES = tuple(name for name in METRICS if name != "none")
CLASSES, DIM = 6, 8
DEFAULTS = {
    "id_weight": 0.0,
    "metric_weight": 1.0,
    "label_smoothing": 0.0,
    "margin": 0.3,
    "mining": "batch_hard",
}
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
"""Groups of 3, 2, 1 and 4: the sixth has no other positive."""


def make(metric: str, **settings: Any) -> ReidLoss:
    torch.manual_seed(0)  # the class vectors are drawn
    return ReidLoss(CLASSES, DIM, metric=metric, **{**DEFAULTS, **settings})


def metric_of(loss: ReidLoss, embeddings: Tensor, labels: Tensor = LABELS) -> Tensor:
    return loss(embeddings, None, labels)["metric"]


def random_embeddings(seed: int = 0, count: int = len(LABELS)) -> Tensor:
    """Of norms around 2, groups neither apart nor on top of each other."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    noise = torch.randn(count, DIM, generator=generator)
    return 0.6 * centres[LABELS[:count]] + 0.5 * noise


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value, leaf)[0]


# --- references: the definitions, anchor by anchor, in float64 --------------------------------

Sides = list[tuple[list[int], list[int]]]


def sides(labels: Tensor) -> Sides:
    """Positives and negatives of each anchor."""
    names = labels.tolist()
    return [
        (
            [j for j, other in enumerate(names) if other == name and j != i],
            [j for j, other in enumerate(names) if other != name],
        )
        for i, name in enumerate(names)
    ]


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.tensor(0.0, dtype=torch.float64)


def triplet(x: Tensor, labels: Tensor, margin: float | str, mining: str) -> Tensor:
    def distance(i: Any, j: Any) -> Any:
        return (x[i] - x[j]).square().sum().sqrt()

    def cost(d_ap: Any, d_an: Any) -> Any:
        if margin == "soft":
            return (1 + (d_ap - d_an).exp()).log()
        return (d_ap - d_an + margin).clamp_min(0)

    values = []
    for i, (positives, negatives) in enumerate(sides(labels)):
        d_ap, d_an = ([distance(i, j) for j in others] for others in (positives, negatives))
        if mining == "batch_hard" and d_ap and d_an:
            values.append(cost(max(d_ap), min(d_an)))
        elif mining == "all":
            values += [v for p in d_ap for n in d_an if (v := cost(p, n)) > 0]
        elif mining == "semi_hard":
            values += [cost(p, n) for p in d_ap for n in d_an if p < n <= p + margin]
    return mean(values)


def circle(s: Tensor, labels: Tensor) -> Tensor:
    m, gamma, values = 0.25, 128, []
    for i, (positives, negatives) in enumerate(sides(labels)):
        if positives and negatives:
            s_p, s_n = s[i, positives], s[i, negatives]
            pull = (-gamma * (1 + m - s_p).clamp_min(0) * (s_p - 1 + m)).exp().sum()
            push = (gamma * (s_n + m).clamp_min(0) * (s_n - m)).exp().sum()
            values.append((1 + pull * push).log())
    return mean(values)


def multi_similarity(s: Tensor, labels: Tensor) -> Tensor:
    values = []
    for i, (positives, negatives) in enumerate(sides(labels)):
        kept_p = [s[i, p] for p in positives if s[i, p] - 0.1 < s[i, negatives].max()]
        kept_n = [s[i, n] for n in negatives if positives and s[i, n] + 0.1 > s[i, positives].min()]
        pull = sum([(-2 * (v - 0.5)).exp() for v in kept_p], torch.tensor(1.0)).log() / 2
        push = sum([(50 * (v - 0.5)).exp() for v in kept_n], torch.tensor(1.0)).log() / 50
        values.append(pull + push)
    return mean(values)


def contrastive(s: Tensor, labels: Tensor) -> Tensor:
    distances = (2 - 2 * s).clamp_min(0).sqrt()
    pull = [distances[i, j] for i, (ps, _) in enumerate(sides(labels)) for j in ps]
    push = [
        1 - distances[i, j]
        for i, (_, ns) in enumerate(sides(labels))
        for j in ns
        if distances[i, j] < 1
    ]
    return mean(pull) + mean(push)


def supcon(s: Tensor, labels: Tensor) -> Tensor:
    values = []
    for i, (positives, negatives) in enumerate(sides(labels)):
        if positives:
            everyone = (s[i, positives + negatives] / 0.1).exp().sum()
            values.append(-mean([(s[i, p] / 0.1 - everyone.log()) for p in positives]))
    return mean(values)


def ntxent(s: Tensor, labels: Tensor) -> Tensor:
    values = []
    for i, (positives, negatives) in enumerate(sides(labels)):
        others = (s[i, negatives] / 0.07).exp().sum()
        values += [
            -((s[i, p] / 0.07).exp() / ((s[i, p] / 0.07).exp() + others)).log() for p in positives
        ]
    return mean(values)


PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": circle,
    "multi_similarity": multi_similarity,
    "contrastive": contrastive,
    "supcon": supcon,
    "ntxent": ntxent,
}


# --- triplet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("mining", "margin"),
    [
        *((mining, margin) for mining in MININGS for margin in (0.0, 0.3, 2.0)),
        *((mining, "soft") for mining in ("batch_hard", "all")),
    ],
)
def test_triplets_equal_brute_force(mining: Any, margin: Any, seed: Any) -> None:
    embeddings = random_embeddings(seed)
    leaf = embeddings.clone().requires_grad_()
    value = metric_of(make("triplet", mining=mining, margin=margin), leaf)
    exact = embeddings.double().requires_grad_()
    expected = triplet(exact, LABELS, margin, mining)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    if expected > 0:
        want = gradient(expected, exact).float()
        torch.testing.assert_close(gradient(value, leaf), want, rtol=1e-4, atol=1e-6)


def test_the_three_minings_and_the_margin_bite() -> None:
    embeddings = random_embeddings()
    for margin in (0.3, 0.5):
        values = {
            metric_of(make("triplet", mining=mining, margin=margin), embeddings).item()
            for mining in MININGS
        }
        assert len(values) == 3
    batch_hard = [
        metric_of(make("triplet", margin=m), embeddings).item() for m in (0.3, 0.5, "soft")
    ]
    assert len(set(batch_hard)) == 3


def test_batch_hard_by_hand() -> None:
    """Points on a line: 0 and 4 of one identity, 6 and 7 of another."""
    embeddings = torch.zeros(4, DIM)
    embeddings[:, 0] = torch.tensor([0.0, 4.0, 6.0, 7.0])
    labels = torch.tensor([0, 0, 1, 1])
    # d_ap - d_an: 4 - 6, 4 - 2, 1 - 2, 1 - 3.
    value = metric_of(make("triplet", margin=0.5), embeddings, labels)
    assert value.item() == pytest.approx((0 + 2.5 + 0 + 0) / 4)
    soft = metric_of(make("triplet", margin="soft"), embeddings, labels)
    expected = [math.log1p(math.exp(d)) for d in (-2, 2, -1, -2)]
    assert soft.item() == pytest.approx(sum(expected) / 4)
    # The library's default leaves out the anchors that cost nothing.
    distance = LpDistance(normalize_embeddings=False)
    mined = BatchHardMiner(distance=distance)(embeddings, labels)
    default = TripletMarginLoss(margin=0.5, distance=distance)(embeddings, labels, mined)
    assert default.item() == pytest.approx(2.5)


@pytest.mark.parametrize("margin", [0.3, SOFT])
def test_batch_hard_is_the_librarys_to_the_last_bit(margin: Any) -> None:
    """Where each anchor has a positive and a negative, as P x K batches do."""
    distance = Euclidean(normalize_embeddings=False)
    theirs = TripletMarginLoss(
        margin=0.0 if margin == SOFT else margin,
        smooth_loss=margin == SOFT,
        distance=distance,
        reducer=MeanReducer(),
    )
    ours, labels = BatchHardTriplet(margin), torch.arange(6).repeat_interleave(4)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        mine = torch.randn(24, DIM, generator=generator, requires_grad=True)
        other = mine.detach().clone().requires_grad_()
        value = ours(mine, labels)
        reference = theirs(other, labels, BatchHardMiner(distance=distance)(other, labels))
        assert torch.equal(value, reference)
        value.backward()
        reference.backward()
        assert torch.equal(mine.grad, other.grad)


def test_features_are_not_normalised() -> None:
    embeddings = random_embeddings()
    loss = make("triplet", margin=0.0)
    once, twice = metric_of(loss, embeddings), metric_of(loss, 2 * embeddings)
    assert twice.item() == pytest.approx(2 * once.item(), rel=1e-5)


def test_anchors_without_a_positive_are_left_out() -> None:
    """torchreid takes such an anchor for its own positive, at distance 0."""
    embeddings = torch.zeros(3, DIM)
    embeddings[:, 0] = torch.tensor([0.0, 1.0, 1.1])
    labels = torch.tensor([0, 0, 1])
    value = metric_of(make("triplet"), embeddings, labels)
    assert value.item() == pytest.approx(((1 - 1.1 + 0.3) + (1 - 0.1 + 0.3)) / 2, rel=1e-5)


def test_distances_are_exact_at_large_norms() -> None:
    """torch.cdist would be off by .02, and find an embedding .02 away from its own copy."""
    generator = torch.Generator().manual_seed(0)
    embeddings = 26 / DIM**0.5 + 0.01 * torch.randn(64, DIM, generator=generator)
    labels = torch.arange(16).repeat(4)
    value = metric_of(make("triplet"), embeddings, labels)
    expected = triplet(embeddings.double(), labels, 0.3, "batch_hard")
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("margin", [0.3, "soft"])
@pytest.mark.parametrize("mining", ["batch_hard", "all"])
def test_collapsed_embeddings_cost_the_margin(mining: str, margin: float | str) -> None:
    leaf = torch.ones(len(LABELS), DIM, requires_grad=True)
    value = metric_of(make("triplet", mining=mining, margin=margin), leaf)
    assert value.item() == pytest.approx(math.log(2) if margin == "soft" else margin)
    assert gradient(value, leaf).isfinite().all()


def test_a_soft_margin_far_below_zero_still_counts() -> None:
    """exp(-200) is 0 in float32; the mean is over all triplets all the same."""
    embeddings = torch.zeros(4, DIM)
    embeddings[:, 0] = torch.tensor([0.0, 0.0, 200.0, 100.0])
    labels = torch.tensor([0, 0, 1, 1])
    value = metric_of(make("triplet", margin="soft", mining="all"), embeddings, labels)
    costs = [math.log1p(math.exp(d)) for d in (-200, -100, -200, -100, -100, -100, 0, 0)]
    assert value.item() == pytest.approx(sum(costs) / 8)


# --- the others -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAIRS)
def test_pair_losses_equal_brute_force(name: Any, seed: Any) -> None:
    embeddings = random_embeddings(seed)
    unit = F.normalize(embeddings.double())
    expected = PAIRS[name](unit @ unit.T, LABELS)
    value = metric_of(make(name), embeddings)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    scaled = metric_of(make(name), 3 * embeddings)
    assert scaled.item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_classification_losses_equal_their_formulas(name: str, seed: Any) -> None:
    loss = make(name)
    (vectors,) = loss.parameters()
    assert vectors.shape == (DIM, CLASSES)
    embeddings = random_embeddings(seed)
    cosine = F.normalize(embeddings.double()) @ F.normalize(vectors.detach().double(), dim=0)
    rows = torch.arange(len(LABELS))
    target = cosine[rows, LABELS]
    if name == "arcface":
        angle = target.acos()
        assert (angle < math.pi - 0.5).all()
        cosine[rows, LABELS] = (angle + 0.5).cos()
    else:
        cosine[rows, LABELS] = target - 0.35
    expected = F.cross_entropy(64 * cosine, LABELS)
    assert metric_of(loss, embeddings).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_class_vectors_are_trained_and_kept(name: str) -> None:
    loss = make(name)
    (vectors,) = loss.parameters()
    metric_of(loss, random_embeddings()).backward()
    assert (vectors.grad.abs().sum(0) > 0).all()  # each class is pushed away at least
    assert [tensor.shape for tensor in loss.state_dict().values()] == [vectors.shape]
    before = metric_of(loss, random_embeddings())
    torch.optim.SGD(loss.parameters(), lr=0.01).step()
    assert metric_of(loss, random_embeddings()) < before


@pytest.mark.parametrize("name", [*PAIRS, "triplet"])
def test_the_others_have_no_parameters(name: Any) -> None:
    assert not list(make(name).parameters())


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_embeddings_on_their_class_vectors_are_finite(name: str, sign: float) -> None:
    loss = make(name)
    (vectors,) = loss.parameters()
    with torch.no_grad():
        vectors.copy_(torch.eye(DIM)[:, :CLASSES])  # cosines of exactly 1 and -1
    leaf = (sign * torch.eye(DIM)[LABELS]).requires_grad_()
    value = metric_of(loss, leaf)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [leaf, vectors]))


# --- batches with little to compare -----------------------------------------------------------

COMPARING = [
    *(("triplet", mining) for mining in MININGS),
    *((name, "batch_hard") for name in ("circle", "multi_similarity", "supcon", "ntxent")),
]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [2, 2, 2, 2, 2], [3], [1, 1], [0, 1]])
@pytest.mark.parametrize(("name", "mining"), COMPARING)
def test_without_positives_or_negatives_zero(name: Any, mining: Any, labels: Any) -> None:
    leaf = random_embeddings(count=len(labels)).requires_grad_()
    value = metric_of(make(name, mining=mining), leaf, torch.tensor(labels))
    assert value.item() == 0
    assert (gradient(value, leaf) == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_is_zero(name: Any) -> None:
    loss = make(name, id_weight=1.0)
    leaf = torch.zeros(0, DIM, requires_grad=True)
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    terms = loss(leaf, logits, torch.zeros(0, dtype=torch.long))
    assert [value.item() for value in terms.values()] == [0, 0]
    found = torch.autograd.grad(sum(terms.values()), [leaf, logits, *loss.parameters()])
    assert all((g == 0).all() for g in found)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("labels", [LABELS, torch.zeros_like(LABELS), torch.arange(10) % 6])
@pytest.mark.parametrize("name", NAMES)
def test_every_batch_is_finite(name: Any, labels: Any, scale: float) -> None:
    for embeddings in (random_embeddings(), torch.ones(10, DIM), torch.eye(DIM)[LABELS]):
        leaf = (scale * embeddings).requires_grad_()
        value = metric_of(make(name), leaf, labels)
        assert value.isfinite()
        assert value >= 0
        assert gradient(value, leaf).isfinite().all()


# --- identity, names, weights -----------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_identity_is_cross_entropy_with_smoothing(smoothing: float) -> None:
    logits = torch.randn(10, CLASSES, generator=torch.Generator().manual_seed(0))
    loss = make("none", id_weight=1.0, label_smoothing=smoothing)
    targets = F.one_hot(LABELS, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    terms = loss(random_embeddings(), logits, LABELS)
    assert terms["id"].item() == pytest.approx(expected.item())
    assert list(terms) == ["id"]


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"metric": "triplet", "id_weight": 1.0}, {"id": 1.0, "metric": 1.0}),
        ({"metric": "circle", "id_weight": 0.5, "metric_weight": 2.0}, {"id": 0.5, "metric": 2.0}),
        ({"metric": "none", "id_weight": 1.0}, {"id": 1.0}),
        ({"metric": "arcface", "id_weight": 1.0, "metric_weight": 0.0}, {"id": 1.0}),
        ({"metric": "triplet"}, {"metric": 1.0}),
    ],
)
def test_terms_have_names_and_weights(settings: Any, weights: Any) -> None:
    loss = make(**settings)
    assert loss.weights() == weights
    assert loss.names == tuple(weights)
    assert tuple(loss(random_embeddings(), torch.zeros(10, CLASSES), LABELS)) == loss.names
    assert len(list(loss.parameters())) == 0


def test_terms_are_not_weighted() -> None:
    logits = torch.randn(10, CLASSES, generator=torch.Generator().manual_seed(0))
    light, heavy = (make("triplet", id_weight=w, metric_weight=w) for w in (0.1, 10.0))
    one, other = (loss(random_embeddings(), logits, LABELS) for loss in (light, heavy))
    assert {k: v.item() for k, v in one.items()} == {k: v.item() for k, v in other.items()}


# --- precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: Any, dtype: Any) -> None:
    embeddings = random_embeddings().to(dtype)
    logits = torch.randn(10, CLASSES, generator=torch.Generator().manual_seed(0)).to(dtype)
    loss = make(name, id_weight=1.0)
    with torch.autocast("cpu", dtype):
        half = loss(embeddings, logits, LABELS)
    full = loss(embeddings.float(), logits.float(), LABELS)
    for term, value in full.items():
        assert half[term].dtype == torch.float32
        assert half[term].item() == value.item()


def test_int32_labels() -> None:
    embeddings, logits = random_embeddings(), torch.zeros(10, CLASSES)
    for name in ("triplet", "arcface"):
        loss = make(name, id_weight=1.0)
        short, long = (loss(embeddings, logits, labels) for labels in (LABELS.int(), LABELS))
        assert {k: v.item() for k, v in short.items()} == {k: v.item() for k, v in long.items()}


# --- share of anchors with a positive ---------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "share"),
    [([0, 0, 1, 1], 1.0), ([0, 1, 2], 0.0), ([5, 5, 5, 7], 0.75), ([3], 0.0), ([], 0.0)],
)
def test_positive_share_by_hand(labels: Any, share: float) -> None:
    value = positive_share(torch.tensor(labels, dtype=torch.long))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.item() == share


@pytest.mark.parametrize(("batch", "without"), [(64, 0.90), (256, 0.64)])
def test_a_random_sampler_over_576_identities(batch: int, without: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(576, (200, batch), generator=generator)
    share = torch.stack([positive_share(row) for row in labels]).mean()
    assert share.item() == pytest.approx(1 - without, abs=0.01)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "centre"}, "metric must be one of triplet, circle, .* got 'centre'"),
        ({"mining": "hard"}, "mining must be one of batch_hard, all, semi_hard, got 'hard'"),
        ({"margin": "wide"}, "margin must be a finite number >= 0 or soft, got 'wide'"),
        ({"margin": -0.1}, "margin"),
        ({"margin": math.inf}, "margin"),
        ({"id_weight": -1.0}, "id_weight must be a finite number >= 0, got -1.0"),
        ({"metric_weight": math.nan}, "metric_weight"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"metric": "none"}, "nothing to learn from"),
        ({"metric_weight": 0.0}, "nothing to learn from"),
        ({"margin": "soft", "mining": "semi_hard"}, "semi_hard needs a margin"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"metric": "triplet", **settings})


@pytest.mark.parametrize("logits", [None, torch.zeros(10, CLASSES + 1)])
def test_wrong_logits_are_refused(logits: Any) -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(10, 6\), got"):
        make("triplet", id_weight=1.0)(random_embeddings(), logits, LABELS)
