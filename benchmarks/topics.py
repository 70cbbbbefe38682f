"""Topics: how well they are routed to, what choosing one is worth, how many there should be, and what lies outside.

    python benchmarks/topics.py --data-root DATA                                # routing and choosing, seeds 0 1 2
    python benchmarks/topics.py --data-root DATA --seeds 0 --counts 8 16 32 64 128   # the same by number of topics, dev
    python benchmarks/topics.py --data-root DATA --seeds 0 --strengths 0 0.5 1 2 4   # how far one can steer
    python benchmarks/topics.py --data-root DATA --sets tldr medquad --outside       # each set's questions to the other

DATA holds BEIR folders; `stdlib` is the running Python's own standard library. Everything is measured on the test split
but the number of topics, which dev chooses. Embeddings are cached.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from jasper_rag.atomic_files import write_json
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.evaluation.controllability import controllability
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.explain.faithfulness import faithfulness
from jasper_rag.fitting.routing_fitting import fit_routing, steering_on
from jasper_rag.fitting.topic_fitting import fit_topics
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.models.subspace_predictor import PredictionParts
from jasper_rag.models.topic_router import atypicality_quantile, relative_atypicality
from jasper_rag.retrieval.topic_search import route
from jasper_rag.serving.model_search import retriever_of
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set

SETS = ("stdlib", "tldr", "medquad", "scifact", "squadshifts_wiki")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--counts", nargs="+", type=int, help="numbers of topics to try on dev")
    parser.add_argument("--strengths", nargs="+", type=float, help="follow the centroid so far, dense alone, ungated")
    parser.add_argument("--outside", action="store_true", help="ask each model the questions of the other sets")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    if options.outside:
        results = _outside(options.sets, options.data_root, options.seeds[0])
    elif options.strengths:
        print("| set | strength | inside the right topic | inside another | nDCG@10: right | another |")
        print("|---|---|---|---|---|---|")
        results = {name: _by_strength(name, options) for name in options.sets}
    else:
        print(_heading("topics" if options.counts else "questions"), flush=True)
        for name in options.sets:
            results[name] = _by_count(name, options) if options.counts else _by_seed(name, options)
    if options.output is not None:
        write_json(options.output, results)


def _fitted(name: str, data_root: Path, seed: int) -> Jasper:
    length = MAX_SEQ_LENGTH if name == "stdlib" else None
    settings = load_config(None, {"seed": seed, "encoder.max_seq_length": length})
    return Jasper.fit(
        read_python_source() if name == "stdlib" else read_retrieval_set(data_root / name), config=settings
    )


def _by_seed(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for seed in options.seeds:
        jasper = _fitted(name, options.data_root, seed)
        assert jasper.record is not None
        assert jasper.record.steering is not None
        plain = float(jasper.record.comparison.runs["plain"].values["ndcg@10"].mean())
        found.append(
            jasper.record.steering.to_metrics()
            | {"plain": plain, "bonus": jasper.model.routing.bonus}
            | _explained(jasper)
        )
    _put(name, str(found[0]["questions"]), found)
    return found


def _by_count(name: str, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """One fit for all counts: predictor, guard and BM25's weight know nothing of topics."""
    fits = [_fitted(name, options.data_root, seed) for seed in options.seeds]
    results = {}
    for count in options.counts:
        results[str(count)] = [_with_topics(jasper, count) for jasper in fits]
        _put(name, str(count), results[str(count)])
    return results


def _by_strength(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Of the test split and the first seed."""
    jasper = _fitted(name, options.data_root, options.seeds[0])
    model, record = jasper.model, jasper.record
    assert record is not None
    assert model.topics is not None
    split, seed = record.embedded.splits["test"], options.seeds[0]
    found = controllability(split, model.vectors, model.predictor, model.topics, strengths=options.strengths, seed=seed)
    for strength, row in found.strengths.items():
        shares = f"{row.right_inside:.3f} | {row.other_inside:.3f}"
        print(f"| {name} | {strength:g} | {shares} | {row.right_ndcg:.3f} | {row.other_ndcg:.3f} |", flush=True)
    return found.to_metrics()


def _with_topics(jasper: Jasper, count: int) -> dict[str, Any]:
    model, record = jasper.model, jasper.record
    assert record is not None
    config = load_config(None, {"seed": model.config["seed"], "topics.count": count})
    fitted = fit_topics(record.embedded, record.candidates, config)
    retriever = retriever_of(model)
    routing = fit_routing(record.embedded, record.candidates, model.guard, retriever, fitted, config.seed)
    changed = replace(model, predictor=fitted.model, topics=fitted.topics, routing=routing)
    modes = steering_on("dev", record.embedded, changed)
    assert modes is not None
    return modes.to_metrics() | {"bonus": routing.bonus}


def _heading(column: str) -> str:
    modes = " | ".join(f"search: {mode}" for mode in STEERING_NAMES)
    return (
        f"| set | {column} | nearest centroid @1 / @3 | router @1 / @3 | ECE | bonus | {modes} | alone: one_click | "
        "inside topic: without, with | faithful (same weight) | atypical > .95 |\n|"
        + "---|"
        * (11 + len(STEERING_NAMES) - 1)
    )


def _put(name: str, column: str, found: Sequence[dict[str, Any]]) -> None:
    def mean(*keys: str) -> float:
        values = []
        for one in found:
            value: Any = one
            for key in keys:
                value = value.get(key, np.nan)
            values.append(value)
        return float(np.mean(values))

    search = " | ".join(f"{mean('search', mode, 'ndcg@10'):.3f}" for mode in STEERING_NAMES)
    print(
        f"| {name} | {column} | {mean('nearest_centroid_accuracy@1'):.3f} / {mean('nearest_centroid_accuracy@3'):.3f} "
        f"| {mean('router_accuracy@1'):.3f} / {mean('router_accuracy@3'):.3f} | {mean('router_ece'):.3f} "
        f"| {mean('bonus'):.2f} | {search} | {mean('modes', 'one_click', 'ndcg@10'):.3f} "
        f"| {mean('inside@10', 'zero'):.2f}, {mean('inside@10', 'oracle'):.2f} "
        f"| {mean('faithful'):.3f} ({mean('faithful_same_weight'):.3f}) | {mean('atypical'):.3f} |",
        flush=True,
    )


def _explained(jasper: Jasper) -> dict[str, float]:
    """Faithfulness of the topics, and the share of test questions called more atypical than 95 % of usual ones."""
    model, record = jasper.model, jasper.record
    assert record is not None
    assert model.topics is not None
    queries = record.embedded.splits[record.comparison.split]
    searched = jasper.transform(queries.vectors)
    routing = route(searched, model.vectors, model.topics, model.routing.router)
    coarse = routing @ model.topics.centroids
    nothing = torch.zeros(coarse.shape)
    parts = PredictionParts(
        question=torch.from_numpy(searched - coarse),
        coarse=torch.from_numpy(coarse),
        fine=nothing,
        steering=nothing,
        routing_weights=torch.from_numpy(routing),
        atypicality=torch.from_numpy(np.linalg.norm(searched - coarse, axis=1)),
    )
    rows = torch.from_numpy(model.vectors.top_k(searched, 1)[1][:, 0])
    found = faithfulness(
        parts, torch.from_numpy(model.topics.centroids), torch.from_numpy(np.array(model.vectors.vectors)), rows, 0
    )
    quantiles = atypicality_quantile(
        relative_atypicality(searched, routing, model.topics.centroids), model.routing.usual
    )
    return {
        "faithful": found.share,
        "faithful_same_weight": found.share_equal_weight,
        "atypical": float((quantiles > 0.95).mean()),
    }


def _outside(sets: Sequence[str], data_root: Path, seed: int) -> dict[str, float]:
    """AUROC of three signals, home questions against foreign ones."""
    fitted = {name: _fitted(name, data_root, seed) for name in sets}
    results = {}
    print("| model of | asked questions of | relative atypicality | length of the fine part | gate's familiarity |")
    print("|---|---|---|---|---|")
    for home, away in permutations(sets, 2):
        own, other = (_signals(fitted[home], _test_questions(fitted[name])) for name in (home, away))
        truth = np.r_[np.zeros(len(own[0])), np.ones(len(other[0]))]
        figures = [
            float(roc_auc_score(truth, np.concatenate(both))) if len(both[0]) else float("nan")
            for both in zip(own, other, strict=True)
        ]
        print(f"| {home} | {away} | " + " | ".join(f"{figure:.4f}" for figure in figures) + " |", flush=True)
        results[f"{home} <- {away}"] = figures[0]
    return results


def _test_questions(jasper: Jasper) -> Vectors:
    assert jasper.record is not None
    return np.ascontiguousarray(jasper.record.embedded.splits[jasper.record.comparison.split].vectors)


def _signals(jasper: Jasper, questions: Vectors) -> tuple[Vectors, Vectors, Vectors]:
    model = jasper.model
    assert model.topics is not None
    searched = jasper.transform(questions)
    routing = route(searched, model.vectors, model.topics, model.routing.router)
    fine: Vectors = np.linalg.norm(searched - routing @ model.topics.centroids, axis=1)
    gate = model.guard.gate
    familiarity = np.zeros(0, dtype=np.float32) if gate is None else -gate.familiarity(questions)
    return relative_atypicality(searched, routing, model.topics.centroids), fine, familiarity


if __name__ == "__main__":
    main()
