from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder
from jasper_rag.training.objective import Objective

B, D, K, C, M = 4, 6, 2, 3, 9


class Source:
    """Sources and centroids of a split."""

    def __init__(self, *, sources: bool = True) -> None:
        generator = torch.Generator().manual_seed(0)
        unit = nn.functional.normalize
        self.every = unit(torch.randn(M, D, generator=generator), dim=1)
        self.sources: Tensor | None = self.every if sources else None
        self.centroids: Tensor | None = unit(torch.randn(C, D, generator=generator), dim=1)

    def __len__(self) -> int:
        return 1

    def epoch(self, epoch: int, start: int = 0) -> Any:
        return iter([])


def a_batch(source: Source, **changes: Any) -> dict[str, Tensor]:
    rows, negative_rows = torch.arange(B), torch.tensor([[4, 5], [5, 6], [6, 7], [7, 8]])
    batch = {
        "question_emb": source.every[rows] * 0.9,
        "target_source_emb": source.every[rows],
        "target_rows": rows,
        "known_positives": rows.unsqueeze(1),
        "negative_embs": source.every[negative_rows],
        "negative_rows": negative_rows,
        "cluster_id": torch.tensor([0, 1, 2, 0]),
        "relevance": torch.ones(B),
    }
    return {key: value for key, value in (batch | changes).items() if value is not None}


def predictions() -> Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1)).requires_grad_()


class Refusing(nn.Module):
    """A source encoder that must not be asked."""

    def forward(self, _: Tensor) -> Tensor:
        raise AssertionError("sources are to be aimed at as they are")


def test_identity_costs_nothing() -> None:
    source = Source()
    objective = Objective(JASPERMultiObjectiveLoss(), EMAEncoder(Refusing()), source)
    assert objective.target == "identity"
    batch, predicted = a_batch(source), predictions()
    total, parts = objective(predicted, batch)
    wanted = JASPERMultiObjectiveLoss()(
        *(predicted, batch["target_source_emb"], batch["negative_embs"], source.centroids, batch["cluster_id"]),
        **{key: batch[key] for key in ("target_rows", "known_positives", "negative_rows")},
        weight=batch["relevance"],
        sources=source.sources,
    )
    assert torch.equal(total, wanted[0])
    assert set(parts) == set(wanted[1]) - {"total"}
    # Nothing is gained by saying what the sources are already the rows of.
    assert torch.equal(objective(predicted, a_batch(source, target_source_emb=None))[0], total)


@pytest.mark.parametrize("negatives", ["sources", "batch", "hard"])
def test_everything_goes_through_the_same_map(negatives: Any) -> None:
    """A rotation of predictions and of the source encoder changes no loss."""
    source, batch = Source(), a_batch(Source())
    rotation = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2)))[0]
    encoder = identity_encoder(D)
    loss = JASPERMultiObjectiveLoss(in_batch=negatives != "hard", lambda_jasper=0, lambda_vicreg=0)
    plain = Objective(loss, EMAEncoder(encoder), source, "identity", negatives)
    encoder.weight.data.copy_(rotation)
    turned = Objective(loss, EMAEncoder(encoder), source, "ema", negatives)
    predicted = predictions()
    straight, rotated = plain(predicted, batch)[1], turned(predicted @ rotation.T, batch)[1]
    for name, value in straight.items():
        torch.testing.assert_close(rotated[name], value, atol=1e-5, rtol=1e-5)
    # The regression aims at the target encoder's unit vectors.
    regression = JASPERMultiObjectiveLoss(lambda_contrastive=0, lambda_centroid=0, lambda_vicreg=0)
    aimed = Objective(regression, turned.ema, source, "ema")
    wanted = nn.functional.smooth_l1_loss(predicted, batch["target_source_emb"] @ rotation.T)
    torch.testing.assert_close(aimed(predicted, batch)[0], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("negatives", ["sources", "batch", "hard"])
def test_the_online_encoder_receives_gradient(negatives: Any) -> None:
    source = Source()
    ema = EMAEncoder(identity_encoder(D))
    objective = Objective(JASPERMultiObjectiveLoss(in_batch=negatives != "hard"), ema, source, None, negatives)
    assert objective.target == "ema"
    predicted = predictions()
    torch.autograd.backward(objective(predicted, a_batch(source))[0])
    (online,), (target,) = ema.online_encoder.parameters(), ema.target_encoder.parameters()
    assert online.grad is not None
    assert float(online.grad.norm()) > 1e-3
    assert online.grad.isfinite().all()
    assert target.grad is None
    assert predicted.grad is not None


def test_the_contrastive_gradient_of_the_encoder_is_right() -> None:
    source, batch = Source(), a_batch(Source())
    encoder = identity_encoder(D)
    alone = JASPERMultiObjectiveLoss(lambda_jasper=0, lambda_centroid=0, lambda_vicreg=0)
    objective = Objective(alone, EMAEncoder(encoder), source, "ema")
    predicted = predictions().detach()
    torch.autograd.backward(objective(predicted, batch)[0])
    own = identity_encoder(D)
    logits = nn.functional.normalize(predicted, dim=1) @ nn.functional.normalize(own(source.every), dim=1).T / 0.07
    torch.autograd.backward(0.5 * nn.functional.cross_entropy(logits, batch["target_rows"]))
    assert encoder.weight.grad is not None
    torch.testing.assert_close(encoder.weight.grad, own.weight.grad, atol=1e-4, rtol=1e-3)


def test_batches_without_rows_contrast_within_the_batch() -> None:
    source = Source(sources=False)
    batch = {"question_emb": torch.eye(B, D), "target_source_emb": source.every[:B]}
    alone = JASPERMultiObjectiveLoss(lambda_centroid=0, lambda_vicreg=0, lambda_jasper=0)
    predicted = predictions()
    total, _ = Objective(alone, EMAEncoder(nn.Identity()), source)(predicted, batch)
    logits = nn.functional.normalize(predicted, dim=1) @ source.every[:B].T / 0.07
    torch.testing.assert_close(total, 0.5 * nn.functional.cross_entropy(logits, torch.arange(B)))


def test_what_a_term_lacks_is_named() -> None:
    source = Source(sources=False)
    objective = Objective(JASPERMultiObjectiveLoss(), EMAEncoder(nn.Identity()), source)
    with pytest.raises(ValueError, match="no target_source_emb"):
        objective(predictions(), a_batch(source, target_source_emb=None))
    with pytest.raises(ValueError, match="needs cluster_ids"):
        objective(predictions(), a_batch(source, cluster_id=None))


def test_another_loss_is_called_as_documented() -> None:
    seen: list[Any] = []

    class Own(nn.Module):
        def forward(self, *given: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
            seen.extend(given)
            total = given[0].sum()  # type: ignore[union-attr]
            return total, {"total": total, "own": total.detach()}

    source = Source()
    batch = a_batch(source)
    predicted = predictions()
    _, parts = Objective(Own(), EMAEncoder(nn.Identity()), source)(predicted.bfloat16(), batch)
    assert set(parts) == {"own"}
    assert seen[0].dtype == torch.float32
    keys = ("target_source_emb", "negative_embs", "cluster_id")
    assert [id(seen[place]) for place in (1, 2, 4)] == [id(batch[key]) for key in keys]
    assert seen[3] is source.centroids
