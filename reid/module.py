"""Re-identification as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from phasewise.analysis.items import Items, mean
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.module import Embedding, Scores, TaskModule
from reid.baselines import mean_colour, random_features
from reid.figures import cmc_figure, ranked_figure
from reid.losses import ReidLoss, positive_share
from reid.metrics import ReidRetrieval, ReRanking, mirrored_mean
from reid.networks import ReidNetwork
from reid.ranked import ranked_lists

if TYPE_CHECKING:
    from reid.predict import ReidPredictor

SCORES = ("mAP", "mINP", "rank1", "rank5", "rank10")
LISTED = 10
"""Images of a ranked list that are drawn."""
PROJECTED = 1000
"""Most images whose embeddings TensorBoard shows."""


class ReidModule(TaskModule):
    """A network that maps images of one identity near each other.

    Validation identities are none that the classifier knows, so that there is no validation loss.

    Args:
        config: the run's config, ``model``, ``loss`` and ``evaluation`` as in
            ``conf/task/reid.yaml``.
        data: a data module of `reid.data`, set up, or a checkpoint's ``info``.
    """

    network: ReidNetwork
    evaluates_loss = False
    headline = ("mAP", "rank1")

    def __init__(
        self, config: Mapping[str, Any], data: StoreDataModule | Mapping[str, Any]
    ) -> None:
        super().__init__(config, data)
        classes = len(self.info["class_names"])
        self.network = ReidNetwork(classes, self.info["image_size"], **self.config["model"])
        self.loss = ReidLoss(classes, self.network.embedding_dim, **self.config["loss"])
        self.metric = self._make_metric()
        self._embedding: Embedding | None = None

    def _make_metric(self) -> ReidRetrieval:
        """What ``evaluation`` says, also for baselines."""
        evaluation = self.config["evaluation"]
        return ReidRetrieval(
            evaluation["distance"],
            evaluation["max_rank"],
            evaluation["average_precision"],
            reranking=ReRanking() if evaluation["rerank"] else None,
            on_empty="nan",
        )

    def describe(self, data: StoreDataModule) -> dict[str, Any]:
        """The training identities, the side of the images in pixels, whether cameras are known."""
        return {
            "class_names": data.splits.class_names,
            "image_size": data.image_size,
            "cameras": bool((data.splits.stores["val"]["camera"] >= 0).all()),
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the outputs of `ReidNetwork.forward`."""
        return self.network(images)

    def loss_names(self) -> tuple[str, ...]:
        """The terms that have a weight."""
        return ReidLoss(1, 1, **self.config["loss"]).names

    def terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """``id`` and ``metric``, each as far as it has a weight."""
        return self.loss(outputs["embedding"], outputs["logits"], batch["label"])

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.loss.weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def reported(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return self.total(terms)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch; says how many images another one of their identity can be compared with."""
        self.note({"train/positive_share": positive_share(batch["label"])}, len(batch["index"]))
        return super().training_step(batch, batch_idx)

    def features(self, images: Tensor) -> Tensor:
        """What retrieval compares, ``(B, E)``."""

        def embed(images: Tensor) -> Tensor:
            return self(images)["feature"].float()

        return mirrored_mean(embed, images) if self.config["evaluation"]["flip"] else embed(images)

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """In evaluation the features alone: the classifier does not know those identities."""
        if self.training:
            return super().losses(batch)
        return {"feature": self.features(batch["image"])}, {}

    def score(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the features of a batch."""
        self._update(self.metric, outputs["feature"], batch)

    def scores(self, stage: str) -> Scores:
        """mAP, mINP, rank-1, -5 and -10."""
        found = self.metric.compute()
        self.metric.reset()
        return {name: float(found[name]) for name in SCORES}

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """Random features, an image's mean colour, and, in validation, the network before
        training."""
        predictors: dict[str, Callable[[Batch], Tensor]] = {
            "random": random_features,
            "mean_colour": mean_colour,
        }
        if split == "val" and self.training:  # in eval mode it comes from a checkpoint
            predictors["untrained"] = lambda batch: self.features(batch["image"])
        metrics = {name: self._make_metric().to(self.device) for name in predictors}
        before = self.training
        self.eval()
        with torch.no_grad():
            for batch in self._batches(data, split):
                for name, features in predictors.items():
                    self._update(metrics[name], features(batch), batch)
        self.train(before)
        found = {name: metric.compute() for name, metric in metrics.items()}
        return {name: {key: float(values[key]) for key in SCORES} for name, values in found.items()}

    def _update(self, metric: ReidRetrieval, features: Tensor, batch: Batch) -> None:
        cameras = batch["camera"] if self.info["cameras"] else None
        metric.update(features, batch["label"], cameras, batch["is_query"], batch["index"])

    def _batches(self, data: StoreDataModule, split: str) -> Iterator[Batch]:
        for index in torch.arange(len(data.splits.stores[split])).split(data.batch_size):
            yield data.prepared(split, index, self.device)

    def accept(self, data: StoreDataModule) -> None:
        """Identities may be any; whether cameras are known may have changed."""
        self.info["cameras"] = self.describe(data)["cameras"]

    def items(self, observed: Sequence[Any]) -> Items:
        """Queries with their average precision, inverse negative penalty and first right rank; the
        gallery stays as it is."""
        self.metric.compute()  # kept for `scores`
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
        distance = self.config["evaluation"]["distance"]
        return {"outputs": {"feature": f"of the image; {distance} distances tell identities apart"}}

    def predictor(self) -> type[ReidPredictor]:
        """See `reid.predict`."""
        from reid.predict import ReidPredictor

        return ReidPredictor

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """Ranked lists of the ``best`` and ``worst`` queries, and the ``cmc`` curve."""
        self.eval()
        store, metric = data.splits.stores[split], self._make_metric().to(self.device)
        found = []
        for batch in self._batches(data, split):
            found.append(self.features(batch["image"]))
            self._update(metric, found[-1], batch)
        labels, cameras, is_query = (store[key].cpu() for key in ("label", "camera", "is_query"))
        features = torch.cat(found).cpu()
        distance = self.config["evaluation"]["distance"]
        known = cameras if self.info["cameras"] else None
        lists = ranked_lists(features, labels, known, is_query, distance, LISTED)

        def image(row: int) -> np.ndarray:
            return store["image"][row].permute(1, 2, 0).cpu().numpy()

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
        self._embedding = Embedding(features, labels.tolist(), store["image"].cpu())
        return figures

    def embedding(self) -> Embedding | None:
        """What `draw` found last, at most `PROJECTED` of them."""
        found = self._embedding
        if found is None:
            return None
        features, labels, images = found
        return Embedding(features[:PROJECTED], labels[:PROJECTED], images[:PROJECTED])
