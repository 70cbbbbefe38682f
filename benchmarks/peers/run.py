"""LlamaIndex's adapter engine beside ours: the same vectors, pairs, threads and test questions, in one run.

    python benchmarks/peers/run.py --data-root DATA --output peers.json
    python benchmarks/peers/run.py --data-root DATA --sets scifact --seeds 0 1 --untuned

DATA holds BEIR folders; `stdlib` is the running Python's own standard library. The engine is installed into an
environment of its own (`--environment`) the first time. Both sides train on the labelled pairs alone. The tuned row
gets what the engine leaves to its user: several trainings, from which dev nDCG@10 picks one and the epoch to stop at;
the plain question is one of the choices, as it is for ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from jasper_rag.atomic_files import write_json, write_text
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.evaluation.comparison import KS, Comparison
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.metrics.ranking import FloatArray, lexicographic_ranks, order_run, per_query
from jasper_rag.metrics.significance import paired_randomisation
from jasper_rag.models.guard import unit
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set

SETS = ("stdlib", "tldr", "medquad", "scifact", "squadshifts_wiki")
HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
PEER_SCRIPT = HERE / "llamaindex_adapter.py"

OURS = "jasper"
SYSTEMS = {
    "plain": "question alone (plain encoder)",
    "llamaindex": "LlamaIndex engine, its defaults",
    "llamaindex_tutorial": "LlamaIndex engine, 4 epochs (its tutorial)",
    "linear_adapter": "the same recipe, ours",
    "llamaindex_tuned": "LlamaIndex engine, tuned on dev",
    "jasper_ungated": "JASPER, ungated",
    OURS: "JASPER (ships)",
}


@dataclass(frozen=True, slots=True)
class PeerRun:
    """One training of the engine; None is its own default, `shuffled` gives it the pairs in random order."""

    epochs: int
    learning_rate: float | None = None
    shuffled: bool = False


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """What a run gave: dev [E, Q, D] and test [E, Q, D] vectors after each epoch, unit rows, and seconds."""

    dev: Vectors
    test: Vectors
    cpu_seconds: float
    wall_seconds: float


AS_GIVEN = {"llamaindex": PeerRun(1), "llamaindex_tutorial": PeerRun(4)}
# Which of them is best depends on the set: neighbours in the file are hard negatives on one and false ones on another.
TUNED = (PeerRun(10), PeerRun(10, 2e-4, shuffled=True), PeerRun(10, 1e-3))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every set with every seed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--environment", type=Path, default=HERE / ".venv", help="the peer's; made if missing")
    parser.add_argument("--untuned", action="store_true", help="leave out the tuned row, most of the time spent")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    python = peer_python(options.environment)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        for seed in options.seeds:
            jasper = fit(name, options.data_root, seed)
            results.setdefault(name, []).append(measure(jasper, seed, python, () if options.untuned else TUNED))
            if options.output is not None:
                write_json(options.output, results)
        print(table(name, results[name]), flush=True)


def peer_python(environment: Path) -> Path:
    """The interpreter of the peer's environment, which is made, or brought up to date, if need be."""
    python = environment / "bin" / "python"
    installed, wanted = environment / ".installed", REQUIREMENTS.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        print(f"installing the peer into {environment}", file=sys.stderr, flush=True)
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        write_text(installed, wanted)
    return python


def fit(name: str, data_root: Path, seed: int) -> Jasper:
    """Our side, through the public API, on the labelled pairs alone: the peer has nothing else to learn from."""
    length = MAX_SEQ_LENGTH if name == "stdlib" else None
    overrides = {"seed": seed, "encoder.max_seq_length": length, "pseudo_questions.use": "never"}
    retrieval_set = read_python_source() if name == "stdlib" else read_retrieval_set(data_root / name)
    return Jasper.fit(retrieval_set, config=load_config(overrides=overrides))


def measure(jasper: Jasper, seed: int, python: Path, tuned: Sequence[PeerRun]) -> dict[str, Any]:
    """Train the peer on what `jasper` was fitted on, and compare.

    Returns:
        Questions, documents, systems (key -> metrics, CPU seconds of training, two-sided p of ours against it), every
        peer run with its dev curve, and what dev chose.
    """
    record = jasper.record
    assert record is not None
    embedded, comparison = record.embedded, record.comparison
    runs = [*AS_GIVEN.values(), *tuned]
    with tempfile.TemporaryDirectory(prefix="jasper-peers-") as folder:
        answers = ask_peer(embedded, runs, seed, python, Path(folder))
    curves = [[ndcg(embedded, "dev", vectors) for vectors in answer.dev] for answer in answers]
    values = {key: dict(comparison.runs[key].values) for key in SYSTEMS if key in comparison.runs}
    seconds = {key: comparison.train_seconds.get(key, 0.0) for key in values}
    for key, answer in zip(AS_GIVEN, answers, strict=False):
        values[key], seconds[key] = score(embedded, "test", answer.test[-1]), answer.cpu_seconds
    chosen = None
    if tuned:
        tries = answers[len(AS_GIVEN) :]
        chosen = choose(curves[len(AS_GIVEN) :], ndcg(embedded, "dev", embedded.splits["dev"].vectors))
        best = embedded.splits["test"].vectors if chosen is None else tries[chosen[0]].test[chosen[1]]
        values["llamaindex_tuned"] = score(embedded, "test", best)
        seconds["llamaindex_tuned"] = sum(one.cpu_seconds for one in tries)
    return {
        "seed": seed,
        "questions": len(embedded.splits["test"]),
        "documents": len(embedded.documents),
        "train_questions": len(embedded.splits["train"]),
        "threads": torch.get_num_threads(),
        "systems": {key: figures(key, values, seconds, comparison) for key in SYSTEMS if key in values},
        "peer_runs": [
            {**asdict(run), "cpu_seconds": one.cpu_seconds, "wall_seconds": one.wall_seconds, "dev_ndcg@10": curve}
            for run, one, curve in zip(runs, answers, curves, strict=True)
        ],
        "tuned": None if chosen is None else {**asdict(tuned[chosen[0]]), "epochs": chosen[1] + 1},
    }


def ask_peer(embedded: EmbeddedSet, runs: Sequence[PeerRun], seed: int, python: Path, folder: Path) -> list[PeerAnswer]:
    """Train every run in the peer's environment, with as many threads as we use; `folder` carries the vectors."""
    train, relevant = train_pairs(embedded)
    vectors = {"documents": document_rows(embedded), "train": train}
    vectors |= {split: embedded.splits[split].vectors for split in ("dev", "test")}
    save_file({name: np.ascontiguousarray(array) for name, array in vectors.items()}, folder / "vectors.safetensors")
    asked = [
        {"epochs": run.epochs, "learning_rate": run.learning_rate, "shuffle_seed": seed if run.shuffled else None}
        for run in runs
    ]
    write_json(folder / "request.json", {"relevant": relevant, "runs": asked})
    alike = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Our own packages must not be found there.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | alike
    subprocess.run([python, "-W", "ignore::DeprecationWarning", PEER_SCRIPT, folder], check=True, env=environment)
    answers = []
    for number in range(len(runs)):
        adapted = load_file(folder / f"{number}.safetensors")
        seconds = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
        answers.append(PeerAnswer(unit_stack(adapted["dev"]), unit_stack(adapted["test"]), **seconds))
    return answers


def document_rows(embedded: EmbeddedSet) -> Vectors:
    """One vector per document, float32 [N, D]."""
    return embedded.vectors.vectors


def train_pairs(embedded: EmbeddedSet) -> tuple[Vectors, list[list[int]]]:
    """Train questions [Q, D] and for each the rows of its documents, in the order of the judgements."""
    train = embedded.splits["train"]
    relevant = [train.judgements.positives(row).tolist() for row in range(len(train))]
    # Where the only answer is missing from the corpus there is no pair.
    paired = [row for row, documents in enumerate(relevant) if documents]
    return train.vectors[paired], [relevant[row] for row in paired]


def unit_stack(vectors: Vectors) -> Vectors:
    """The last axis of [E, Q, D] scaled to unit length."""
    epochs, questions, dimension = vectors.shape
    return unit(vectors.reshape(-1, dimension)).reshape(epochs, questions, dimension)


def score(embedded: EmbeddedSet, split: str, vectors: Vectors) -> dict[str, FloatArray]:
    """Metric -> value of each query of a split, searched by `vectors` [Q, D]; as the comparison does it."""
    # Deeper than any cut-off, so that equal scores at the edge are ordered by id as everywhere.
    scores, rows = embedded.vectors.top_k(vectors, 100)
    ranks = lexicographic_ranks([document.id for document in embedded.documents])
    return per_query(np.asarray(order_run(scores, rows, ranks)), embedded.splits[split].judgements, KS)


def ndcg(embedded: EmbeddedSet, split: str, vectors: Vectors) -> float:
    """Mean nDCG@10 of one split."""
    return float(score(embedded, split, vectors)["ndcg@10"].mean())


def choose(curves: Sequence[Sequence[float]], plain: float) -> tuple[int, int] | None:
    """(run, epoch from 0) with the best dev figure, the earliest of equals; None where none beats the question."""
    tried = [(run, epoch) for run, curve in enumerate(curves) for epoch in range(len(curve))]
    run, epoch = max(tried, key=lambda place: curves[place[0]][place[1]])
    return (run, epoch) if curves[run][epoch] > plain else None


def figures(
    key: str, values: Mapping[str, Mapping[str, FloatArray]], seconds: Mapping[str, float], comparison: Comparison
) -> dict[str, float | None]:
    """Means of one system, its training, and p of ours against it."""
    ndcg_values = values[key]["ndcg@10"]
    p_value = paired_randomisation(values[OURS]["ndcg@10"], ndcg_values, comparison.seed)
    return {
        **{metric: float(each.mean()) for metric, each in values[key].items()},
        "unseen_ndcg@10": float(ndcg_values[comparison.unseen].mean()) if comparison.unseen.any() else None,
        "train_seconds": seconds[key],
        "times_ours": seconds[key] / seconds[OURS] if seconds[OURS] else None,
        "p_value": None if key == OURS else p_value,
    }


def table(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """One set as Markdown: means over the seeds, a p-value for each."""
    first = results[0]
    lines = [
        f"\n### {name}: {first['train_questions']:,} train and {first['questions']:,} test questions, "
        f"{first['documents']:,} documents, {len(results)} {'seed' if len(results) == 1 else 'seeds'}\n",
        "| system | nDCG@10 | R@10 | MRR@10 | unseen sources | train CPU-s | times ours | p, JASPER against it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in first["systems"]:
        rows = [one["systems"][key] for one in results]
        means = [_mean(rows, metric, ".3f") for metric in ("ndcg@10", "recall@10", "mrr@10", "unseen_ndcg@10")]
        trained = (
            [_mean(rows, "train_seconds", ".1f"), _mean(rows, "times_ours", ".2f")] if key != "plain" else ["", ""]
        )
        chances = ["" if row["p_value"] is None else f"{row['p_value']:.2g}" for row in rows]
        lines.append(f"| {' | '.join([SYSTEMS[key], *means, *trained, ', '.join(chances)])} |")
    picked = [one["tuned"] for one in results if len(one["peer_runs"]) > len(AS_GIVEN)]
    if picked:
        lines.append(f"\nTuned: {'; '.join(map(_described, picked))}.")
    return "\n".join(lines)


def _mean(rows: Sequence[Mapping[str, float | None]], metric: str, form: str) -> str:
    values = [value for row in rows if (value := row[metric]) is not None]
    return format(float(np.mean(values)), form) if values else ""


def _described(chosen: Mapping[str, Any] | None) -> str:
    if chosen is None:
        return "no epoch of any run beat the plain question on dev"
    rate = "default rate" if chosen["learning_rate"] is None else f"rate {chosen['learning_rate']:g}"
    return f"epoch {chosen['epochs']}, {rate}, pairs {'shuffled' if chosen['shuffled'] else 'in file order'}"


if __name__ == "__main__":
    main()
