from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jasper_rag.losses.contrastive import ContrastiveLoss, rows_among

B, D, K, M, W = 6, 5, 3, 23, 4


def inputs(seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A batch drawn from M sources; two questions have the same target, known positives are padded with -1."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(M, D, generator=generator, dtype=dtype)
    target_rows = torch.randint(M, (B,), generator=generator)
    target_rows[1] = target_rows[0]
    known = torch.randint(M, (B, W), generator=generator)
    known[torch.rand(B, W, generator=generator) < 0.4] = -1
    known[2, 0] = target_rows[3]  # an in-batch target that answers question 2
    negative_rows = torch.randint(M, (B, K), generator=generator)
    negative_rows[3, 0], negative_rows[4, 1], negative_rows[5, 2] = known[3, 0], target_rows[4], -1
    return {
        "predicted": torch.randn(B, D, generator=generator, dtype=dtype).requires_grad_(),
        "target": sources[target_rows],
        "negatives": sources[negative_rows],
        "weight": torch.rand(B, generator=generator, dtype=dtype) + 0.1,
        "target_rows": target_rows,
        "known_positives": known,
        "negative_rows": negative_rows,
        "sources": sources,
    }


def cosine(left: Tensor, right: Tensor) -> Tensor:
    return torch.dot(left, right) / (left.square().sum() * right.square().sum()).sqrt()


def brute_force(given: dict[str, Tensor], temperature: float, in_batch: bool, rows: bool) -> Tensor:
    """One question and one candidate at a time."""
    losses = []
    for i, prediction in enumerate(given["predicted"]):
        answers = {int(given["target_rows"][i]), *given["known_positives"][i].tolist()}
        positive = cosine(prediction, given["target"][i]) / temperature
        hard = [k for k in range(K) if not (rows and int(given["negative_rows"][i, k]) in answers | {-1})]
        others = [j for j in range(B) if j != i and not (rows and int(given["target_rows"][j]) in answers)]
        vectors = [given["negatives"][i, k] for k in hard] + [given["target"][j] for j in others if in_batch]
        candidates = [positive, *(cosine(prediction, vector) / temperature for vector in vectors)]
        losses.append(torch.stack(candidates).logsumexp(0) - positive)
    return (torch.stack(losses) * given["weight"]).sum() / given["weight"].sum()


def call(loss: ContrastiveLoss, batch: dict[str, Tensor], *names: str, **changes: Any) -> Tensor:
    values = {name: batch[name] for name in ("predicted", "target", *names)} | changes
    found: Tensor = loss(**values)["contrastive"]
    return found


ROWS = ("target_rows", "known_positives", "negative_rows")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("rows", [True, False])
def test_value_and_gradients_are_the_brute_force_ones(seed: int, in_batch: bool, rows: bool) -> None:
    batch = inputs(seed)
    carriers = [batch[name].requires_grad_() for name in ("predicted", "target", "negatives")]
    loss = ContrastiveLoss(0.3, in_batch=in_batch)
    found = call(loss, batch, "negatives", "weight", *(ROWS if rows else ()))
    expected = brute_force(batch, 0.3, in_batch, rows)
    torch.testing.assert_close(found, expected)
    for mine, reference in zip(
        torch.autograd.grad(found, carriers), torch.autograd.grad(expected, carriers), strict=True
    ):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("known", [True, False])
def test_all_sources_is_cross_entropy_over_them(known: bool) -> None:
    batch = inputs()
    loss = ContrastiveLoss(0.3)
    found = call(loss, batch, "weight", "target_rows", "sources", *(("known_positives",) if known else ()))
    losses = []
    for i, prediction in enumerate(batch["predicted"]):
        target = int(batch["target_rows"][i])
        hidden = set(batch["known_positives"][i].tolist()) - {target} if known else set()
        logits = torch.stack([cosine(prediction, batch["sources"][j]) for j in range(M) if j not in hidden]) / 0.3
        losses.append(logits.logsumexp(0) - cosine(prediction, batch["target"][i]) / 0.3)
    expected = (torch.stack(losses) * batch["weight"]).sum() / batch["weight"].sum()
    torch.testing.assert_close(found, expected)
    mine, reference = (torch.autograd.grad(value, batch["predicted"])[0] for value in (found, expected))
    torch.testing.assert_close(mine, reference)


@pytest.mark.slow
def test_sources_get_their_gradient_only_where_they_ask_for_it() -> None:
    batch = inputs()
    loss = ContrastiveLoss(0.5)
    frozen = call(loss, batch, "target_rows", "known_positives", "sources")
    sources = batch["sources"].clone().requires_grad_()
    learning = call(loss, batch, "target_rows", "known_positives", sources=sources)
    assert torch.equal(frozen, learning)

    def value(predicted: Tensor, sources: Tensor) -> Tensor:
        return call(loss, batch, "weight", "target_rows", "known_positives", predicted=predicted, sources=sources)

    assert torch.autograd.gradcheck(value, (batch["predicted"], sources))


@pytest.mark.slow
def test_gradient_of_the_batch_form_is_that_of_finite_differences() -> None:
    batch = inputs()
    carriers = tuple(batch[name].requires_grad_() for name in ("predicted", "target", "negatives"))
    loss = ContrastiveLoss(0.5)

    def value(predicted: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        return call(loss, batch, *ROWS, predicted=predicted, target=target, negatives=negatives)

    assert torch.autograd.gradcheck(value, carriers)


def test_lengths_do_not_matter() -> None:
    batch = inputs()
    names = ("negatives", *ROWS)
    before = call(ContrastiveLoss(), batch, *names)
    grown = {name: 3 * batch[name] for name in ("predicted", "target", "negatives")}
    torch.testing.assert_close(call(ContrastiveLoss(), batch | grown, *names), before)
    everything = call(ContrastiveLoss(), batch, "target_rows", "sources")
    torch.testing.assert_close(call(ContrastiveLoss(), batch, "target_rows", sources=7 * batch["sources"]), everything)


def test_reductions() -> None:
    batch = inputs()
    mean, total = ContrastiveLoss(reduction="mean"), ContrastiveLoss(reduction="sum")
    torch.testing.assert_close(call(total, batch), B * call(mean, batch))
    torch.testing.assert_close(call(total, batch, "weight"), batch["weight"].sum() * call(mean, batch, "weight"))


def test_known_numbers() -> None:
    axes = torch.eye(2)
    loss = ContrastiveLoss(0.5)
    # Each question hits its target (cosine 1) and misses the other (cosine 0).
    assert loss(axes, axes)["contrastive"].item() == pytest.approx(math.log(1 + math.exp(-2)))
    alone = loss(axes[:1], axes[:1])["contrastive"]
    assert alone == 0
    hard = ContrastiveLoss(0.5, in_batch=False)(axes, axes, axes.unsqueeze(1))["contrastive"]
    assert hard.item() == pytest.approx(math.log(2))


def test_vectors_of_zero_length_and_half_precision_stay_finite() -> None:
    batch = {name: value.detach().bfloat16() for name, value in inputs().items() if name not in ROWS}
    batch["predicted"][0], batch["target"][1], batch["negatives"][2] = 0, 0, 0
    batch["predicted"].requires_grad_()
    found = call(ContrastiveLoss(), batch, "negatives", "weight")
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad(found, batch["predicted"])
    assert gradient.isfinite().all()


@pytest.mark.slow
@given(st.data())
def test_rows_among_is_membership(data: st.DataObject) -> None:
    lines, width, count = (data.draw(st.integers(1, 6)) for _ in range(3))
    number = st.integers(-1, 8)
    answers = data.draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=lines, max_size=lines))
    rows = data.draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    expected = [[row in line for row in rows] for line in answers]
    assert rows_among(torch.tensor(answers), torch.tensor(rows)).tolist() == expected


@pytest.mark.slow
@given(st.integers(0, 10_000), st.booleans())
def test_a_masked_candidate_can_be_anything(seed: int, in_batch: bool) -> None:
    batch = inputs(seed % 50)
    generator = torch.Generator().manual_seed(seed)
    loss = ContrastiveLoss(0.2, in_batch=in_batch)
    before = call(loss, batch, "negatives", *ROWS)
    negatives = batch["negatives"].clone()
    for i in range(B):
        for k in range(K):
            if int(batch["negative_rows"][i, k]) in {
                -1,
                int(batch["target_rows"][i]),
                *batch["known_positives"][i].tolist(),
            }:
                negatives[i, k] = torch.randn(D, generator=generator, dtype=torch.float64)
    assert torch.equal(call(loss, batch, *ROWS, negatives=negatives), before)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        ContrastiveLoss(temperature)


def test_reduction_must_be_known() -> None:
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'none'"):
        ContrastiveLoss(reduction="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": torch.zeros(B, 4)}, r"predictions \[6, 5\] for targets \[6, 4\]"),
        ({"negatives": torch.zeros(B, D)}, r"negatives \[6, 5\] for predictions \[6, 5\]"),
        ({"negatives": torch.zeros(2, K, D)}, r"negatives \[2, 3, 5\] for predictions"),
        ({"sources": torch.zeros(M, D)}, "needs target_rows; got None"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(ContrastiveLoss(), inputs(), **changes)


def test_something_to_contrast_with_is_needed() -> None:
    with pytest.raises(ValueError, match="needs negatives, or sources, or in_batch"):
        call(ContrastiveLoss(in_batch=False), inputs())
