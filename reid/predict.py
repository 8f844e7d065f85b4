"""Predictions of re-identification: what a gallery holds that looks most like each query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from phasewise.data.images import UINT8
from phasewise.errors import Problem, UserError
from phasewise.inference.prediction.drawing import gallery_strip
from phasewise.inference.prediction.output import PredictionOutput, output_folder, results_in
from phasewise.inference.prediction.predictor import Predictor, Reader, Row, progress
from phasewise.inference.prediction.sources import Item, list_images
from reid.distances import Distance, Space, joined
from reid.module import ReidModule
from reid.reranking import ReRanking, reranked_rows

Distances = NDArray[np.float64]

QUERIES = 256
"""At once against the gallery."""


class ReidPredictor(Predictor):
    """The first ``top`` gallery images of each query, nearest first, by the distance of the
    checkpoint's ``evaluation``; a gallery image that is the query's own file is left out.

    Features of several networks are put behind each other, see `reid.distances.joined`.
    """

    keys: ClassVar[frozenset[str]] = frozenset({"gallery", "top"})

    def check_members(self) -> None:
        """Identities of training do not matter; how features are compared does.

        Raises:
            UserError: there is no gallery.
        """
        keys = ("distance", "rerank")
        self.evaluation = self.alike(
            "the distances", lambda member: {k: member.config["evaluation"][k] for k in keys}
        )
        if self.settings.gallery is None:
            raise UserError("gallery=FOLDER must be given: where to look for the source's images")
        results = results_in(output_folder(self.settings))
        self.gallery = list_images(self.settings.gallery, "gallery", results)

    @property
    def tables(self) -> dict[str, Sequence[str]]:
        """A row per query and rank."""
        return {"ranking": ("query", "rank", "file", "distance")}

    @property
    def folders(self) -> tuple[str, ...]:
        """The ranked lists."""
        return () if self.settings.pictures == "none" else ("rankings",)

    def heading(self) -> dict[str, Any]:
        """How features were compared."""
        return dict(self.evaluation)

    def sources(self, items: Sequence[Item]) -> Sequence[Item]:
        """The gallery too."""
        return [*items, *self.gallery]

    def run(
        self, items: Sequence[Item], reader: Reader, output: PredictionOutput
    ) -> tuple[list[dict[str, Any]], dict[str, list[Row]]]:
        """See `Predictor.run`."""
        queries, asked = self._features(items, reader, "queries")
        gallery, there = self._features(self.gallery, reader, "gallery")
        if not (queries and gallery):
            return [], {"ranking": []}
        entries: list[dict[str, Any]] = []
        rows: list[Row] = []
        paths = np.array([str(item.path.resolve()) for item in gallery])
        found = self._ranked(
            asked, there, np.array([str(q.path.resolve()) for q in queries]), paths
        )
        for query, ranked in zip(queries, progress(found, "ranking", len(queries)), strict=True):
            matches = [(gallery[row], round(distance, 6)) for row, distance in ranked]
            entry: dict[str, Any] = {
                "file": query.name,
                "ranked": [_match(*match) for match in matches],
            }
            if self.settings.pictures != "none":
                name = f"rankings/{query.stem}.{self.settings.pictures}"
                entry["ranking"] = output.picture(name, self._strip(reader, query, matches))
            entries.append(entry)
            rows += [
                (query.name, rank, item.name, distance)
                for rank, (item, distance) in enumerate(matches, 1)
            ]
        return entries, {"ranking": rows}

    def _features(
        self, items: Sequence[Item], reader: Reader, what: str
    ) -> tuple[list[Item], Tensor]:
        """The images that could be read, and what retrieval compares of them, (N, E) on the CPU."""
        kept: list[Item] = []
        found = []
        for batch in reader.batches(items, self.settings.batch_size, what):
            kept += [item for item, _ in batch]
            with torch.inference_mode():
                found.append(self.embed([image for _, image in batch]))
        return kept, torch.cat(found) if found else torch.zeros(0, 1)

    def embed(self, images: Sequence[UINT8]) -> Tensor:
        """Images (H, W, 3) to features (N, E) on the CPU."""
        parts = []
        for member, resize in zip(self.members, self.resizes, strict=True):
            assert isinstance(member.module, ReidModule)
            found: list[Tensor] = [torch.zeros(0)] * len(images)
            for rows, batch, is_mirrored in self.views([resize.image(image) for image in images]):
                features = member.module.features(batch).cpu()
                for row, feature in zip(rows, features, strict=True):
                    found[row] = (found[row] + feature) / 2 if is_mirrored else feature
            parts.append(torch.stack(found))
        return joined(parts, self.evaluation["distance"])

    def _ranked(
        self, queries: Tensor, gallery: Tensor, own: NDArray[Any], paths: NDArray[Any]
    ) -> Iterator[list[tuple[int, float]]]:
        """Of each query the nearest gallery rows and their distances."""
        kind = self.evaluation["distance"]
        rows: Iterator[Distances]
        if self.evaluation["rerank"]:
            rows = map(itemgetter(1), reranked_rows(queries, gallery, ReRanking(), kind))
        else:
            rows = distances(queries, gallery, kind)
        for row, path in zip(rows, own, strict=True):
            order = np.argsort(row, kind="stable")
            order = order[paths[order] != path][: self.settings.top]
            yield [(int(i), float(row[i])) for i in order]

    def _strip(
        self, reader: Reader, query: Item, matches: Sequence[tuple[Item, float]]
    ) -> Image.Image:
        """The query and what was found, in one picture."""
        captions = [f"query\n{query.name}"]
        captions += [f"{i}  at {d:.3f}\n{item.name}" for i, (item, d) in enumerate(matches, 1)]
        pictures = []
        for item in (query, *(item for item, _ in matches)):
            found = reader.read(item)
            if isinstance(found, Problem):
                raise UserError(f"{found} (it could be read a moment ago)")
            pictures.append(found)
        return gallery_strip(list(zip(pictures, captions, strict=True)))


def distances(queries: Tensor, gallery: Tensor, kind: Distance) -> Iterator[Distances]:
    """Distances (G,) of each query to the gallery: 1 - cosine, or Euclidean."""
    space = Space(gallery, kind)
    for part in queries.split(QUERIES):
        values = space.scores(part, slice(None)).clip(0)
        if kind == "cosine":
            norms = part.double().norm(dim=1, keepdim=True).clamp_min(1e-300).numpy()
            yield from values / norms
        else:
            yield from np.sqrt(values)


def _match(item: Item, distance: float) -> dict[str, Any]:
    return {"file": item.name, "distance": distance}
