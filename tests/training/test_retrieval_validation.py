from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.training.retrieval_validation import DatasetRetrieval, SplitRetrieval, _ranked


def steered(questions: Tensor, steering: Tensor | None) -> Tensor:
    """A predictor that follows its steering."""
    return questions.flip(1) + (0 if steering is None else 0.7 * steering)


def brute_force(dataset: JASPERSteeringDataset, variant: str, plain: bool = False) -> dict[str, float]:
    """One question at a time, by the definitions."""
    index, relevance = dataset.pair_index, dataset.tensors.tensors["pair_relevance"]
    rows = dataset.split_indices.tolist()
    levels = sorted({float(relevance[row]) for row in rows if relevance[row] > 0})
    found: dict[str, list[float]] = {"ndcg@10": [], "recall@10": [], "mrr@10": []}
    for question in sorted({int(index[row, 0]) for row in rows if relevance[row] > 0}):
        mine = [row for row in rows if int(index[row, 0]) == question and relevance[row] > 0]
        grades: dict[int, int] = {}
        for row in mine:
            source = int(index[row, 1])
            grades[source] = max(grades.get(source, 0), levels.index(float(relevance[row])) + 1)
        best = max(mine, key=lambda row: float(relevance[row]))
        dataset.force_steering(variant)
        steering = dataset[rows.index(best)]["steering"].unsqueeze(0)
        asked = dataset.question_embs[question].unsqueeze(0)
        prediction = asked if plain else steered(asked, steering if variant != "zero" else None)
        order = (prediction @ dataset.source_embs.T)[0].argsort(descending=True)[:10].tolist()
        gains = [grades.get(source, 0) / np.log2(2 + rank) for rank, source in enumerate(order)]
        ideal = [grade / np.log2(2 + rank) for rank, grade in enumerate(sorted(grades.values(), reverse=True)[:10])]
        ranks = [rank for rank, source in enumerate(order, 1) if source in grades]
        found["ndcg@10"].append(sum(gains) / sum(ideal))
        found["recall@10"].append(len(ranks) / len(grades))
        found["mrr@10"].append(1 / ranks[0] if ranks else 0.0)
    dataset.force_steering(None)
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.fixture
def graded(steering_root: Path) -> JASPERSteeringDataset:
    """Questions with several sources of different relevance, some of none, and a pair given twice."""
    dataset = JASPERSteeringDataset(steering_root, "train")
    rows, index = dataset.split_indices, dataset.pair_index
    relevance = dataset.tensors.tensors["pair_relevance"]
    relevance[:] = torch.tensor([1.0, 0.5, 0.25, 0.0])[torch.arange(len(index)) % 4]
    for place in range(0, 20, 4):
        index[rows[place : place + 4], 0] = index[rows[place], 0].clone()
        relevance[rows[place : place + 4]] = torch.tensor([0.5, 1.0, 0.25, 0.0])
    index[rows[2]] = index[rows[1]].clone()
    return dataset


@pytest.mark.slow
def test_every_variant_is_measured_as_by_hand(graded: JASPERSteeringDataset) -> None:
    found = DatasetRetrieval(graded)(steered)
    for variant in VARIANTS:
        ending = "" if variant == "zero" else f"_{variant}"
        for name, value in brute_force(graded, variant).items():
            assert found[f"{name}{ending}"] == pytest.approx(value, abs=1e-9), (name, variant)
    for name, value in brute_force(graded, "zero", plain=True).items():
        assert found[f"{name}_question"] == pytest.approx(value, abs=1e-9)
    assert len(found) == 15


def test_trec_eval_agrees(graded: JASPERSteeringDataset) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    index, relevance = graded.pair_index, graded.tensors.tensors["pair_relevance"]
    qrels: dict[str, dict[str, int]] = {}
    for row in graded.split_indices.tolist():
        grade = {0.0: 0, 0.25: 1, 0.5: 2, 1.0: 3}[float(relevance[row])]
        if grade:
            of_question = qrels.setdefault(f"q{int(index[row, 0])}", {})
            source = f"d{int(index[row, 1])}"
            of_question[source] = max(grade, of_question.get(source, 0))
    scores = steered(graded.question_embs, None) @ graded.source_embs.T
    run = {query: {f"d{row}": float(score) for row, score in enumerate(scores[int(query[1:])])} for query in qrels}
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.10"}).evaluate(run)
    found = DatasetRetrieval(graded, ("zero",))(steered)
    for ours, theirs in (("ndcg@10", "ndcg_cut_10"), ("recall@10", "recall_10")):
        assert found[ours] == pytest.approx(np.mean([each[theirs] for each in measured.values()]), abs=1e-6)
    assert set(found) == {f"{name}@10{end}" for name in ("ndcg", "recall", "mrr") for end in ("", "_question")}


def test_sources_are_searched_as_projected(graded: JASPERSteeringDataset) -> None:
    retrieval = DatasetRetrieval(graded, ("zero",))
    straight = retrieval(lambda questions, _: questions)
    turned = retrieval(lambda questions, _: questions.flip(1), lambda sources: sources.flip(1))
    assert turned == pytest.approx(straight)
    assert straight["ndcg@10"] == straight["ndcg@10_question"]


def test_some_of_many_questions(graded: JASPERSteeringDataset) -> None:
    few = DatasetRetrieval(graded, ("zero",), most=5)
    assert len(few._asked) == 5
    assert few(steered) == DatasetRetrieval(graded, ("zero",), most=5)(steered)
    graded.tensors.tensors["pair_relevance"].zero_()
    with pytest.raises(ValueError, match="no pair of the train split is relevant"):
        DatasetRetrieval(graded)


def test_a_device_ranks_as_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, documents = (torch.randn(rows, 8, generator=generator) for rows in (7, 50))
    wanted = (queries @ documents.T).topk(10).indices
    np.testing.assert_array_equal(_ranked(queries, documents), wanted)
    assert _ranked(queries, documents[:4]).shape == (7, 4)


def test_a_whole_corpus_is_searched(turned: EmbeddedSet) -> None:
    dev = turned.splits["dev"]
    retrieval = SplitRetrieval(dev, turned.vectors)
    scores = dev.vectors @ turned.vectors.vectors.T
    ranks = 1 + (scores > scores[np.arange(len(dev)), dev.judgements.documents][:, None]).sum(axis=1)
    expected = {
        "ndcg@10": np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean(),
        "recall@10": (ranks <= 10).mean(),
        "mrr@10": np.where(ranks <= 10, 1 / ranks, 0).mean(),
    }
    same = retrieval(lambda questions, steering: questions)
    other = retrieval(lambda questions, steering: -questions)
    for name, value in expected.items():
        assert same[name] == same[f"{name}_question"] == other[f"{name}_question"] == pytest.approx(value)
        assert other[name] < value
    with pytest.raises(ValueError, match="as they are"):
        retrieval(lambda questions, steering: questions, lambda sources: sources)
