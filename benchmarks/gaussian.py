"""A Gaussian head over a frozen base: test nDCG@10 of base and head, and the CPU seconds of training, as Markdown.

    python benchmarks/gaussian.py --data-root DATA                                      # tldr, squadshifts_wiki
    python benchmarks/gaussian.py --data-root DATA --sets tldr --set temperature=0.025 --set lambda_isotropy=0

DATA holds BEIR folders. The train split becomes pairs, the dev split chooses the epoch, the test split is searched in
the whole corpus. Vectors of the base are cached: a second run trains and measures only.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from jasper_rag.atomic_files import write_json
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.metrics.geometry import effective_rank, hubness, isotropy_score
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.pair_files import TrainingExample, write_examples
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.records import RetrievalSet
from jasper_rag.training.cached_base import base_vectors
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_run import prepare_encoder_run
from jasper_rag.training.encoder_validation import mean_ndcg

BASE = "sentence-transformers/all-MiniLM-L6-v2"
SETS = ("tldr", "squadshifts_wiki")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on every set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--base-model", default=BASE)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dev-only", action="store_true", help="leave the test split alone")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    given = dict(entry.split("=", 1) for entry in options.settings)
    settings = {key: _value(value) for key, value in given.items()}
    print(
        "| set | base dev | head dev | epoch | base test | head test | isotropy | rank | hubness | train CPU-s | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name in options.sets:
        rows.append(_measure(options, name, {"epochs": options.epochs, "base_model": options.base_model, **settings}))
        print(_line(rows[-1]), flush=True)
    if options.output is not None:
        write_json(options.output, {"settings": settings, "rows": rows})


def _measure(options: argparse.Namespace, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    found = read_retrieval_set(options.data_root / name)
    store = EmbeddingStore()
    with tempfile.TemporaryDirectory() as folder:
        files = {split: str(Path(folder) / f"{split}.json") for split in ("train", "dev")}
        for split, path in files.items():
            write_examples(path, _pairs(found, split))
        config = EncoderTrainingConfig(
            train_data=files["train"],
            val_data=files["dev"],
            output_dir=str(Path(folder) / "run"),
            freeze_base=True,
            device="cpu",
            **{"output_dim": 384, "save_interval": settings["epochs"], **settings},
        )
        trainer = prepare_encoder_run(config, store=store)
        started = time.process_time()
        state = trainer.fit()
        seconds = time.process_time() - started
        model = GaussianEmbeddingGemma.from_pretrained(Path(folder) / "run" / "best_model.pt", device="cpu")
    row = {"set": name, "base_dev": state.base_ndcg, "head_dev": state.best_ndcg, "epoch": state.best_epoch}
    row |= {"cpu_seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    return row if options.dev_only else {**row, **_test(model, found, store)}


@torch.no_grad()
def _test(model: GaussianEmbeddingGemma, found: RetrievalSet, store: EmbeddingStore) -> dict[str, float]:
    asked = [query for query in found.queries if query.id in found.qrels["test"]]
    rows = {document.id: row for row, document in enumerate(found.documents)}
    judgements = Judgements.from_qrels(found.qrels["test"], [query.id for query in asked], rows)
    queries = base_vectors(model, [query.text for query in asked], "query", store=store)
    documents = base_vectors(model, [document.content for document in found.documents], "document", store=store)
    head = model.predict_query(model.project(queries)).numpy(), model.project(documents).numpy()
    unit = functional.normalize(queries, dim=-1).numpy(), functional.normalize(documents, dim=-1).numpy()
    return {
        "base_test": mean_ndcg(*unit, judgements),
        "head_test": mean_ndcg(*head, judgements),
        "isotropy": isotropy_score(head[1]),
        "rank": effective_rank(head[1]),
        "hubness": hubness(*head),
    }


def _pairs(found: RetrievalSet, split: str) -> list[TrainingExample]:
    documents = {document.id: document.content for document in found.documents}
    queries = {query.id: query.text for query in found.queries}
    return [
        TrainingExample(queries[query], documents[document])
        for query, judged in found.qrels[split].items()
        for document, grade in judged.items()
        if grade > 0 and queries[query].strip() and documents[document].strip()
    ]


def _line(row: Mapping[str, Any]) -> str:
    digits = {"base_dev": 4, "head_dev": 4, "base_test": 4, "head_test": 4, "isotropy": 3, "rank": 0, "hubness": 2}
    digits |= {"cpu_seconds": 1, "peak_mb": 0}
    order = ("base_dev", "head_dev", "epoch", "base_test", "head_test", "isotropy", "rank", "hubness", "cpu_seconds")
    shown = [f"{row[key]:.{digits.get(key, 0)}f}" if key in row else "" for key in (*order, "peak_mb")]
    return f"| {row['set']} | {' | '.join(shown)} |"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    main()
