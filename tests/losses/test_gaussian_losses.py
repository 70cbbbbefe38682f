from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.losses import gaussian_losses
from jasper_rag.losses.contrastive import ContrastiveLoss
from jasper_rag.losses.distance_contrast import Geometry
from jasper_rag.losses.gaussian_losses import (
    ContrastiveKind,
    GaussianObjective,
    info_nce,
    margin_contrastive,
    predictive,
)
from jasper_rag.losses.isotropy import IsotropyLoss


def batch(rows: int = 5, dim: int = 6, negatives: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, negatives + 2, dim)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn[:, 0].clone(), drawn[:, 1].clone(), drawn[:, 2:].clone()


def far(one: Tensor, other: Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other))


def test_margin_is_the_documented_formula() -> None:
    q, p, n = batch()
    terms = [max(far(q[i], p[i]) - far(q[i], n[i, k]) + 1.0, 0) for i in range(5) for k in range(2)]
    assert margin_contrastive(q, p, n).item() == pytest.approx(sum(terms) / 10)
    single = [max(far(q[i], p[i]) - far(q[i], n[i, 0]) + 0.3, 0) for i in range(5)]
    assert margin_contrastive(q, p, n[:, 0], 0.3).item() == pytest.approx(sum(single) / 5)


def test_without_negatives_the_nearest_other_positive_stands_in() -> None:
    q, p, n = batch()
    others = [min(far(q[i], p[j]) for j in range(5) if j != i) for i in range(5)]
    terms = [max(far(q[i], p[i]) - others[i] + 1.0, 0) for i in range(5)]
    assert margin_contrastive(q, p).item() == pytest.approx(sum(terms) / 5)
    # A batch may mix queries with and without negatives.
    ids = torch.tensor([[7, 8], [-1, 9], [-1, -1], [7, 8], [7, 8]])
    mixed = [
        [max(far(q[i], p[i]) - far(q[i], n[i, k]) + 1.0, 0) for k in range(2) if ids[i, k] >= 0] or [terms[i]]
        for i in range(5)
    ]
    expected = sum(sum(each) / len(each) for each in mixed) / 5
    assert margin_contrastive(q, p, n, negative_ids=ids).item() == pytest.approx(expected)


def test_equal_documents_are_no_negatives_of_each_other() -> None:
    q, p, n = batch(3)
    p[1] = p[0]
    ids, negative_ids = torch.tensor([4, 4, 5]), torch.tensor([[4, 9], [5, 9], [9, 4]])
    known = torch.tensor([[-1], [-1], [4]])
    # What the first query is compared with: its own, the other document, and whose number is not 4.
    compared = torch.stack([p[0], p[2], n[0, 1], *n[1], n[2, 0]])
    first = torch.cdist(q[:1], compared).square() / -(2 * 6 * 0.5)
    found = [
        functional.cross_entropy(row.unsqueeze(0), torch.tensor([i])).item()
        for i, row in enumerate(_logits(q, p, n, ids, negative_ids, known))
    ]
    loss = info_nce(q, p, n, 0.5, positive_ids=ids, negative_ids=negative_ids, known_positives=known)
    assert loss.item() == pytest.approx(sum(found) / 3)
    assert found[0] == pytest.approx(functional.cross_entropy(first, torch.tensor([0])).item())
    # The third query knows both other positives: nothing is left to contrast with.
    margin = margin_contrastive(q, p, positive_ids=ids, known_positives=known)
    terms = [max(far(q[i], p[i]) - far(q[i], p[2]) + 1.0, 0) for i in range(2)]
    assert margin.item() == pytest.approx(sum(terms) / 3)
    usable = [(0, 1), (1, 0), (1, 1), (2, 0)]
    parts = [[max(far(q[i], p[i]) - far(q[i], n[i, k]) + 1.0, 0) for j, k in usable if j == i] for i in range(3)]
    mined_loss = margin_contrastive(q, p, n, positive_ids=ids, negative_ids=negative_ids, known_positives=known)
    assert mined_loss.item() == pytest.approx(sum(sum(each) / len(each) for each in parts) / 3)


def _logits(q: Tensor, p: Tensor, n: Tensor, ids: Tensor, negative_ids: Tensor, known: Tensor) -> Tensor:
    candidates = torch.cat([p, n.reshape(-1, n.shape[-1])])
    numbers = torch.cat([ids, negative_ids.reshape(-1)])
    logits = -torch.cdist(q, candidates).square() / (2 * q.shape[1] * 0.5)
    for i in range(len(q)):
        for j, number in enumerate(numbers.tolist()):
            if j != i and (number in {int(ids[i]), *known[i].tolist()} or number < 0):
                logits[i, j] = float("-inf")
    return logits


def test_info_nce_is_the_cross_entropy_of_squared_distances() -> None:
    q, p, n = batch()
    logits = -torch.cdist(q, torch.cat([p, n.reshape(-1, 6)])).square() / (2 * 6 * 0.3)
    expected = functional.cross_entropy(logits, torch.arange(5))
    torch.testing.assert_close(info_nce(q, p, n, 0.3), expected)
    ids = torch.tensor([[1, 2], [3, -1], [5, 6], [7, 8], [-1, 9]])
    logits[:, [8, 13]] = float("-inf")
    torch.testing.assert_close(
        info_nce(q, p, n, 0.3, negative_ids=ids), functional.cross_entropy(logits, torch.arange(5))
    )


@pytest.mark.parametrize("geometry", ["l2", "cosine"])
def test_for_rows_of_one_length_it_is_the_usual_info_nce(geometry: Geometry) -> None:
    q, p, _ = (functional.normalize(each, dim=-1) * 6**0.5 for each in batch())
    usual = ContrastiveLoss(0.07)(q, p, target_rows=torch.arange(5))["contrastive"]
    torch.testing.assert_close(info_nce(q, p, None, 0.07, positive_ids=torch.arange(5), geometry=geometry), usual)
    if geometry == "cosine":
        torch.testing.assert_close(info_nce(3 * q, p, None, 0.07, geometry=geometry), usual)


def test_a_lone_query_costs_nothing() -> None:
    q, p, _ = batch(1)
    assert info_nce(q, p).item() == pytest.approx(0)
    assert margin_contrastive(q.requires_grad_(), p).item() == 0
    torch.autograd.backward(margin_contrastive(q, p))
    assert q.grad is not None
    assert not q.grad.any()


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences() -> None:
    inputs = tuple(each.requires_grad_() for each in batch(4))
    for loss in (info_nce, margin_contrastive):
        assert torch.autograd.gradcheck(lambda q, p, n, loss=loss: loss(q, p, n, 0.7), inputs)
        assert torch.autograd.gradcheck(lambda q, p, loss=loss: loss(q, p, None, 0.7), inputs[:2])


def test_prediction_pulls_the_query_side_only() -> None:
    q, p, _ = (each.requires_grad_() for each in batch())
    loss = predictive(q, p)
    torch.testing.assert_close(loss, (2 - 2 * torch.cosine_similarity(q, p)).mean())
    torch.autograd.backward(loss)
    assert p.grad is None
    assert q.grad is not None
    # Shrinking does not help.
    assert (q.grad * q).sum(dim=1).abs().max() < 1e-9


@pytest.mark.parametrize("kind", ["infonce", "margin"])
@pytest.mark.parametrize("mined", [False, True])
def test_ranks_learn_what_one_with_the_whole_batch_would(
    kind: ContrastiveKind, mined: bool, in_threads: Callable[[int, Callable[[int], Any]], list[Any]]
) -> None:
    q, p, n = batch(8)
    ids, negative_ids = torch.tensor([0, 1, 1, 3, 4, 5, 0, 7]), torch.arange(16).reshape(8, 2) - 1

    def gradients(rows: slice) -> tuple[Tensor, list[Tensor]]:
        objective = GaussianObjective(
            6, contrastive=0.7, isotropy=0.3, regularization=0.4, predictive=0.2, kind=kind, queue_size=4
        )
        own = [each[rows].clone().requires_grad_() for each in (q, p, n)]
        given = own if mined else [*own[:2], None]
        total, _ = objective(
            *given, own[0] * 1.1, positive_ids=ids[rows], negative_ids=negative_ids[rows] if mined else None
        )
        return total.detach(), list(torch.autograd.grad(total, own if mined else own[:2]))

    total, expected = gradients(slice(0, 8))
    ranks = in_threads(2, lambda rank: gradients(slice(4 * rank, 4 * rank + 4)))
    torch.testing.assert_close(torch.stack([value for value, _ in ranks]).mean(), total)
    for part, wanted in enumerate(expected):
        torch.testing.assert_close(torch.cat([found[part] for _, found in ranks]) / 2, wanted)


def test_each_weight_counts_once_and_terms_are_reported_unweighted() -> None:
    q, p, n = batch(6, 4)
    objective = GaussianObjective(
        4, contrastive=2.0, isotropy=0.5, regularization=3.0, predictive=0.25, queue_size=0, temperature=0.4
    )
    total, terms = objective(q, p, n, 0.9 * q)
    sides = [IsotropyLoss("closed", 4)(rows) for rows in (q, p)]
    expected = {
        "contrastive": info_nce(0.9 * q, p, n, 0.4),
        "isotropy": (sides[0] + sides[1]) / 2,
        "regularization": (torch.cat([q, p]).std() - 1).square(),
        "predictive": predictive(0.9 * q, p),
        "pos_distance": (0.9 * q - p).norm(dim=1).mean() / 2,
        "embedding_std": torch.cat([q, p]).std(),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    weights = {"contrastive": 2.0, "isotropy": 0.5, "regularization": 3.0, "predictive": 0.25}
    torch.testing.assert_close(
        total, sum((w * expected[name] for name, w in weights.items()), torch.zeros(())).double()
    )


def test_the_margin_is_in_units_of_the_root_of_d() -> None:
    q, p, n = batch(5, 9)
    objective = GaussianObjective(9, isotropy=0, regularization=0, kind="margin", margin=0.8)
    torch.testing.assert_close(objective(q, p, n)[0], margin_contrastive(q / 3, p / 3, n / 3, 0.8))


def test_terms_of_weight_zero_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> Tensor:
        raise AssertionError("computed")

    for name in ("info_nce", "margin_contrastive", "predictive"):
        monkeypatch.setattr(gaussian_losses, name, forbidden)
    q, p, _ = batch()
    q.requires_grad_()
    total, terms = GaussianObjective(6, contrastive=0, isotropy=0, regularization=0)(q, p, None, q)
    assert total == 0
    assert {name for name, value in terms.items() if value != 0} == {"pos_distance", "embedding_std"}
    torch.autograd.backward(total)
    objective = GaussianObjective(6, contrastive=0, isotropy=0, regularization=1)
    assert list(objective.state_dict()) == []
    assert objective(q, p)[0] > 0


def test_a_resumed_objective_goes_on_bit_for_bit() -> None:
    first = GaussianObjective(6, isotropy=1.0, queue_size=12, isotropy_kind="sliced")
    first(*batch(seed=1))
    saved = {name: each.clone() if isinstance(each, Tensor) else each for name, each in first.state_dict().items()}
    again = GaussianObjective(6, isotropy=1.0, queue_size=12, isotropy_kind="sliced")
    again.load_state_dict(saved)
    for seed in (2, 3):
        assert torch.equal(first(*batch(seed=seed))[0], again(*batch(seed=seed))[0])


def test_it_computes_in_float32_under_autocast() -> None:
    q, p, n = (each.bfloat16() for each in batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = GaussianObjective(6, predictive=1.0)(q, p, n, q)
    plain, _ = GaussianObjective(6, predictive=1.0)(q.float(), p.float(), n.float(), q.float())
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, plain)


def test_wrong_settings_and_shapes_are_refused() -> None:
    q, p, n = batch()
    with pytest.raises(ValueError, match=r"\[5, 6\] for positives \[4, 6\]"):
        info_nce(q, p[:4])
    with pytest.raises(ValueError, match=r"negatives \[4, 2, 6\]"):
        margin_contrastive(q, p, n[:4])
    with pytest.raises(ValueError, match="positive, got 0"):
        info_nce(q, p, None, 0.0)
    with pytest.raises(ValueError, match="l2 or cosine"):
        info_nce(q, p, geometry="dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="infonce or margin"):
        GaussianObjective(6, kind="triplet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        GaussianObjective(6, isotropy=-1)
    with pytest.raises(ValueError, match="got None"):
        GaussianObjective(6, predictive=1.0)(q, p)
