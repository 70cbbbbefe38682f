"""What the report of a run is made of: examples, facts, topics on a map, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.encoder_choice import GIVEN_VECTORS
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.explain.routing_view import RoutingView, routing_view
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.models.topics import answer_topics
from jasper_rag.retrieval.topic_search import route
from jasper_rag.text.leakage import LeakReport
from jasper_rag.text.records import Document

EXAMPLES = 40
EXAMPLE_DEPTH = 10


def run_report(jasper: Jasper, record: FitRecord, metrics: Mapping[str, Any], directory: Path) -> ReportData:
    """What the report of a run shows.

    Args:
        jasper: Trained.
        record: Of its training.
        metrics: The content of metrics.json.
        directory: The run directory, for the commands to type next.
    """
    comparison = record.comparison
    shown = _shown(comparison)
    return ReportData(
        name=f"{comparison.dataset}: does it retrieve better?",
        metrics=metrics,
        history=record.candidates.trained.history,
        examples=tuple(example(comparison, record, row) for row in shown),
        facts=facts(jasper, record),
        next_commands=next_commands(directory, jasper.model.identity.name),
        routing=_routing(jasper, record, shown),
    )


def _shown(comparison: Comparison) -> list[int]:
    """Rows of the questions that changed most, gains and losses alike, then an even sample of the rest."""
    before, after = comparison.runs["plain"], comparison.runs[comparison.default]
    change = after.values["ndcg@10"] - before.values["ndcg@10"]
    order = np.argsort(-change, kind="stable")
    third = EXAMPLES // 3
    middle = order[third:-third][:: max(1, len(order) // third)] if len(order) > EXAMPLES else order[third:]
    chosen = dict.fromkeys([*order[:third].tolist(), *order[-third:][::-1].tolist(), *middle.tolist()])
    return list(chosen)[:EXAMPLES]


def _routing(jasper: Jasper, record: FitRecord, shown: Sequence[int]) -> RoutingView | None:
    """Where the shown questions are routed; None without topics."""
    model, comparison, embedded = jasper.model, record.comparison, record.embedded
    if model.topics is None:
        return None
    queries = embedded.splits[comparison.split]
    searched = jasper.transform(queries.vectors)
    passages = embedded.vectors.passages
    vectors = embedded.vectors.vectors
    return routing_view(
        vectors if passages is None else vectors[passages.starts],
        _labels(embedded.documents),
        model.topics,
        queries.texts,
        np.ascontiguousarray(queries.vectors),
        searched,
        comparison.runs[comparison.default].rows[:, :EXAMPLE_DEPTH],
        route(searched, embedded.vectors, model.topics, model.routing.router),
        answer_topics(queries.judgements, model.topics.assignment),
        shown,
    )


def _labels(documents: Sequence[Document]) -> list[str]:
    """Titles, followed by how the text begins where several documents share one."""
    shared = Counter(document.title for document in documents)
    return [
        document.title if shared[document.title] == 1 and document.title else document.content or document.id
        for document in documents
    ]


def example(comparison: Comparison, record: FitRecord, row: int) -> Example:
    """One question of the compared split, ranked by the plain encoder and by the default search."""
    queries = record.embedded.splits[comparison.split]
    relevant = set(queries.judgements.positives(row).tolist())
    before, after = (
        tuple(
            _hit(record.embedded.documents[document], float(score), document in relevant)
            for score, document in zip(run.scores[row][:EXAMPLE_DEPTH], run.rows[row][:EXAMPLE_DEPTH], strict=True)
            if document >= 0
        )
        for run in (comparison.runs["plain"], comparison.runs[comparison.default])
    )
    return Example(queries.texts[row], before, after)


def _hit(document: Document, score: float, relevant: bool) -> Hit:
    return Hit(document.id, document.title, document.text, score, relevant)


def facts(jasper: Jasper, record: FitRecord) -> dict[str, str]:
    """What was decided and what it rests on, for people."""
    embedded, guard, weights = record.embedded, record.guard, jasper.model.weights
    found: dict[str, str] = {
        "Encoder": f"{jasper.model.identity.name}, {jasper.model.identity.dimension} dimensions",
        "Documents": f"{len(embedded.documents):,}",
        "Questions": ", ".join(f"{len(queries):,} {split}" for split, queries in embedded.splits.items()),
        "Trained on": _trained_on(record),
    }
    passages = embedded.vectors.passages
    if passages is not None:
        found["Passages"] = f"{len(passages.spans):,}; a document scores as its best one"
    if record.truncated_share is not None:
        found["Documents longer than the encoder reads"] = f"{record.truncated_share:.1%}"
    gate = "off" if guard.guard.gate is None else f"fully open for {guard.open_share:.0%} of dev questions"
    found |= {
        "Blend of question and prediction": f"a = {guard.guard.alpha:g} (dev p = {guard.p_value:.2g})",
        "Familiarity gate": gate,
        "Weight of BM25 in the fusion": (
            f"{weights.jasper:g} beside JASPER, {weights.plain:g} beside the plain encoder"
            if jasper.model.lexical is not None
            else "none: the documents have no text"
        ),
        "Topics": record.topics.summary(),
        "Training": f"{record.candidates.cpu_seconds:.1f} CPU-seconds",
        "Leaks between splits": _leaks(record.leaks),
    }
    return found


def _trained_on(record: FitRecord) -> str:
    dev = record.candidates.dev_ndcg
    chosen = record.questions.kind if len(dev) == 1 else record.candidates.chosen
    tried = ", ".join(f"{name} {value:.3f}" for name, value in dev.items())
    return f"{chosen} questions" + (f" (dev nDCG@10: {tried})" if len(dev) > 1 else "")


def _leaks(report: LeakReport) -> str:
    kinds = {
        "questions in several splits": report.equal_queries.count,
        "sources shared by splits": report.shared_sources.count,
        "questions quoted in their own answers": report.verbatim_queries.count,
    }
    return "; ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) or "none found"


def next_commands(directory: Path, encoder: str = "") -> tuple[str, ...]:
    """What to type after a fit; `encoder` is the name of the vectors' identity."""
    run = shlex.quote(str(directory))
    if encoder == GIVEN_VECTORS:
        return (
            f"jasper export --run {run} --to DIR",
            f'jasper search --run {run} --encoder YOURS "your question"',
        )
    return (
        f'jasper search --run {run} "your question"',
        f'jasper explain --run {run} "your question"',
        f"jasper evaluate --run {run} --data DIR --split test",
    )
