"""InfoNCE: the answering source against all sources, or against the batch and mined hard negatives.

    L = mean_i w_i [ log sum_{c in C_i} exp(cos(p_i, c) / T) - cos(p_i, t_i) / T ]            (arXiv:1807.03748)

C_i holds the target t_i and the negatives of question i; sources known to answer it are never among the negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.losses.gathering import (
    Reduction,
    check_reduction,
    first_row,
    gather_rows,
    over_all_ranks,
    weighted_mean,
)
from jasper_rag.losses.source_softmax import source_softmax
from jasper_rag.losses.unit_rows import EPS, UnitRows, full_precision, unit_rows, widened


class ContrastiveLoss(nn.Module):
    """Cross-entropy of the target among its negatives; logits are cosines divided by the temperature.

    Args:
        temperature: T > 0.
        reduction: "mean" or "sum" over the questions of all ranks.
        in_batch: Without `sources`, the other targets of the batch (of all ranks) are negatives too.

    Raises:
        ValueError: The temperature is not positive, or the reduction is unknown.
    """

    def __init__(self, temperature: float = 0.07, reduction: Reduction = "mean", *, in_batch: bool = True) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        check_reduction(reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction
        self.in_batch = in_batch
        self._unit_sources = UnitRows()

    def forward(
        self,
        predicted: Tensor,
        target: Tensor,
        negatives: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        target_rows: Tensor | None = None,
        known_positives: Tensor | None = None,
        negative_rows: Tensor | None = None,
        sources: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch; rows are source numbers >= 0 and are compared only where given.

        Args:
            predicted: [B, D].
            target: [B, D]; may carry gradient. Not looked at with `sources`.
            negatives: [B, K, D] hard negatives; may carry gradient. Not looked at with `sources`.
            weight: [B] non-negative; equal when None.
            target_rows: int64 [B], the source of each target.
            known_positives: int64 [B, W], every source known to answer each question; -1 pads.
            negative_rows: int64 [B, K], the sources of `negatives`; -1 marks one that does not count.
            sources: [M, D], all train sources: the exact softmax over them. May carry gradient.

        Returns:
            {"contrastive": scalar in nats}.

        Raises:
            ValueError: There is nothing to contrast with, `target_rows` is missing beside `sources`, or shapes differ.
        """
        self._check(predicted, target, negatives, target_rows, sources)
        with full_precision(predicted):
            unit = unit_rows(predicted)
            weight = None if weight is None else weight.to(unit)
            if sources is not None and target_rows is not None:
                own = target_rows.unsqueeze(1)
                mean = source_softmax(
                    unit,
                    self._unit_sources(sources),
                    target_rows,
                    own if known_positives is None else known_positives,
                    temperature=self.temperature,
                    weight=weight,
                    source_gradient=sources.requires_grad,
                )
            else:
                logits, label = self._batch_logits(unit, target, target_rows, known_positives)
                if negatives is not None:
                    hard = self._hard_logits(unit, negatives, negative_rows, target_rows, known_positives)
                    logits = torch.cat([logits, hard], dim=1)
                mean = weighted_mean(functional.cross_entropy(logits, label, reduction="none"), weight)
            return {"contrastive": over_all_ranks(mean, weight, self.reduction, len(predicted))}

    def _check(
        self,
        predicted: Tensor,
        target: Tensor,
        negatives: Tensor | None,
        target_rows: Tensor | None,
        sources: Tensor | None,
    ) -> None:
        if sources is not None:
            if target_rows is None:
                raise ValueError("the softmax over all sources needs target_rows; got None.")
            return
        if predicted.shape != target.shape:
            raise ValueError(f"predictions {list(predicted.shape)} for targets {list(target.shape)}.")
        if negatives is None and not self.in_batch:
            raise ValueError("the contrastive loss needs negatives, or sources, or in_batch=True; got none of them.")
        if negatives is not None and (negatives.ndim != 3 or negatives.shape[::2] != predicted.shape):
            raise ValueError(f"negatives {list(negatives.shape)} for predictions {list(predicted.shape)}.")

    def _batch_logits(
        self, unit: Tensor, target: Tensor, target_rows: Tensor | None, known_positives: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits of the own target and, with `in_batch`, of everybody else's; and the column of the own one."""
        scaled, own = unit / self.temperature, unit_rows(target)
        columns = torch.arange(len(unit), device=unit.device)
        if not self.in_batch:
            return (scaled * own).sum(dim=1, keepdim=True), torch.zeros_like(columns)
        label = columns + first_row(len(unit))
        logits = scaled @ gather_rows(own).T
        if target_rows is not None:
            hidden = rows_among(_answers(target_rows, known_positives), gather_rows(target_rows))
            hidden[columns, label] = False
            logits = logits.masked_fill(hidden, float("-inf"))
        return logits, label

    def _hard_logits(
        self,
        unit: Tensor,
        negatives: Tensor,
        negative_rows: Tensor | None,
        target_rows: Tensor | None,
        known_positives: Tensor | None,
    ) -> Tensor:
        """[B, K]. The lengths divide the dot products: no normalised copy of [B, K, D] is made."""
        wide = widened(negatives)
        lengths = torch.linalg.vector_norm(wide, dim=2).clamp_min(EPS)
        logits: Tensor = torch.bmm(wide, (unit / self.temperature).unsqueeze(2)).squeeze(2) / lengths
        if negative_rows is None:
            return logits
        hidden = negative_rows < 0
        answers = known_positives if target_rows is None else _answers(target_rows, known_positives)
        if answers is not None:
            hidden = hidden | (negative_rows.unsqueeze(2) == answers.unsqueeze(1)).any(dim=2)
        return logits.masked_fill(hidden, float("-inf"))


def rows_among(answers: Tensor, rows: Tensor) -> Tensor:
    """Which of `rows` int64 [N] stand in each line of `answers` int64 [B, W]: bool [B, N].

    By binary search, O((B W + N) log N + B N), where comparing all with all takes B W N numbers of memory.
    """
    ordered = rows.sort().values
    # Equal rows share the place of the first of them.
    place = torch.searchsorted(ordered, rows.contiguous())
    found = torch.searchsorted(ordered, answers.contiguous())
    absent = ordered[found.clamp_max(len(rows) - 1)] != answers
    hit = torch.zeros(len(answers), len(rows) + 1, dtype=torch.bool, device=rows.device)
    hit.scatter_(1, found.masked_fill(absent, len(rows)), True)
    return hit.gather(1, place.expand(len(answers), -1))


def _answers(target_rows: Tensor, known_positives: Tensor | None) -> Tensor:
    own = target_rows.unsqueeze(1)
    return own if known_positives is None else torch.cat([known_positives, own], dim=1)
