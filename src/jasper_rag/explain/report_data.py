"""What a report is made of: metrics, the history of the training, examples, facts, commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import SYSTEM_NAMES

if TYPE_CHECKING:  # a report without routing needs no NumPy
    from jasper_rag.explain.routing_view import RoutingView

BASELINE = "plain"
"""Key of the system that every other is compared with."""

_REMEDY = "Expected the metrics.json of a finished evaluation."


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved document of an example.

    Args:
        document_id: Its id in the corpus; the same document before and after is found by it.
        title: Heading; the id is shown where it is empty.
        text: Body; the page shows the beginning.
        score: Whatever it was ranked by.
        relevant: Whether the judgements call it an answer.
    """

    document_id: str
    title: str
    text: str
    score: float
    relevant: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its best documents, best first, before and after.

    Args:
        question: As asked.
        before: Ranking of the plain encoder.
        after: Ranking of the trained search; as deep as `before`, so that ranks can be compared.
        note: A remark shown above the two lists.
    """

    question: str
    before: tuple[Hit, ...]
    after: tuple[Hit, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on one report page.

    Args:
        name: Title of the page.
        metrics: The run's `metrics.json`; `systems` with their `ndcg@10` are required, the rest is shown if there.
        history: One mapping per epoch: `epoch`, `train/total`, `val/ndcg@10`, `val/ndcg@10_question`, `train/lr`;
            dev nDCG@10 by steering (`val/ndcg@10_centroid` and the like) and figures of routing are drawn if there.
        examples: Questions side by side, in the order to show them.
        facts: Name -> text, in order: the encoder, the counts, the leak check, the gate.
        next_commands: Shell commands worth running next.
        routing: The map of topics and where questions were routed; None for a run without topics.
    """

    name: str
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]] = ()
    examples: Sequence[Example] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    next_commands: Sequence[str] = ()
    routing: RoutingView | None = None


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One row of the comparison; None for what the run did not measure.

    Args:
        key: Key in the metrics.
        name: Name people read; the key of a system not in `SYSTEM_NAMES`.
        ndcg: nDCG@10, mean over the questions, in [0, 1].
        low: Lower bound of its 95 % interval.
        high: Upper bound of its 95 % interval.
        recall: Recall@10, in [0, 1].
        mrr: MRR@10, in [0, 1].
        p_value: Of the paired test against the plain encoder.
        train_seconds: Seconds of training.
    """

    key: str
    name: str
    ndcg: float
    low: float | None
    high: float | None
    recall: float | None
    mrr: float | None
    p_value: float | None
    train_seconds: float | None


def system_results(metrics: Mapping[str, Any]) -> tuple[SystemResult, ...]:
    """Rows of the comparison: known systems in the order of `SYSTEM_NAMES`, then the others as they come.

    Raises:
        InputError: Without systems, or for a value that is no number, or a system without `ndcg@10`.
    """
    systems = metrics.get("systems")
    if not isinstance(systems, Mapping) or not systems:
        raise InputError("the metrics have no systems to compare.", remedy=_REMEDY, field="systems")
    keys = [*(key for key in SYSTEM_NAMES if key in systems), *(key for key in systems if key not in SYSTEM_NAMES)]
    return tuple(_system_result(str(key), systems[key]) for key in keys)


def finite_number(values: Mapping[str, Any], key: str, owner: str = "") -> float | None:
    """The finite number under `key`; None where it is absent, null or not finite.

    Args:
        values: Where to look.
        key: What to look for.
        owner: Dotted name of `values` in the error, with its last dot.

    Raises:
        InputError: If there is something else.
    """
    value = values.get(key)
    if value is None:
        return None
    # NumPy's own floats and integers count as numbers; strings that look like one do not.
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise InputError(f"expected a number, got {value!r}.", remedy=_REMEDY, field=owner + key)
    return float(value) if math.isfinite(value) else None


def _system_result(key: str, values: Any) -> SystemResult:
    owner = f"systems.{key}"
    if not isinstance(values, Mapping):
        raise InputError(f"expected a mapping of metrics, got {values!r}.", remedy=_REMEDY, field=owner)

    def value(name: str) -> float | None:
        return finite_number(values, name, f"{owner}.")

    ndcg = value("ndcg@10")
    if ndcg is None:
        raise InputError("a system needs a finite nDCG@10.", remedy=_REMEDY, field=f"{owner}.ndcg@10")
    return SystemResult(
        key=key,
        name=SYSTEM_NAMES.get(key, key),
        ndcg=ndcg,
        low=value("ndcg@10_low"),
        high=value("ndcg@10_high"),
        recall=value("recall@10"),
        mrr=value("mrr@10"),
        p_value=value("p_value"),
        train_seconds=value("train_seconds"),
    )
