from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import torch

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.evaluation.encoder_evaluation import EncoderEvaluation, evaluate_encoder, require_per_query
from jasper_rag.evaluation.encoder_systems import ENCODER_SYSTEMS, VectorPair, centred, embedded, nearest, whitened
from jasper_rag.evaluation.encoder_task import EncoderTask, read_task, task_of_evaluation_set, task_of_retrieval_set
from jasper_rag.retrieval.trec import read_run
from jasper_rag.text.pair_files import EvaluationSet, write_evaluation_set
from jasper_rag.text.records import RetrievalSet

METRICS = {"Recall@1", "Recall@5", "Recall@10", "Recall@20", "Recall@50", "Recall@100", "MRR", "NDCG@10", "MAP@100"}


@pytest.fixture(scope="module")
def task(synonym_set: RetrievalSet) -> EncoderTask:
    return task_of_retrieval_set(synonym_set, "all")


def model_of(word_model: Path, *, frozen: bool = True, predictor: bool = False) -> GaussianEmbeddingGemma:
    return GaussianEmbeddingGemma(24, str(word_model), frozen, use_predictor=predictor, device="cpu").eval()


@pytest.fixture(scope="module")
def untrained(word_model: Path, task: EncoderTask) -> EncoderEvaluation:
    return evaluate_encoder(model_of(word_model), task)


@torch.no_grad()
def taught(word_model: Path, task: EncoderTask) -> GaussianEmbeddingGemma:
    """A predictor that maps each question to its document, by least squares."""
    model = model_of(word_model, predictor=True)
    documents, queries = model.encode(task.documents), model.encode(task.queries, role="query")
    wanted = documents[[int(task.judgements.positives(query)[0]) for query in range(len(task.queries))]]
    assert model.predictor is not None
    model.predictor.linear.weight.copy_(torch.linalg.lstsq(queries, wanted).solution.T)
    return model


def test_an_untrained_model_is_its_base(untrained: EncoderEvaluation) -> None:
    result = untrained.to_json()
    assert set(result["metrics"]) == METRICS
    assert set(result["baselines"]) == set(ENCODER_SYSTEMS) - {"model"}
    assert all(set(figures) == METRICS for figures in result["baselines"].values())
    np.testing.assert_array_equal(untrained.runs["model"].rows[:, :10], untrained.runs["base"].rows[:, :10])
    assert result["metrics"] == result["baselines"]["base"]
    tested = result["significance"]["base"]
    assert (tested["p_value"], tested["difference"], tested["queries_better"], tested["queries_worse"]) == (1, 0, 0, 0)
    assert result["verdict"].startswith("This model retrieves as its base does (0.")
    assert (result["queries"], result["documents"]) == (160, 160)
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_the_figures_are_those_of_trec_eval(untrained: EncoderEvaluation, tmp_path: Path) -> None:
    untrained.write_per_query(tmp_path / "run.trec")
    task = untrained.task
    qrels = {
        query_id: {task.document_ids[row]: 1 for row in task.judgements.positives(number).tolist()}
        for number, query_id in enumerate(task.query_ids)
    }
    measures = {"recall.1,5,10,20,50,100", "ndcg_cut.10", "map_cut.100", "recip_rank"}
    figures = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(read_run(tmp_path / "run.trec"))
    ours = untrained.means("model")
    names = {f"recall_{k}": f"Recall@{k}" for k in (1, 5, 10, 20, 50, 100)}
    for theirs, name in {**names, "ndcg_cut_10": "NDCG@10", "map_cut_100": "MAP@100", "recip_rank": "MRR"}.items():
        assert ours[name] == pytest.approx(np.mean([line[theirs] for line in figures.values()]), abs=1e-6), name


@pytest.mark.slow
def test_a_better_and_a_worse_model_are_called_so(
    word_model: Path, task: EncoderTask, untrained: EncoderEvaluation
) -> None:
    model = taught(word_model, task)
    better = evaluate_encoder(model, task)
    assert better.means("base") == untrained.means("base")
    base, ours = better.means("base")["NDCG@10"], better.means("model")["NDCG@10"]
    assert ours > base + 0.05
    tested = better.significance("base")
    assert tested["p_value"] < 0.01
    assert tested["difference"] == pytest.approx(ours - base)
    assert tested["difference_low"] < tested["difference"] < tested["difference_high"]
    assert f"better than its base: from {base:.3f} to {ours:.3f} NDCG@10 over 160 queries" in better.verdict()
    with torch.no_grad():
        model.predictor.linear.weight.mul_(-1)  # type: ignore[union-attr]
    worse = evaluate_encoder(model, task).verdict()
    assert "retrieves WORSE than its base" in worse
    assert "BM25 alone is better than both" in worse


@pytest.mark.slow
def test_a_small_change_may_be_chance(word_model: Path, task: EncoderTask) -> None:
    model = model_of(word_model, predictor=True)
    with torch.no_grad():
        model.predictor.linear.weight.add_(0.01 * torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))  # type: ignore[union-attr]
    found = evaluate_encoder(model, task)
    assert 0.05 < found.significance("base")["p_value"] < 1
    assert "a difference that may be chance (p = " in found.verdict()


@pytest.mark.slow
def test_the_base_beside_a_fine_tuned_model_is_the_original(
    word_model: Path, task: EncoderTask, untrained: EncoderEvaluation, tmp_path: Path
) -> None:
    model = model_of(word_model, frozen=False)
    with torch.no_grad():
        for parameter in model.base.parameters():
            parameter.mul_(-1).add_(0.5)
    for store in (None, EmbeddingStore(tmp_path)):
        found = evaluate_encoder(model, task, store=store)
        assert found.means("base") == pytest.approx(untrained.means("base"))
        assert found.means("model") != found.means("base")


@pytest.mark.slow
def test_the_store_keeps_a_frozen_base(
    word_model: Path, task: EncoderTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore(tmp_path)
    model = model_of(word_model)
    first = embedded(model, task, 8, store)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    monkeypatch.setattr(model, "encode_base", None)
    again = embedded(model, task, 8, store)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.documents, other.documents)
        np.testing.assert_array_equal(one.queries, other.queries)


@pytest.mark.slow
def test_geometry_tells_a_cone_from_a_ball(word_model: Path, task: EncoderTask) -> None:
    model = model_of(word_model)
    with torch.no_grad():
        model.projection.out.bias.add_(2.0)
    figures = evaluate_encoder(model, task).to_json()["geometry"]
    assert figures["model"]["isotropy_score"] < figures["base"]["isotropy_score"] / 2
    assert figures["model"]["mean_cosine"] > 0.9
    assert set(figures["model"]) == set(figures["base"]) >= {"effective_rank", "uniformity", "hubness@10", "alignment"}


def test_centring_and_whitening_do_what_they_say() -> None:
    generator = np.random.default_rng(0)
    rows = 2 + generator.standard_normal((500, 6)) @ generator.standard_normal((6, 6))
    rows[:, 5] = rows[:, 4]  # a direction without variance
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    pair = VectorPair(unit, unit[:7])
    moved = unit - unit.mean(axis=0, dtype=np.float64)
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(centred(pair).documents, expected, atol=1e-6)
    white = whitened(pair)
    assert white.documents.shape == (500, 5)
    np.testing.assert_array_equal(white.queries, white.documents[:7])
    values, directions = np.linalg.eigh(np.cov(unit.T, bias=True))
    by_hand = moved @ directions[:, 1:] / np.sqrt(values[1:])
    np.testing.assert_allclose(
        white.documents @ white.documents.T,
        (by_hand @ by_hand.T) / np.outer(np.linalg.norm(by_hand, axis=1), np.linalg.norm(by_hand, axis=1)),
        atol=1e-3,
    )
    same = VectorPair(np.ones((3, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32))
    assert not whitened(same).documents.any()
    assert nearest(whitened(same), 2)[1].tolist() == [[0, 1]]


@pytest.mark.slow
def test_a_small_corpus_keys_recall_by_the_k_that_was_asked_for(word_model: Path) -> None:
    small = EvaluationSet(("car and road", "child"), ("car or road?", "child?"), ((0,), (1, 0)))
    found = evaluate_encoder(model_of(word_model), task_of_evaluation_set(small), top_k=1)
    figures = found.means("model")
    assert (figures["Recall@1"], figures["Recall@5"], figures["Recall@100"]) == (0.75, 1.0, 1.0)
    assert found.task.document_ids == ("0", "1")
    lonely = evaluate_encoder(
        model_of(word_model), task_of_evaluation_set(EvaluationSet(("car",), ("road?",), ((0,),)))
    )
    assert lonely.geometry == {"model": {}, "base": {}}
    assert "over 1 query)" in lonely.verdict()


@pytest.mark.slow
def test_mrr_looks_as_far_as_top_k(word_model: Path, task: EncoderTask, untrained: EncoderEvaluation) -> None:
    short = evaluate_encoder(model_of(word_model), task, top_k=1)
    assert short.means("model")["MRR"] == pytest.approx(untrained.means("model")["Recall@1"])
    assert short.means("model")["Recall@100"] == untrained.means("model")["Recall@100"]


def test_results_query_by_query(untrained: EncoderEvaluation, tmp_path: Path) -> None:
    untrained.write_per_query(tmp_path / "q.jsonl")
    lines: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert len(lines) == 160
    assert np.mean([line["metrics"]["NDCG@10"] for line in lines]) == pytest.approx(untrained.means("model")["NDCG@10"])
    first = lines[0]
    assert (first["query_id"], first["relevant"], set(first["NDCG@10"])) == ("q0", ["d0"], set(ENCODER_SYSTEMS))
    distances = [hit["distance"] for hit in first["retrieved"]]
    assert len(distances) == 10
    assert distances == sorted(distances)
    assert [hit["relevant"] for hit in first["retrieved"]] == [hit["id"] == "d0" for hit in first["retrieved"]]


def test_bad_settings(word_model: Path, task: EncoderTask, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 is no usable number"):
        evaluate_encoder(model_of(word_model), task, top_k=0)
    with pytest.raises(InputError, match=r"ends in '\.csv', which names no format"):
        require_per_query(tmp_path / "q.csv")


def test_tasks_are_read_from_files(synonym_set: RetrievalSet, tmp_path: Path) -> None:
    written = EvaluationSet(("a b", "c"), ("x", "y"), ((1,), (0, 1)))
    write_evaluation_set(tmp_path / "test_eval.json", written)
    task = read_task(tmp_path / "test_eval.json")
    assert (task.name, task.documents, task.queries) == ("test_eval", written.corpus, written.queries)
    assert [task.judgements.positives(query).tolist() for query in (0, 1)] == [[1], [0, 1]]
    with pytest.raises(InputError, match="there is no test data here") as caught:
        read_task(tmp_path / "nothing")
    assert "prepare_data.py" in caught.value.remedy
    with pytest.raises(InputError, match="has no split 'test'") as caught:
        task_of_retrieval_set(synonym_set)
    assert caught.value.remedy == "Choose one of these: all."
    with pytest.raises(InputError, match="no query of synonyms, split 'test', has a relevant document"):
        task_of_retrieval_set(dataclasses.replace(synonym_set, qrels={"test": {"q0": {"d0": 0}}}))
    with pytest.raises(InputError) as caught:
        task_of_retrieval_set(dataclasses.replace(synonym_set, qrels={}))
    assert "qrels/test.tsv" in caught.value.remedy
    one = task_of_retrieval_set(dataclasses.replace(synonym_set, qrels={"test": {"q3": {"d3": 2}, "q4": {"d4": 0}}}))
    assert one.query_ids == ("q3",)
    assert one.documents[3] == synonym_set.documents[3].content
