"""The report's section on topics: what a search gains when it is told where to look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.explain.report_data import ReportData, finite_number
from jasper_rag.explain.report_markup import MISSING, escape, fixed, lines

_MEASURES = ("ndcg@10", "recall@10", "mrr@10")


def steering(data: ReportData) -> str:
    """The modes of steering as a table; empty for a run without topics.

    Raises:
        InputError: The metrics hold something else than modes with numbers.
    """
    found = data.metrics.get("steering_modes")
    if found is None:
        return ""
    modes = found.get("modes") if isinstance(found, Mapping) else None
    if not isinstance(modes, Mapping):
        problem = f"expected a mapping of modes, got {found!r}."
        raise InputError(problem, field="steering_modes", remedy="Expected the metrics.json of a finished fit.")
    rows = lines(_row(name, modes[mode], mode) for mode, name in STEERING_NAMES.items() if mode in modes)
    topics = finite_number(found, "topics", "steering_modes.")
    count = MISSING if topics is None else f"{topics:,.0f}"
    first, three = (_share(found, f"router_accuracy@{k}") for k in (1, 3))
    return f"""<p class="legend" id="steering-legend">The documents fall into {count} topics, and a search can be told
which one to look in. The router's first topic is the right one for {first} of the questions, one of its first three for
{three}. All rows are the prediction alone, ungated, without BM25; the last knows the answer and is an upper bound.</p>
<div class="scroll" role="region" aria-labelledby="steering-heading" tabindex="0">
<table aria-describedby="steering-legend">
<thead><tr><th scope="col">Asked with</th><th scope="col" class="number">nDCG@10</th>
<th scope="col" class="number">Recall@10</th><th scope="col" class="number">MRR@10</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def _row(name: str, figures: Any, mode: str) -> str:
    owner = f"steering_modes.modes.{mode}"
    if not isinstance(figures, Mapping):
        raise InputError(
            f"expected a mapping of metrics, got {figures!r}.",
            field=owner,
            remedy="Expected the metrics.json of a finished fit.",
        )
    numbers = (fixed(finite_number(figures, measure, f"{owner}.")) for measure in _MEASURES)
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _share(values: Mapping[str, Any], key: str) -> str:
    share = finite_number(values, key, "steering_modes.")
    return MISSING if share is None else f"{share:.0%}"
