"""Losses of re-identification: cross-entropy of the identity, and a metric loss of the embedding.

float32 inside, also under autocast, and finite for every batch; where a batch offers nothing to
compare, the metric loss is exactly 0 with zero gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn

from phasewise.config.targets import accepted, build
from phasewise.networks.parts import returned

METRICS = (
    "triplet",
    "circle",
    "arcface",
    "cosface",
    "multi_similarity",
    "contrastive",
    "supcon",
    "ntxent",
    "none",
)
MININGS = ("batch_hard", "all", "semi_hard")
SOFT = "soft"


class Euclidean(distances.LpDistance):
    """Euclidean distance from the differences themselves.

    pytorch-metric-learning calls `torch.cdist` as it stands, which for more than 25 embeddings
    expands |a - b|^2 into squares and a matrix product: at norms of 26, as an average pooling gives
    them, that is .02 off in float32 (and more with TF32), .02 even for an embedding to itself.
    """

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Distances (Q, R) of (Q, D) and (R, D)."""
        return torch.cdist(query_emb, ref_emb, compute_mode="donot_use_mm_for_euclid_dist")


class BatchHardTriplet(nn.Module):
    """Of each anchor the farthest positive and the nearest negative (Hermans et al. 2017, eq. 5).

    The same as pytorch-metric-learning's `BatchHardMiner` and `TripletMarginLoss`, which compute
    the distances twice and make a GPU count its pairs three times a step.

    Args:
        margin: a distance >= 0, or ``soft``, see `ReidLoss`.
    """

    def __init__(self, margin: float | str) -> None:
        super().__init__()
        self.margin = margin
        self.distance = Euclidean(normalize_embeddings=False)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean over the anchors that have both, of ``embeddings`` (B, D), B > 0, and ``labels``
        (B,)."""
        distances = self.distance.compute_mat(embeddings, embeddings)
        same = labels[:, None] == labels
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive, negative = same & ~itself, ~same
        with torch.no_grad():
            farthest = distances.masked_fill(~positive, -math.inf).argmax(1, keepdim=True)
            nearest = distances.masked_fill(~negative, math.inf).argmin(1, keepdim=True)
        violation = (distances.gather(1, farthest) - distances.gather(1, nearest)).squeeze(1)
        if self.margin == SOFT:
            costs = F.softplus(violation)
        else:
            costs = F.relu(violation + float(self.margin))
        counted = positive.any(1) & negative.any(1)
        return costs.where(counted, 0).sum() / counted.sum().clamp_min(1)


class OwnMetric(nn.Module):
    """A metric loss that somebody brought.

    Args:
        loss: takes float32 embeddings (B, D) and integer identities (B,), from 0, B > 0, and
            returns a scalar. Its parameters are trained with the network's.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """See above.

        Raises:
            UserError: it is no scalar.
        """
        value = self.loss(embeddings, labels)
        return returned(value, (), "a scalar", by=self.loss, where="loss.metric")


class ReidLoss(nn.Module):
    """Identity loss and metric loss.

    ``id`` is the cross-entropy of the logits with label smoothing. ``metric`` is one of

    - ``triplet`` (Hermans et al. 2017, arXiv:1703.07737): Euclidean distances of the embeddings as
      they are, NOT normalised. See ``mining`` and ``margin``.
    - ``circle`` (Sun et al. 2020, arXiv:2002.10857): m = .25, gamma = 128, the paper's values for
      re-identification; mean over anchors with a positive and a negative.
    - ``arcface`` (Deng et al. 2019, arXiv:1801.07698): margin .5 rad, scale 64.
    - ``cosface`` (Wang et al. 2018, arXiv:1801.09414): margin .35, scale 64.
    - ``multi_similarity`` (Wang et al. 2019, arXiv:1904.06627): alpha 2, beta 50, base .5, with the
      paper's mining (epsilon .1); mean over all images.
    - ``contrastive`` (Hadsell et al. 2006): distances of normalised embeddings, margin 1 for
      negatives; mean of the positive pairs plus mean of the negative pairs that cost anything.
    - ``supcon`` (Khosla et al. 2020, arXiv:2004.11362): temperature .1; mean over anchors with a
      positive.
    - ``ntxent`` (Sohn 2016; Chen et al. 2020, arXiv:2002.05709): temperature .07; mean over
      positive pairs.

    All but ``triplet`` and ``contrastive`` compare by cosine, at the constants above. ``arcface``
    and ``cosface`` hold one weight vector per identity, a parameter of this module: it belongs into
    the LightningModule, so that the optimizer trains it and checkpoints keep it. They learn from
    every image; the others only compare images of one batch, see `positive_share`.

    Args:
        num_classes: training identities; labels are below it.
        embedding_dim: D, width of the embeddings.
        metric: one of `METRICS`; ``none`` trains on the identity alone; or one of somebody's own, a
            mapping of ``_target_`` and its arguments, see `OwnMetric`; it is given ``num_classes``
            and ``embedding_dim`` if it takes arguments of these names.
        id_weight: >= 0; 0 = no ``id`` term, no logits wanted.
        metric_weight: >= 0; 0 = no ``metric`` term.
        label_smoothing: of ``id``, 0 <= value < 1.
        margin: of ``triplet``, as a distance >= 0: a triplet costs max(0, d_ap - d_an + margin);
            ``soft``: log(1 + exp(d_ap - d_an)).
        mining: of ``triplet``, which triplets count: ``batch_hard``, of each anchor the farthest
            positive and the nearest negative, mean over the anchors that have both (torchreid lets
            an anchor without another positive be its own, at distance 0); ``all``, mean over the
            triplets that cost anything (the paper's "batch all, non-zero"); ``semi_hard``, mean
            over those with d_ap < d_an <= d_ap + margin (Schroff et al. 2015, arXiv:1503.03832).

    Raises:
        ValueError: an unknown choice, a number out of its range, no term at all, or ``semi_hard``
            with the soft margin, which has no far side.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        metric: str | Mapping[str, Any],
        id_weight: float,
        metric_weight: float,
        label_smoothing: float,
        margin: float | str,
        mining: str,
    ) -> None:
        super().__init__()
        if isinstance(metric, str):
            _check_choice("metric", metric, METRICS)
        _check_choice("mining", mining, MININGS)
        _check_number("id_weight", id_weight)
        _check_number("metric_weight", metric_weight)
        _check_number("label_smoothing", label_smoothing, below=1)
        if margin != SOFT:
            _check_number("margin", margin, instead=f" or {SOFT}")
        elif metric == "triplet" and mining == "semi_hard":
            raise ValueError("mining=semi_hard needs a margin in numbers, not soft")
        shares = {"id": id_weight, "metric": metric_weight if metric != "none" else 0.0}
        self._weights = {name: share for name, share in shares.items() if share > 0}
        if not self._weights:
            raise ValueError("nothing to learn from: no identity loss and no metric loss")
        self.names = tuple(self._weights)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.miner: nn.Module | None = None
        self.metric: nn.Module | None = None
        if "metric" not in self.names:
            return
        if isinstance(metric, Mapping):
            self.metric = _own(metric, num_classes=num_classes, embedding_dim=embedding_dim)
        elif metric == "triplet":
            self.miner, self.metric = _triplet(margin, mining)
        else:
            self.metric = _OTHERS[metric](num_classes, embedding_dim)
        if metric == "multi_similarity":
            self.miner = miners.MultiSimilarityMiner(epsilon=0.1)

    def forward(
        self, embeddings: Tensor, logits: Tensor | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """The unweighted terms by name, float32 scalars.

        Args:
            embeddings: (B, D), of any floating type.
            logits: (B, num_classes); may be None if there is no ``id`` term.
            labels: integer (B,), identities from 0.

        Raises:
            ValueError: the logits are missing or of another shape.
        """
        terms = {}
        labels = labels.long()
        with torch.autocast(embeddings.device.type, enabled=False):
            if "id" in self.names:
                terms["id"] = self._identity(logits, labels)
            if "metric" in self.names:
                terms["metric"] = self._compare(embeddings.float(), labels)
        return terms

    def weights(self) -> dict[str, float]:
        """What the terms are multiplied with."""
        return dict(self._weights)

    def _identity(self, logits: Tensor | None, labels: Tensor) -> Tensor:
        shape = (len(labels), self.num_classes)
        if logits is None or logits.shape != shape:
            got = None if logits is None else tuple(logits.shape)
            raise ValueError(f"the identity loss wants logits of shape {shape}, got {got}")
        total = F.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / max(len(labels), 1)

    def _compare(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        assert self.metric is not None
        if len(labels) == 0:  # the miners cannot; DDP wants a gradient of every parameter
            return sum((p.sum() * 0 for p in self.metric.parameters()), embeddings.sum())
        if self.miner is None:
            return self.metric(embeddings, labels)
        return self.metric(embeddings, labels, self.miner(embeddings, labels))


def _own(node: Mapping[str, Any], **known: int) -> OwnMetric:
    given = {key: known[key] for key in accepted(str(node.get("_target_")), known)}
    return OwnMetric(build(node, where="loss.metric", kind=nn.Module, **given))


def positive_share(labels: Tensor) -> Tensor:
    """Share of the anchors in ``labels (B,)`` that have another positive in their batch.

    A float32 scalar in [0, 1], 0 of an empty batch. With a random sampler it is small, and the
    losses that compare images have next to nothing to learn from.
    """
    others = (labels[:, None] == labels).sum(1) - 1
    return (others > 0).sum() / max(len(labels), 1)


def _triplet(margin: float | str, mining: str) -> tuple[nn.Module | None, nn.Module]:
    """Miner and loss; without a miner the loss takes all triplets, or finds its own."""
    if mining == "batch_hard":
        return None, BatchHardTriplet(margin)
    soft = margin == SOFT
    width = 0.0 if soft else float(margin)
    distance = Euclidean(normalize_embeddings=False)
    # The library averages non-zero triplets by default; a soft margin that underflows still counts.
    nonzero = mining == "all" and not soft
    loss = losses.TripletMarginLoss(
        margin=width,
        smooth_loss=soft,
        distance=distance,
        reducer=reducers.AvgNonZeroReducer() if nonzero else reducers.MeanReducer(),
    )
    if mining == "semi_hard":
        return miners.TripletMarginMiner(width, "semihard", distance=distance), loss
    return None, loss


_OTHERS: dict[str, Callable[[int, int], nn.Module]] = {
    "circle": lambda classes, dim: losses.CircleLoss(m=0.25, gamma=128),
    "arcface": lambda classes, dim: losses.ArcFaceLoss(
        classes, dim, margin=math.degrees(0.5), scale=64
    ),
    "cosface": lambda classes, dim: losses.CosFaceLoss(classes, dim, margin=0.35, scale=64),
    "multi_similarity": lambda classes, dim: losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5),
    "contrastive": lambda classes, dim: losses.ContrastiveLoss(
        pos_margin=0, neg_margin=1, distance=Euclidean()
    ),
    "supcon": lambda classes, dim: losses.SupConLoss(temperature=0.1),
    "ntxent": lambda classes, dim: losses.NTXentLoss(temperature=0.07),
}


def _check_choice(key: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")


def _check_number(key: str, value: float | str, below: float = math.inf, instead: str = "") -> None:
    if isinstance(value, str) or not 0 <= value < below:
        bounds = "a finite number >= 0" if below == math.inf else f"in [0, {below})"
        raise ValueError(f"{key} must be {bounds}{instead}, got {value!r}")
