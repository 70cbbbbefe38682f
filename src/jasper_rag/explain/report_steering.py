"""The report's section on topics: what a search gains when it is told where to look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.explain.report_data import ReportData, finite_number
from jasper_rag.explain.report_markup import MISSING, escape, fixed, lines

_MEASURES = ("ndcg@10", "recall@10", "mrr@10")
_SHARES = (
    "router_accuracy@1",
    "router_accuracy@3",
    "nearest_centroid_accuracy@1",
    "nearest_centroid_accuracy@3",
    "router_ece",
)
_REMEDY = "Expected the metrics.json of a finished fit."


def steering(data: ReportData) -> str:
    """The modes of steering as a table; empty for a run without topics.

    Raises:
        InputError: The metrics hold something else than modes with numbers.
    """
    found = data.metrics.get("steering_modes")
    if found is None:
        return ""
    if not isinstance(found, Mapping):
        problem = f"expected a mapping of modes, got {found!r}."
        raise InputError(problem, field="steering_modes", remedy=_REMEDY)
    topics = finite_number(found, "topics", "steering_modes.")
    count = MISSING if topics is None else f"{topics:,.0f}"
    share = {key: _share(found, key) for key in _SHARES}
    return f"""<p class="legend" id="steering-legend">The documents fall into {count} topics, and a search can be told
which one to look in. The router's first topic is the right one for {share["router_accuracy@1"]} of the questions,
one of its first three for {share["router_accuracy@3"]}; the topic with the nearest centroid would be for
{share["nearest_centroid_accuracy@1"]} and {share["nearest_centroid_accuracy@3"]}. Its percentages are off by
{share["router_ece"]} on average. The last row of each table knows the answer and is an upper bound.</p>
{_table(found, "search", "The search as it ships: documents of the topic are preferred")}
{_table(found, "modes", "The prediction alone, ungated, without BM25, moved towards the topic")}"""


def _table(found: Mapping[str, Any], key: str, caption: str) -> str:
    modes = found.get(key)
    if not isinstance(modes, Mapping):
        raise InputError(f"expected a mapping of modes, got {modes!r}.", field=f"steering_modes.{key}", remedy=_REMEDY)
    rows = lines(_row(name, modes[mode], f"{key}.{mode}") for mode, name in STEERING_NAMES.items() if mode in modes)
    return f"""<div class="scroll" role="region" aria-labelledby="steering-heading" tabindex="0">
<table aria-describedby="steering-legend"><caption>{caption}</caption>
<thead><tr><th scope="col">Asked with</th><th scope="col" class="number">nDCG@10</th>
<th scope="col" class="number">Recall@10</th><th scope="col" class="number">MRR@10</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def _row(name: str, figures: Any, mode: str) -> str:
    owner = f"steering_modes.{mode}"
    if not isinstance(figures, Mapping):
        raise InputError(f"expected a mapping of metrics, got {figures!r}.", field=owner, remedy=_REMEDY)
    numbers = (fixed(finite_number(figures, measure, f"{owner}.")) for measure in _MEASURES)
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _share(values: Mapping[str, Any], key: str) -> str:
    share = finite_number(values, key, "steering_modes.")
    return MISSING if share is None else f"{share:.0%}"
