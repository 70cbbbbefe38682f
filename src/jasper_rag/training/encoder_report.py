"""What a run of encoder training says: the lines of its log, and the verdict at its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jasper_rag.training.encoder_state import BEST, EncoderRunState

_LOG = logging.getLogger(__name__)

_RULE = "=" * 60


def say_epoch(epoch: int, epochs: int) -> None:
    """A heading."""
    for line in (_RULE, f"Epoch {epoch}/{epochs}", _RULE):
        _LOG.info("%s", line)


def say_step(epoch: int, step: int, steps: int, figures: Mapping[str, float], rates: Mapping[str, float]) -> None:
    """Means of the last few steps."""
    shown = ", ".join(f"{name}={value:.4f}" for name, value in figures.items())
    _LOG.info("Epoch %d: %d/%d [%s] lr %s", epoch, step, steps, shown, listed_rates(rates))


def say_training(figures: Mapping[str, float], rates: Mapping[str, float]) -> None:
    """Means over an epoch."""
    _LOG.info("Training metrics:")
    _LOG.info("  Total Loss: %.4f", figures["total"])
    _say_terms(figures, "")
    _LOG.info("  Pos Distance (mean): %.3f", figures["pos_distance"])
    _LOG.info("  Embedding Std: %.3f", figures["embedding_std"])
    _LOG.info("  Learning rate (last step): %s", listed_rates(rates))


def say_validation(figures: Mapping[str, float], state: EncoderRunState) -> None:
    """Losses on val, retrieval beside the base, how the space is used."""
    _LOG.info("Validation metrics:")
    _LOG.info("  Total Loss: %.4f", figures["val_total"])
    _say_terms(figures, "val_")
    base = "" if state.base_ndcg is None else f" (base model {state.base_ndcg:.4f})"
    _LOG.info("  nDCG@10: %.4f%s", figures["ndcg@10"], base)
    _LOG.info("  Isotropy Score: %.3f, Effective Rank: %.1f", figures["isotropy_score"], figures["effective_rank"])


def say_start(figures: Mapping[str, float], state: EncoderRunState) -> None:
    """The model before training."""
    if not figures:
        _LOG.info("Without --val_data nothing can be compared: %s will be the last epoch", BEST)
        return
    base = "" if state.base_ndcg is None else f"; the base model: {state.base_ndcg:.4f}"
    _LOG.info("Before training: nDCG@10 %.4f on val%s", figures["ndcg@10"], base)


def listed_rates(rates: Mapping[str, float]) -> str:
    """`base 2.00e-05, projection 5.00e-04`."""
    return ", ".join(f"{name} {rate:.2e}" for name, rate in rates.items())


def verdict(state: EncoderRunState, trained_on: str | None = None) -> str:
    """What best_model.pt is, beside the base model.

    Args:
        state: At the end of a run.
        trained_on: Checkpoint that the run started from.
    """
    if state.best_ndcg is None:
        return f"Not compared with the base model, for want of --val_data: {BEST} is epoch {state.epoch}."
    best, base = state.best_ndcg, state.base_ndcg
    last = state.history[-1].get("ndcg@10", best) if state.history else best
    if state.best_epoch == 0:
        kept = f"the model of {trained_on} as it was" if trained_on else "the untrained head"
        said = f"No epoch found more on val than before training (nDCG@10 {best:.4f}, last epoch {last:.4f}): "
        said += f"{BEST} holds {kept}"
        same = trained_on is None and base is not None and abs(best - base) < 5e-5
        said += ", the identity: it ranks as the base model does." if same else "."
    else:
        said = f"Best on val: epoch {state.best_epoch}, nDCG@10 {best:.4f}"
        said += "." if base is None else f"; base model {base:.4f} ({best - base:+.4f})."
    if base is not None and best < base:
        said += f" It stays below the base model ({base:.4f}): search with the base model, or raise --output_dim."
    elif base is not None and last < base and state.best_epoch:
        said += f" The last epoch ({last:.4f}) is below the base model: use {BEST}, not final_model.pt."
    return said


def _say_terms(figures: Mapping[str, float], prefix: str) -> None:
    _LOG.info("  Contrastive Loss: %.4f", figures[f"{prefix}contrastive"])
    _LOG.info("  Isotropy Loss: %.4f", figures[f"{prefix}isotropy"])
    _LOG.info("  Regularization Loss: %.4f", figures[f"{prefix}regularization"])
    if figures[f"{prefix}predictive"]:
        _LOG.info("  Predictive Loss: %.4f", figures[f"{prefix}predictive"])
