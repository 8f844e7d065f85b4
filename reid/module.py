"""Re-identification as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure
from torch import Tensor

from phasewise.analysis.items import Items, mean
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.records.notes import Limit, Notes
from phasewise.training.contract import Embedding
from phasewise.training.module import Scores, TaskModule
from reid.backbones import build_backbone
from reid.baselines import mean_colour, random_features
from reid.distances import Distance, joined
from reid.figures import cmc_figure, ranked_figure
from reid.losses import ReidLoss, positive_share
from reid.metrics import ReidRetrieval, ReRanking, mirrored_mean
from reid.networks import ReidNetwork
from reid.ranked import ranked_lists
from reid.ranking import AveragePrecision
from reid.targets import evaluation_targets, sampled_rows, training_ids
from reid.training_part import training_part

SCORES = ("mAP", "mINP", "rank1", "rank5", "rank10")
LISTED = 10
"""Images of a ranked list that are drawn."""
FEW_POSITIVES = Limit(
    metric="train/positive_share",
    least=0.5,
    meaning="most anchors had no positive in their batch: the metric loss had hardly anything to "
    "learn from",
    advice="data.sampler=identity, or a larger data.batch_size",
)
_WHO = ("label", "camera")
PROJECTED = 1000
"""Most images whose embeddings TensorBoard shows."""


class ReidModule(TaskModule):
    """A network that maps images of one identity near each other.

    A batch is a dict of

    - ``image``: RGB (B, 3, S, S), uint8, or float from 0 to 1;
    - ``id``: integer (B,), who is in the image: in training from 0 to ``num_classes`` - 1, in
      evaluation any (-1: a gallery image that does not count, such as a bad crop);
    - ``camera``, optional, in evaluation: integer (B,), from 0. A query then looks for its identity
      in the images of other cameras, as VeRi-776 and Market-1501 are judged; without it, in all
      gallery images. In all batches or in none;
    - ``is_query``, in evaluation: bool (B,), the queries; all others are the gallery. An image is
      one or the other. Where cameras are known it may be given twice, once as each: its copy is of
      its own camera and left out.

    It logs ``train/loss``, ``train/positive_share`` (of the images, those with another of their
    identity in the batch) and, of all validation batches together, ``val/mAP``, ``val/mINP``,
    ``val/rank1``, ``val/rank5`` and ``val/rank10`` (see `reid.metrics.ReidRetrieval`). Validation
    identities are none that the classifier knows, so that there is no validation loss.

    Args:
        num_classes: identities of the training set.
        image_size: side S of the images in pixels; networks without position embeddings take other
            sizes as well.
        cameras: use the cameras of evaluation batches, where they have them.
        backbone, pretrained, last_stride, embedding_dim, neck, pooling, activation, init_scheme,
            norm, dropout_rate, drop_path_rate: see `reid.networks.ReidNetwork`.
        loss_metric, loss_id_weight, loss_metric_weight, loss_label_smoothing, loss_margin,
            loss_mining: see `reid.losses.ReidLoss`.
        evaluation_distance: of features, ``cosine`` or ``euclidean``.
        evaluation_average_precision: ``hits``, the mean precision at each hit, or ``trapezoid``, as
            VeRi-776's own script has it (lower).
        evaluation_max_rank: length of the CMC curve, >= 1.
        evaluation_flip: features are the mean of an image's and its mirror image's.
        evaluation_rerank: k-reciprocal re-ranking (Zhong et al. 2017).
        optimizer, scheduler, finetuning, monitor, mode: see `TaskModule`.

    Raises:
        UserError: settings that do not go together.
        ValueError: a setting of the loss or of evaluation is not an allowed one.
    """

    network: ReidNetwork
    evaluates_loss = False
    works_untrained = True
    headline = ("mAP", "rank1", "rank5", "mINP")

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int = 128,
        cameras: bool = True,
        backbone: str = "resnet18",
        pretrained: bool | str = False,
        last_stride: int | None = None,
        embedding_dim: int | None = None,
        neck: str | Mapping[str, Any] = "bnneck",
        pooling: str | Mapping[str, Any] = "avg",
        activation: str = "native",
        init_scheme: str = "native",
        norm: str = "batch",
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        loss_metric: str | Mapping[str, Any] = "triplet",
        loss_id_weight: float = 1.0,
        loss_metric_weight: float = 1.0,
        loss_label_smoothing: float = 0.1,
        loss_margin: float | str = "soft",
        loss_mining: str = "batch_hard",
        evaluation_distance: Distance = "cosine",
        evaluation_average_precision: AveragePrecision = "hits",
        evaluation_max_rank: int = 50,
        evaluation_flip: bool = False,
        evaluation_rerank: bool = False,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        finetuning: Mapping[str, Any] | None = None,
        monitor: str = "val/mAP",
        mode: str = "max",
    ) -> None:
        super().__init__(
            (),
            optimizer=optimizer,
            scheduler=scheduler,
            finetuning=finetuning,
            monitor=monitor,
            mode=mode,
        )
        self.save_hyperparameters(logger=False)
        self.network = ReidNetwork(
            num_classes,
            image_size,
            backbone=backbone,
            pretrained=pretrained,
            last_stride=last_stride,
            embedding_dim=embedding_dim,
            neck=neck,
            pooling=pooling,
            activation=activation,
            init_scheme=init_scheme,
            norm=norm,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
        )
        self.loss = ReidLoss(
            num_classes,
            self.network.embedding_dim,
            metric=loss_metric,
            id_weight=loss_id_weight,
            metric_weight=loss_metric_weight,
            label_smoothing=loss_label_smoothing,
            margin=loss_margin,
            mining=loss_mining,
        )
        self.cameras = cameras
        self.metric = self._make_metric()
        self._sampled: list[int] | None = None
        self._embedding: Embedding | None = None

    def _make_metric(self) -> ReidRetrieval:
        """What ``evaluation`` says, also for baselines."""
        return ReidRetrieval(
            self.hparams["evaluation_distance"],
            self.hparams["evaluation_max_rank"],
            self.hparams["evaluation_average_precision"],
            reranking=ReRanking() if self.hparams["evaluation_rerank"] else None,
            on_empty="nan",
        )

    def prepare_targets(self, batch: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
        """``label``; in evaluation also ``is_query``, and ``camera`` where it is known."""
        if self.training:
            ids = training_ids(batch, len(images), self.hparams["num_classes"])
            return {"label": ids.to(images.device)}
        found = evaluation_targets(batch, len(images))
        return {key: value.to(images.device) for key, value in found.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the outputs of `ReidNetwork.forward`."""
        return self.network(images)

    def loss_terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """``id`` and ``metric``, each as far as it has a weight."""
        return self.loss(outputs["embedding"], outputs["logits"], batch["label"])

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.loss.weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def reported_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return self.total_loss(terms)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """One batch; says how many images another one of their identity can be compared with."""
        batch = self.prepare(batch)
        self.note({"train/positive_share": positive_share(batch["label"])}, len(batch["image"]))
        return super().training_step(batch, batch_idx)

    def features(self, images: Tensor) -> Tensor:
        """What retrieval compares, ``(B, E)``."""

        def embed(images: Tensor) -> Tensor:
            return self(images)["feature"].float()

        return mirrored_mean(embed, images) if self.hparams["evaluation_flip"] else embed(images)

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """In evaluation the features alone: the classifier does not know those identities."""
        if self.training:
            return super().losses(batch)
        return {"feature": self.features(batch["image"])}, {}

    def on_validation_epoch_start(self) -> None:
        """See which images come from the loader."""
        super().on_validation_epoch_start()
        self._sampled = sampled_rows(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        """See which images come from the loader."""
        super().on_test_epoch_start()
        self._sampled = sampled_rows(self.trainer.test_dataloaders)

    def update_metrics(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the features of a batch."""
        if "index" not in batch:
            batch = Batch(batch, index=self._index(len(batch["image"])))
        self._update(self.metric, outputs["feature"], batch)

    def _index(self, size: int) -> Tensor:
        """Numbers of the next images of a loader that tells none: the rows of its data set where
        they are known, so that one which several devices get counts once; else all that come."""
        first = sum(len(part) for part in self.metric.rows)
        if self._sampled is not None:
            return torch.tensor(self._sampled[first : first + size], dtype=torch.int64)
        trainer = self._trainer
        world_size, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        return torch.arange(first, first + size) * world_size + rank

    def together(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The features behind each other."""
        features = [each["feature"] for each in outputs]
        return {"feature": joined(features, self.hparams["evaluation_distance"])}

    def compute_metrics(self, stage: str) -> Scores:
        """mAP, mINP, rank-1, -5 and -10."""
        found = self.metric.compute()
        self.metric.reset()
        if self._trainer and not (found["valid_queries"] or self._trainer.sanity_checking):
            rank_zero_warn(
                f"{stage}: no query has an image of its id to find in the gallery (of another "
                "camera, where cameras are known), so that all metrics are NaN"
            )
        return {name: float(found[name]) for name in SCORES}

    def training_rows(self, data: StoreDataModule, count: int) -> dict[str, Tensor]:
        """As many whole identities as validation has, see `reid.training_part.training_part`."""
        store, judged = data.splits.stores["train"], data.splits.stores["val"]["label"]
        labels, cameras = (store[name][: data.schedule("train").count].cpu() for name in _WHO)
        identities = len(judged[judged >= 0].unique()) * count / len(judged)
        return training_part(labels, cameras if self.cameras else None, max(1, round(identities)))

    def training_metrics(self, evaluated: Iterable[tuple[dict[str, Tensor], Batch]]) -> Scores:
        """Retrieval among training identities, which the classifier knows."""
        metric = self._make_metric().to(self.device)
        for outputs, batch in evaluated:
            self._update(metric, outputs["feature"], batch)
        found = metric.compute()
        return {name: float(found[name]) for name in SCORES}

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """Random features, and an image's mean colour."""
        predictors: dict[str, Callable[[Batch], Tensor]] = {
            "random": random_features,
            "mean_colour": mean_colour,
        }
        metrics = {name: self._make_metric().to(self.device) for name in predictors}
        for batch in self._batches(data, split, data.evaluated_rows(split)):
            for name, features in predictors.items():
                self._update(metrics[name], features(batch), batch)
        found = {name: metric.compute() for name, metric in metrics.items()}
        return {name: {key: float(values[key]) for key in SCORES} for name, values in found.items()}

    def _update(self, metric: ReidRetrieval, features: Tensor, batch: Batch) -> None:
        cameras = batch.get("camera") if self.cameras else None
        metric.update(features, batch["label"], cameras, batch["is_query"], batch["index"])

    def _batches(self, data: StoreDataModule, split: str, rows: Tensor) -> Iterator[Batch]:
        for index in rows.split(data.batch_size):
            yield data.prepared(split, index, self.device)

    def accept(self, data: StoreDataModule) -> None:
        """Identities may be any; whether cameras are known may have changed."""
        self.cameras = data.describe()["cameras"]

    def items(self, observed: Sequence[Any]) -> Items:
        """Queries with their average precision, inverse negative penalty and first right rank; the
        gallery stays as it is."""
        self.metric.compute()  # kept for `compute_metrics`
        found = {
            name: values[self.metric.queries["first_rank"] > 0]
            for name, values in self.metric.queries.items()
        }
        first = found["first_rank"]
        figures = {"mAP": found["average_precision"], "mINP": found["inverse_penalty"]}
        figures |= {f"rank{n}": (first <= n).astype(float) for n in (1, 5, 10)}
        return Items(
            "queries",
            found.pop("index"),
            found,
            lambda weights: {name: mean(weights, values) for name, values in figures.items()},
        )

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """``feature (B, E)``."""
        return {"feature": self.features(images)}

    def export_notes(self) -> dict[str, Any]:
        """How features are compared."""
        distance = self.hparams["evaluation_distance"]
        return {"outputs": {"feature": f"of the image; {distance} distances tell identities apart"}}

    @classmethod
    def fetch_weights(cls, backbone: str, image_size: int, pretrained: bool | str) -> None:
        """See `TaskModule`."""
        build_backbone(backbone, image_size, pretrained=pretrained)

    def report_notes(self) -> Notes:
        """When a metric loss has too little to learn from; it compares the images of a batch."""
        return Notes(limits=(FEW_POSITIVES,), batch_losses=("train/loss",))

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """Ranked lists of the ``best`` and ``worst`` queries, and the ``cmc`` curve."""
        self.eval()
        store, metric = data.splits.stores[split], self._make_metric().to(self.device)
        found = []
        rows = data.evaluated_rows(split)
        for batch in self._batches(data, split, rows):
            found.append(self.features(batch["image"]))
            self._update(metric, found[-1], batch)
        fields = ("label", "camera", "is_query")
        labels, cameras, is_query = (store[key].cpu()[rows] for key in fields)
        features = torch.cat(found).cpu()
        distance = self.hparams["evaluation_distance"]
        known = cameras if self.cameras else None
        lists = ranked_lists(features, labels, known, is_query, distance, LISTED)

        def image(row: int) -> np.ndarray:
            return store["image"][int(rows[row])].permute(1, 2, 0).cpu().numpy()

        def caption(row: int) -> str:
            camera = int(cameras[row])
            return f"{int(labels[row])}" + (f" c{camera}" if camera >= 0 else "")

        figures = {
            title: ranked_figure(f"{title} {split} queries", chosen, image, caption, LISTED)
            for title, chosen in (("best", lists[:count]), ("worst", lists[::-1][:count]))
        }
        scores = metric.compute()
        title = f"{split}: mAP {float(scores['mAP']):.3f}, rank-1 {float(scores['rank1']):.3f}"
        figures["cmc"] = cmc_figure(scores["cmc"].tolist(), title)
        shown = rows[:PROJECTED].to(store["image"].device)
        images = store["image"][shown].cpu()
        self._embedding = Embedding(features, labels.tolist(), images)
        return figures

    def embedding(self) -> Embedding | None:
        """What `draw` found last, at most `PROJECTED` of them."""
        found = self._embedding
        if found is None:
            return None
        features, labels, images = found
        return Embedding(features[:PROJECTED], labels[:PROJECTED], images[:PROJECTED])
