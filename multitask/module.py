"""Multi-task segmentation and detection as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from multitask.balance import make_balance
from multitask.baselines import majority_class, mean_boxes
from multitask.batch import checked_targets
from multitask.class_weights import balanced_weights, class_balance, count_batches
from multitask.figures import Look, best_and_worst
from multitask.fusion import fused_detections
from multitask.items import Seen, make_items, observe
from multitask.losses import (
    OUTPUTS,
    decode_boxes,
    make_detection_loss,
    make_segmentation_loss,
)
from multitask.metrics import (
    BoxScores,
    Detections,
    SegmentationScores,
    compute_scores,
    make_metrics,
    update_boxes,
)
from multitask.networks import MultitaskNetwork, Points
from multitask.suppression import MAX_DETECTIONS, SUPPRESSION, suppressed
from phasewise.analysis.items import Items
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.inference.prediction.maps import mean_map
from phasewise.networks.parts import returned
from phasewise.records.notes import Notes
from phasewise.training.module import Scores, TaskModule

TASKS = ("segmentation", "detection")

DETECTIONS = "detections"
"""Among the outputs of several networks: what `MultitaskModule.detections` returns."""


class MultitaskModule(TaskModule):
    """A backbone shared by a segmentation head and a detection head.

    A batch is a dict of

    - ``image``: RGB (B, 3, S, S), uint8, or float from 0 to 1;
    - ``mask``: integer (B, S, S), the class of each pixel, 0 = background; 255 = void, which counts
      for nothing. An image whose mask is 255 everywhere has none.
    - ``boxes`` and ``labels``: as torchvision's detectors take them, lists of B float tensors
      (n, 4), x1, y1, x2, y2 in pixels, and B integer tensors (n,), classes from 1; None in both for
      an image that is not annotated. Or padded tensors (B, M, 4) and (B, M), in which the label 0
      or -1 is a slot without a box.
    - ``difficult``, optional: bool, in the form of ``labels``; boxes that are neither learned nor
      counted.

    A loader that has only masks, or only boxes, trains that head alone; so do single images. Keys
    of a head that the network does not have are not looked at.

    It logs ``train/loss``, ``val/loss``, ``val/mIoU``, ``val/pixel_acc``, ``val/mAP``,
    ``val/mAP50``, and the IoU and the average precision of each class.

    Args:
        class_names: C names, of the background first.
        image_size: side S of the images in pixels, a multiple of 32.
        backbone, pretrained, segmentation_head, detection_head, activation, init_scheme, norm,
            dropout_rate, drop_path_rate, head_channels, head_depth: see `MultitaskNetwork`.
        loss_segmentation: ``cross_entropy``, ``dice``, ``focal``, ``ce_dice``, see
            `SegmentationLoss`; or one of somebody's own, a mapping of ``_target_`` and its
            arguments: it makes a module that takes logits (B, C, S, S) and masks (B, S, S) in which
            255 is void, and returns a scalar.
        loss_class_weights: of ``cross_entropy``: ``none``; ``balanced``, by inverse frequency in
            the training masks, which are counted before the first step; or C numbers >= 0.
        loss_label_smoothing: of ``cross_entropy``, 0 <= value < 1.
        loss_focal_gamma: of ``focal``, >= 0.
        loss_detection: ``fcos``, see `FcosLoss`; or one of somebody's own, a mapping as above: it
            makes a module that takes the keyword arguments of `FcosLoss.forward`, and returns a
            scalar, or several by name.
        loss_boxes: of ``fcos``: ``giou``, ``smooth_l1``.
        loss_balance: how the tasks share the gradient: ``fixed``, ``uncertainty``, ``dwa``,
            ``gradnorm``, ``pcgrad``, see `multitask.balance`.
        loss_segmentation_weight, loss_detection_weight: of the two losses under ``fixed``, and in
            the losses that are logged, >= 0.
        optimizer, scheduler, finetuning, monitor, mode: see `TaskModule`.

    Raises:
        UserError: settings that do not go together, or names that do not exist.
    """

    network: MultitaskNetwork
    headline = ("mIoU", "mAP", "mAP50", "pixel_acc")

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        image_size: int = 128,
        backbone: str = "resnet18",
        pretrained: bool | str = False,
        segmentation_head: str | Mapping[str, Any] = "unet",
        detection_head: str | Mapping[str, Any] = "fpn",
        activation: str = "native",
        init_scheme: str = "native",
        norm: str = "batch",
        dropout_rate: float = 0.1,
        drop_path_rate: float = 0.0,
        head_channels: int = 64,
        head_depth: int = 2,
        loss_segmentation: str | Mapping[str, Any] = "cross_entropy",
        loss_class_weights: str | Sequence[float] = "none",
        loss_label_smoothing: float = 0.0,
        loss_focal_gamma: float = 2.0,
        loss_detection: str | Mapping[str, Any] = "fcos",
        loss_boxes: str = "giou",
        loss_balance: str = "fixed",
        loss_segmentation_weight: float = 1.0,
        loss_detection_weight: float = 1.0,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        finetuning: Mapping[str, Any] | None = None,
        monitor: str = "val/mIoU",
        mode: str = "max",
    ) -> None:
        _check_classes(class_names)
        weights = {}
        if segmentation_head != "none":
            weights["segmentation"] = loss_segmentation_weight
        if detection_head != "none":
            weights["detection"] = loss_detection_weight
        if not weights:
            raise UserError(
                "segmentation_head=none and detection_head=none: nothing is left to train"
            )
        super().__init__(
            tuple(weights),
            optimizer=optimizer,
            scheduler=scheduler,
            finetuning=finetuning,
            monitor=monitor,
            mode=mode,
        )
        self.save_hyperparameters(logger=False)
        self.weights = weights
        self.network = MultitaskNetwork(
            len(class_names),
            image_size,
            backbone=backbone,
            pretrained=pretrained,
            segmentation_head=segmentation_head,
            detection_head=detection_head,
            activation=activation,
            init_scheme=init_scheme,
            norm=norm,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
            head_channels=head_channels,
            head_depth=head_depth,
        )
        self.segmentation_loss = make_segmentation_loss(
            loss_segmentation,
            num_classes=len(class_names),
            class_weights=loss_class_weights,
            label_smoothing=loss_label_smoothing,
            focal_gamma=loss_focal_gamma,
        )
        self.detection_loss = make_detection_loss(loss_detection, loss_boxes)
        self.balance = make_balance(loss_balance, weights)
        if loss_balance == "pcgrad" and self.finetuning.l2_sp:
            raise UserError(
                "loss_balance=pcgrad projects the gradients of the two losses, of which the "
                "distance of finetuning.l2_sp is none"
            )
        self.metrics = make_metrics(len(class_names), self.loss_names())
        self._to_be_counted = loss_class_weights == "balanced" and "segmentation" in weights

    def setup(self, stage: str) -> None:
        """See whether our own data are what the network was built for, and weigh the classes by
        their training masks.

        Raises:
            UserError: they have other classes, or images of other sizes.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, StoreDataModule):
            return
        if stage != "predict":
            self.accept(data)
        for size in sorted({data.image_size} | (data.train_sizes() if stage == "fit" else set())):
            self._check_side("the data have images of", size)
        if stage == "fit" and self._to_be_counted:
            masks = data.splits.stores["train"]["mask"]
            self._weigh_classes(class_balance(masks, len(self.hparams["class_names"])))

    def on_fit_start(self) -> None:
        """Weigh the classes by the training masks of any other loader, in one pass over it."""
        super().on_fit_start()
        if not self._to_be_counted:
            return
        classes = len(self.hparams["class_names"])
        with isolate_rng():  # the order of the batches stays what it was
            counts = count_batches(self._training_batches(), self.hparams["image_size"], classes)
        if self.trainer.world_size > 1:
            counts = counts.to(self.device)
            counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
        self._weigh_classes(balanced_weights(counts))

    def _training_batches(self) -> Iterator[Any]:
        """Those of an epoch, as the loader yields them."""
        self.trainer.fit_loop.setup_data()  # which Lightning does a moment later otherwise
        loader, most = self.trainer.train_dataloader, self.trainer.num_training_batches
        assert loader is not None
        return islice(loader, None if math.isinf(most) else int(most))

    def _weigh_classes(self, weights: Tensor) -> None:
        assert isinstance(self.segmentation_loss.class_weights, Tensor)
        self.segmentation_loss.class_weights.copy_(weights)
        self._to_be_counted = False

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """It brings the weights of the classes that it was trained with."""
        super().on_load_checkpoint(checkpoint)
        if "segmentation_loss.class_weights" in checkpoint["state_dict"]:
            self._to_be_counted = False

    def prepare_targets(self, batch: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
        """See `multitask.batch.checked_targets`."""
        self._check_side("batch['image'] has", images.shape[-1])
        classes = len(self.hparams["class_names"])
        return checked_targets(batch, images, classes, self.loss_names())

    def _check_side(self, what: str, side: int) -> None:
        if side != self.hparams["image_size"]:
            raise UserError(
                f"{what} {side}x{side} pixels, but the network was built for "
                f"image_size={self.hparams['image_size']}"
            )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the outputs of `MultitaskNetwork.forward`."""
        return self.network(images)

    def loss_names(self) -> tuple[str, ...]:
        """The tasks that have a head."""
        return tuple(task for task in TASKS if task in self.weights)

    def loss_terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """``segmentation`` and ``detection``, each as far as there is a head for it."""
        terms = {}
        if "segmentation" in self.weights:
            logits, mask = outputs["segmentation"], batch["mask"]
            self._check_logits(logits, mask)
            terms["segmentation"] = self.segmentation_loss(logits, mask)
        if "detection" in self.weights:
            points = self._points()
            parts = self.detection_loss(
                points=points.xy,
                strides=points.stride,
                range_low=points.low,
                range_high=points.high,
                **{key: outputs[key] for key in OUTPUTS},
                **{key: batch[key] for key in ("boxes", "labels", "difficult", "has_boxes")},
            )
            terms["detection"] = torch.stack(list(parts.values())).sum()
        return terms

    def _check_logits(self, logits: Tensor, mask: Tensor) -> None:
        """A head of somebody's own may return anything."""
        head = self.network.segmentation
        assert head is not None
        shape = (len(mask), len(self.hparams["class_names"]), *mask.shape[-2:])
        returned(logits, shape, "logits (B, C, S, S)", by=head, where="segmentation_head")

    def _points(self) -> Points:
        assert self.network.detection is not None
        return self.network.detection.points(self.hparams["image_size"], self.device)

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms, balanced."""
        return self.balance(terms, self.network.last_shared_weight)

    def reported_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum under the fixed weights, whatever the balance."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def boxes(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, P, 4)`` in pixels, cut off at the border, and scores ``(B, P, C - 1)`` of the
        classes from 1 on, of every point of the pyramid."""
        size, points = self.hparams["image_size"], self._points()
        classes = outputs["class_logits"].float().sigmoid()
        scores = (classes * outputs["centerness"].float().sigmoid()[..., None]).sqrt()
        boxes = decode_boxes(points.xy, outputs["ltrb"].float() * points.stride[:, None])
        return clip_boxes_to_image(boxes, (size, size)), scores

    def together(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The mean probabilities, and the boxes by weighted fusion."""
        found: dict[str, Any] = {}
        if "segmentation" in outputs[0]:
            mean = mean_map([each["segmentation"].float().softmax(1) for each in outputs])
            found["segmentation"] = mean.log()
        if "class_logits" in outputs[0]:
            looks = zip(*(self.detections(each) for each in outputs), strict=True)
            fused = [fused_detections(each, MAX_DETECTIONS) for each in looks]
            found |= {"class_logits": outputs[0]["class_logits"], DETECTIONS: fused}
        return found

    @torch.no_grad()
    def detections(self, outputs: dict[str, Any]) -> Detections:
        """Boxes after non-maximum suppression: per image ``boxes`` (n, 4) in pixels, ``scores`` and
        ``labels`` (>= 1), best first; of several networks they are there already."""
        if DETECTIONS in outputs:
            found: Detections = outputs[DETECTIONS]
            return found
        return suppressed(*self.boxes(outputs))

    def update_metrics(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics of both tasks with a batch."""
        for metric in self.metrics.values():
            if isinstance(metric, SegmentationScores):
                metric.update(outputs["segmentation"].argmax(1), batch["mask"])
            elif isinstance(metric, BoxScores):
                update_boxes(metric, self.detections(outputs), batch)

    def compute_metrics(self, stage: str) -> Scores:
        """mIoU, pixel accuracy, mAP, mAP50, and IoU and AP per class that occurs."""
        return compute_scores(self.metrics, self.hparams["class_names"])

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """The most frequent class everywhere; for each class its mean box."""
        found = {}
        if "segmentation" in self.metrics:
            found["majority"] = majority_class(data, split)
        if "detection" in self.metrics:
            found["mean_box"] = mean_boxes(data, split)
        return found

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Learned task weights are no weights of the network: they do not decay."""
        own = list(self.balance.parameters())
        groups = [{"params": [p for p in self.network.parameters() if p.requires_grad]}]
        return [*groups, {"params": own, "weight_decay": 0.0}] if own else groups

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Left to the balance: PCGrad projects gradients instead of adding losses."""
        self.balance.backward(loss, list(self.parameters()))

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> list[Seen]:
        """See `multitask.items`."""
        masks = outputs["segmentation"].argmax(1) if "segmentation" in outputs else None
        found = self.detections(outputs) if "class_logits" in outputs else None
        return observe(len(self.hparams["class_names"]), masks, found, batch)

    def items(self, observed: Sequence[list[Seen]]) -> Items:
        """Images with their mIoU, pixel accuracy and F1 of boxes."""
        return make_items([it for batch in observed for it in batch], self.hparams["class_names"])

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """``segmentation`` logits ``(B, C, S, S)``; ``boxes`` and ``scores``, see `boxes`."""
        outputs = self(images)
        found = {key: outputs[key] for key in ("segmentation",) if key in outputs}
        if "class_logits" in outputs:
            found |= dict(zip(("boxes", "scores"), self.boxes(outputs), strict=True))
        return found

    def export_notes(self) -> dict[str, Any]:
        """What the outputs are, and what is left to do with boxes."""
        notes: dict[str, Any] = {"outputs": {}}
        if "segmentation" in self.weights:
            notes["outputs"]["segmentation"] = "logits of the classes, of each pixel"
        if "detection" in self.weights:
            notes["outputs"] |= {
                "boxes": "candidates x1, y1, x2, y2 in pixels, before non-maximum suppression",
                "scores": "of each candidate for the classes from 1 on, in [0, 1]",
            }
            notes["suppression"] = dict(SUPPRESSION)
        return notes

    def report_notes(self) -> Notes:
        """Both losses are divided by what a batch holds: labelled pixels, points on objects."""
        return Notes(batch_losses=("train/loss", "val/loss"))

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int = 0) -> dict[str, Any]:
        """What is found in the images of a batch, which needs no targets.

        Returns:
            ``mask`` long (B, S, S), the class of each pixel; ``detections``, see `detections`; each
            as far as there is a head for it.
        """
        images = self.prepare(batch, targets=False)["image"]
        self._check_side("batch['image'] has", images.shape[-1])
        outputs = self(images)
        found: dict[str, Any] = {}
        if "segmentation" in outputs:
            found["mask"] = outputs["segmentation"].argmax(1)
        if "class_logits" in outputs:
            found["detections"] = self.detections(outputs)
        return found

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images by `multitask.figures.image_score`."""
        self.eval()

        def look(index: Tensor) -> Look:
            return self._predict(data, split, index)

        return best_and_worst(look, data, split, count)

    def _predict(self, data: StoreDataModule, split: str, index: Tensor) -> Look:
        """A batch, its predicted masks and its detections; None from a missing head."""
        batch = data.prepared(split, index, self.device)
        outputs = self(batch["image"])
        none = [None] * len(index)
        masks = list(outputs["segmentation"].argmax(1)) if "segmentation" in outputs else none
        found = self.detections(outputs) if "class_logits" in outputs else none
        return batch, masks, found

    def on_train_epoch_end(self) -> None:
        """Dynamic weight average goes by the mean losses of past epochs."""
        super().on_train_epoch_end()  # which logs them
        means = self.trainer.callback_metrics
        names = {
            name: f"train/loss/{name}" if len(self.weights) > 1 else "train/loss"
            for name in self.weights
        }
        self.balance.on_epoch_end({name: float(means[key]) for name, key in names.items()})


def _check_classes(names: Sequence[str]) -> None:
    """Refuse what is no list of two names or more.

    Raises:
        UserError: it is not.
    """
    listed = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if not listed or len(names) < 2 or len({*names}) < len(names):
        raise UserError(
            f"class_names={names!r}: must be a list of different names, at least two, that of the "
            "background first"
        )
