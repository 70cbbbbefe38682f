"""Why this prediction: its topics, its parts, what steering did, how usual it is, and the known pairs most like it.

    routing_distribution   probabilities w of the K subspaces, with the steering given
    steering_influence     KL(w with steering || w without) = sum_k w_k log(w_k / w'_k), in nats
    steering_shift         |p(q, s) - p(q, 0)|
    atypicality            length of what the subspaces do not explain, without steering

All rows are computed at once; every value is plain Python, rounded to 7 decimals, which is what float32 holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.explain.actionable_signal import NAMED, SignalFacts, actionable_signal
from jasper_rag.explain.known_pairs import KnownPairs
from jasper_rag.explain.model_reading import ModelReader, Predictor, Reading, divergence
from jasper_rag.explain.xai_output import plain_values, save_xai_outputs, told_apart
from jasper_rag.models.subspace_router import SubspaceRouter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Embeddings = Tensor | NDArray[Any]
"""Rows of a torch tensor or of an array; read as float32."""

ALIASES = {
    "prediction": "predicted_source_emb",
    "primary_confidence": "confidence",
    "similar_pairs": "similar_known_pairs",
}
"""Spelling of the original project -> key here; both keys hold the same object."""

VECTOR_KEYS = ("predicted_source_emb", "prediction", "coarse_vector", "fine_vector")
"""Keys that `vectors=False` leaves out."""


class XAIInterface:
    """Explains predictions of one model, and leaves that model as it is: its mode, its device, its latents.

    Args:
        model: A `SubspacePredictor`, a `DecomposedJASPERPredictor` or a `JASPERPredictor`. Its weights are shared
            while it stays where it is, so an explanation follows the training.
        centroid_embs: [K, D]; None takes those of a `SubspacePredictor`.
        cluster_names: K names. Equal ones are told apart by their number.
        training_pairs: Known pairs as (question, steering, source) embeddings, without texts.
        device: Where to compute; None: where the model is. Elsewhere a copy of the model is made.
        known_pairs: Known pairs with texts; instead of `training_pairs`.
        router: A calibrated router, whose probabilities are given instead of the model's.
        atypicality_reference: Ascending atypicalities of the training pairs (`atypicalities`); None leaves
            `atypicality_quantile` None.
        num_similar_pairs: How many known pairs to list; 0 for none.

    Raises:
        ValueError: K, D or the lengths differ, or a value is not finite.
    """

    def __init__(
        self,
        model: Predictor,
        centroid_embs: Tensor | None,
        cluster_names: Sequence[str],
        training_pairs: Iterable[tuple[Tensor, Tensor, Tensor]] | None = None,
        device: torch.device | str | None = None,
        *,
        known_pairs: KnownPairs | None = None,
        router: SubspaceRouter | None = None,
        atypicality_reference: NDArray[np.floating[Any]] | None = None,
        num_similar_pairs: int = 5,
    ) -> None:
        self._reader = ModelReader(model, centroid_embs, router, device)
        if len(cluster_names) != self._reader.num_subspaces:
            raise ValueError(f"{len(cluster_names)} names for {self._reader.num_subspaces} centroids.")
        if num_similar_pairs < 0:
            raise ValueError(f"num_similar_pairs must be at least 0, got {num_similar_pairs}.")
        given = list(training_pairs) if training_pairs is not None else []
        if given and known_pairs is not None:
            raise ValueError(f"{len(given)} training_pairs beside {len(known_pairs)} known_pairs; give one of the two.")
        self.known_pairs = KnownPairs.of_tensors(given) if given else known_pairs
        if self.known_pairs is not None and self.known_pairs.dimension != self._reader.embedding_dim:
            width = self._reader.embedding_dim
            raise ValueError(f"known questions of width {self.known_pairs.dimension} for a model of width {width}.")
        self.cluster_names = told_apart(cluster_names)
        self.num_similar_pairs = num_similar_pairs
        self._reference = None if atypicality_reference is None else _checked_reference(atypicality_reference)

    def explain_prediction(self, question_emb: Embeddings, steering_emb: Embeddings | None = None) -> dict[str, Any]:
        """Explain the prediction for one question; keys as on docs/nn/XAI_INTERFACE.md.

        Args:
            question_emb: [D] or [1, D].
            steering_emb: Likewise; None is no steering.

        Raises:
            ValueError: Another shape, or a value that is not finite.
        """
        question = self._rows(question_emb, "question")
        if len(question) != 1:
            raise ValueError(f"{len(question)} questions to explain_prediction, which takes 1; use explain_batch.")
        return self.explain_batch(question, steering_emb)[0]

    def explain_batch(
        self, questions: Embeddings, steering: Embeddings | None = None, *, vectors: bool = True
    ) -> list[dict[str, Any]]:
        """Explain the predictions for B questions, each as `explain_prediction` does.

        Args:
            questions: [B, D], B at least 1.
            steering: [B, D], or one [D] for all; None is no steering.
            vectors: False leaves `VECTOR_KEYS` out: most of the time and nearly all of the size.

        Raises:
            ValueError: Another shape, or a value that is not finite.
        """
        asked = self._rows(questions, "questions")
        steered = None if steering is None else self._steering(steering, len(asked))
        plain = self._reader.read(asked)
        found = plain if steered is None else self._reader.read(asked, steered)
        columns = self._columns(asked, plain, found, steered)
        if vectors:
            columns |= _vector_columns(found)
        columns |= {alias: columns[key] for alias, key in ALIASES.items() if key in columns}
        keys = tuple(columns)
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def compare_steering_influence(
        self,
        question_emb: Embeddings,
        steering_embs: Sequence[Embeddings | None],
        labels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """One question with n steerings side by side, in lists.

        Args:
            question_emb: [D] or [1, D].
            steering_embs: n of [D] or [1, D]; None is no steering.
            labels: n names; None numbers them.

        Returns:
            `labels`, `routing_matrices` [n, K], `predictions` [n, D], `atypicalities` [n] (of each prediction, steering
            included), `primary_subspaces` (n names); and of all but the first `routing_kl_from_first`,
            KL(w_i || w_0) in nats, and `prediction_shift_from_first`, |p_i - p_0|.

        Raises:
            ValueError: No steering, n labels are not given, another shape, or a value that is not finite.
        """
        question = self._rows(question_emb, "question")
        if len(question) != 1 or not steering_embs:
            raise ValueError(f"give 1 question and at least 1 steering, got {len(question)} and {len(steering_embs)}.")
        named = [f"steering_{place}" for place in range(len(steering_embs))] if labels is None else list(labels)
        if len(named) != len(steering_embs):
            raise ValueError(f"{len(named)} labels for {len(steering_embs)} steerings.")
        nothing = torch.zeros_like(question)
        rows = [nothing if each is None else self._steering(each, 1) for each in steering_embs]
        found = self._reader.read(question.expand(len(rows), -1), torch.cat(rows))
        prediction = found.prediction.double()
        return {
            "labels": named,
            "routing_matrices": plain_values(found.routing),
            "predictions": plain_values(found.prediction),
            "atypicalities": plain_values(found.atypicality),
            "primary_subspaces": [self.cluster_names[row] for row in found.routing.argmax(dim=-1).tolist()],
            "routing_kl_from_first": plain_values(divergence(found.routing[1:], found.routing[:1])),
            "prediction_shift_from_first": plain_values(
                torch.linalg.vector_norm(prediction[1:] - prediction[:1], dim=-1)
            ),
        }

    def atypicalities(self, questions: Embeddings) -> NDArray[np.float32]:
        """Atypicality of [B, D] questions, float32 [B]; sorted, those of training pairs are a reference."""
        found = self._reader.read(self._rows(questions, "questions")).atypicality
        return found.to("cpu", torch.float32).numpy()

    @staticmethod
    def visualize_explanation(
        xai: Mapping[str, Any], title: str | None = None, save_path: str | Path | None = None
    ) -> Figure:
        """See `xai_figure.visualize_explanation`."""
        from jasper_rag.explain.xai_figure import visualize_explanation

        return visualize_explanation(xai, title, save_path)

    @staticmethod
    def save_xai_outputs(outputs: Sequence[Mapping[str, Any]], path: str | Path) -> None:
        """See `xai_output.save_xai_outputs`."""
        save_xai_outputs(outputs, path)

    def _columns(self, asked: Tensor, plain: Reading, found: Reading, steered: Tensor | None) -> dict[str, list[Any]]:
        """Key -> a value for each question, but for vectors and aliases."""
        weights = found.routing.double()
        first = weights.topk(min(NAMED, weights.shape[1]), dim=-1)
        primary = first.indices[:, 0].tolist()
        shift = torch.linalg.vector_norm(found.prediction.double() - plain.prediction.double(), dim=-1)
        quantiles = self._quantiles(plain.atypicality)
        names = self.cluster_names
        return {
            "primary_subspace": [names[row] for row in primary],
            "primary_subspace_id": primary,
            "confidence": plain_values(first.values[:, 0]),
            "routing_distribution": [dict(zip(names, row, strict=True)) for row in plain_values(weights)],
            "routing_entropy": plain_values(torch.special.entr(weights).sum(dim=-1)),
            "steering_influence": plain_values(divergence(weights, plain.routing)),
            "steering_shift": plain_values(shift),
            "atypicality": plain_values(plain.atypicality),
            "atypicality_quantile": quantiles,
            "similar_known_pairs": self._similar(asked),
            "actionable_signal": self._signals(first, quantiles, steered, plain, shift),
        }

    def _signals(
        self,
        first: torch.return_types.topk,
        quantiles: Sequence[float | None],
        steered: Tensor | None,
        plain: Reading,
        shift: Tensor,
    ) -> list[str]:
        names = self.cluster_names
        given = [False] * len(shift) if steered is None else steered.any(dim=-1).tolist()
        length = torch.linalg.vector_norm(plain.prediction.double(), dim=-1).clamp_min(1e-12)
        before = plain.routing.argmax(dim=-1).tolist()
        rows = zip(
            first.indices.tolist(),
            first.values.tolist(),
            quantiles,
            given,
            before,
            (shift / length).tolist(),
            strict=True,
        )
        return [
            actionable_signal(SignalFacts([names[row] for row in best], share, quantile, is_given, names[old], moved))
            for best, share, quantile, is_given, old, moved in rows
        ]

    def _similar(self, asked: Tensor) -> list[list[dict[str, Any]]]:
        if self.known_pairs is None or self.num_similar_pairs == 0:
            return [[] for _ in range(len(asked))]
        return self.known_pairs.described(*self.known_pairs.nearest(asked.cpu().numpy(), self.num_similar_pairs))

    def _quantiles(self, atypicality: Tensor) -> list[float | None]:
        """Share of the reference that is not above each value."""
        if self._reference is None:
            return [None] * len(atypicality)
        below = np.searchsorted(self._reference, atypicality.to("cpu", torch.float32).numpy(), side="right")
        return plain_values(torch.from_numpy(below / len(self._reference)))

    def _rows(self, given: Embeddings, name: str) -> Tensor:
        """As float32 [B, D] on the device."""
        if isinstance(given, np.ndarray):
            given = torch.tensor(given)
        rows = given.detach().to(self._reader.device, torch.float32)
        rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
        width = self._reader.embedding_dim
        if rows.ndim != 2 or rows.shape[1] != width or len(rows) == 0:
            raise ValueError(f"{name} {list(given.shape)}, where [B, {width}] with B at least 1 is needed.")
        bad = ~torch.isfinite(rows).all(dim=-1)
        if bool(bad.any()):
            raise ValueError(
                f"{int(bad.sum())} of {len(rows)} rows of {name} are not finite, the first is row "
                f"{int(bad.nonzero()[0])}."
            )
        return rows

    def _steering(self, given: Embeddings, count: int) -> Tensor:
        rows = self._rows(given, "steering")
        if given.ndim == 1:
            return rows.expand(count, -1)
        if len(rows) != count:
            raise ValueError(f"steering of {len(rows)} rows for {count} questions.")
        return rows


def _vector_columns(found: Reading) -> dict[str, list[Any]]:
    none: list[Any] = [None] * len(found.prediction)
    return {
        "predicted_source_emb": plain_values(found.prediction),
        "coarse_vector": none if found.coarse is None else plain_values(found.coarse),
        "fine_vector": none if found.fine is None else plain_values(found.fine),
    }


def _checked_reference(reference: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    values = np.asarray(reference, dtype=np.float32)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"atypicality_reference must be finite numbers [n], n at least 1, got {list(values.shape)}.")
    if (np.diff(values) < 0).any():
        place = int(np.flatnonzero(np.diff(values) < 0)[0])
        raise ValueError(f"atypicality_reference must ascend, got {values[place]} before {values[place + 1]}.")
    return values
