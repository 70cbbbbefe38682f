"""The report's section on training: loss, quality, steering and routing by epoch, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jasper_rag.explain.report_data import ReportData, finite_number
from jasper_rag.explain.report_markup import MISSING, escape, fixed, lines
from jasper_rag.explain.report_plots import Point, curve

_STEERED = "val/ndcg@10_"
_UNSTEERED = frozenset({"question"})
"""Endings of dev nDCG@10 that are no form of steering."""

_STEERING: Mapping[str, str] = {
    "zero": "without steering",
    "centroid": "steered to the topic of the answer",
    "keyword": "steered by keywords",
    "residual": "steered by the residual",
    "oracle": "steered to the answer itself",
}
"""What a form of steering is called; others go by their own names."""

_ROUTING: Mapping[str, str] = {
    "train/routing_acc": "Routing accuracy on the training questions",
    "val/routing_acc": "Routing accuracy on the dev questions",
    "val/routing_entropy": "Entropy of the routing, in nats",
    "val/residual_norm_mean": "Mean length of what no topic explains",
}
"""Key in the history -> caption."""


def training(data: ReportData) -> str:
    """Loss, dev nDCG@10, steering and routing by epoch, as far as the history has them, and a table."""
    loss, ndcg = _series(data.history, "train/total"), _series(data.history, "val/ndcg@10")
    plain = _series(data.history, "val/ndcg@10_question")
    plots = []
    if ndcg:
        reference = ("question alone", plain[-1][1]) if plain else None
        drawn = curve(ndcg, name="dev nDCG@10", reference=reference, best="best")
        plots.append(f"<figure><figcaption>nDCG@10 on the dev questions</figcaption>{drawn}</figure>")
    if loss:
        drawn = curve(loss, name="training loss")
        plots.append(f"<figure><figcaption>Training loss</figcaption>{drawn}</figure>")
    plots += _more(data.history)
    if not plots:
        return ""
    return f'<div class="plots">{"".join(plots)}</div>\n{_history_table(data.history)}'


def _more(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Steering and routing by epoch, in the order of their keys."""
    keys = dict.fromkeys(key for row in history for key in row if key.startswith(_STEERED))
    forms = [key.removeprefix(_STEERED) for key in keys]
    known = [form for form in _STEERING if form in forms]
    other = sorted(form for form in forms if form not in _STEERING and form not in _UNSTEERED)
    captions = {_STEERED + form: f"nDCG@10 {_STEERING.get(form, f'steered: {form}')}" for form in (*known, *other)}
    plots = []
    for key, caption in (captions | dict(_ROUTING)).items():
        points = _series(history, key)
        if points:
            name = caption[0].lower() + caption[1:]
            plots.append(f"<figure><figcaption>{escape(caption)}</figcaption>{curve(points, name=name)}</figure>")
    return plots


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """(epoch, value) of the epochs that have both."""
    pairs = ((finite_number(row, "epoch"), finite_number(row, key)) for row in history)
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]


def _history_table(history: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for row in history:
        epoch, rate = finite_number(row, "epoch"), finite_number(row, "train/lr")
        loss, ndcg = finite_number(row, "train/total"), finite_number(row, "val/ndcg@10")
        cells = [fixed(loss, 4), fixed(ndcg, 4), MISSING if rate is None else f"{rate:.2e}"]
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f'<tr><th scope="row">{fixed(epoch, 0)}</th>{numbers}</tr>')
    return f"""<details class="history"><summary>Numbers by epoch</summary>
<div class="scroll tall" role="region" aria-label="Numbers by epoch" tabindex="0"><table>
<thead><tr><th scope="col">Epoch</th><th scope="col" class="number">Training loss</th>
<th scope="col" class="number">Dev nDCG@10</th><th scope="col" class="number">Learning rate</th></tr></thead>
<tbody>
{lines(rows)}
</tbody></table></div></details>"""
