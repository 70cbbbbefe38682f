"""The sections of the report, each a function from the data to HTML; an empty string leaves the section out."""

from __future__ import annotations

from collections.abc import Sequence

from jasper_rag.explain.report_data import BASELINE, ReportData, SystemResult, finite_number, system_results
from jasper_rag.explain.report_markup import MISSING, escape, fixed, lines, p_value, seconds, signed
from jasper_rag.explain.report_plots import Scale, interval, interval_axis, interval_scale

TRAINED_HERE = frozenset({"jasper_ungated", "jasper", "rrf_jasper", "hybrid"})
"""Systems that search with the prediction of this run."""

_KEY_FIGURES = {"plain": "question alone", "bm25": "BM25", "jasper": "JASPER", "hybrid": "JASPER + BM25"}

_HOW_TO_READ = """<details class="reading"><summary>How to read this</summary>
<p><b>nDCG@10</b> says how far up the right documents stand among the first ten: 1 is a perfect ranking, 0 means none
was found. <b>Recall@10</b> is the share of right documents among the first ten; <b>MRR@10</b> is 1 divided by the rank
of the first right one. Every number is a mean over test questions that took no part in training.</p>
<p>The <b>whisker</b> is the interval in which the mean lies in 95 of 100 resamples of the questions. Whiskers that
overlap do not make two systems equal: <b>p</b> compares them question by question. It is the chance of a difference at
least this large between systems that are in truth alike, so below 0.05 the difference is unlikely to be luck. It is not
corrected for the number of rows.</p></details>"""


def header(data: ReportData) -> str:
    """Name, verdict, size of the evaluation, and the few figures to remember."""
    metrics = data.metrics
    size = [escape(metrics[key]) for key in ("dataset",) if metrics.get(key)]
    size += [f"{escape(metrics['split'])} split"] if metrics.get("split") else []
    for key, noun in (("questions", "question"), ("documents", "document"), ("seed", "")):
        value = finite_number(metrics, key)
        if value is not None:
            size.append(f"{value:,.0f} {noun}{'' if value == 1 else 's'}" if noun else f"{key} {value:.0f}")
    # "p < 0.001" stays on one line.
    verdict = escape(metrics.get("verdict") or "").replace(" &lt; ", "&nbsp;&lt;&nbsp;")
    return lines(
        [
            f'<p class="eyebrow">JASPER-RAG report</p>\n<h1>{escape(data.name)}</h1>',
            f'<p class="verdict">{verdict}</p>' if verdict else "",
            f'<p class="size">{" · ".join(size)}</p>' if size else "",
            _key_figures(system_results(metrics)),
        ]
    )


def comparison(data: ReportData) -> str:
    """The table of systems, their intervals on one scale, and how to read them."""
    results = system_results(data.metrics)
    baseline = next((result.ndcg for result in results if result.key == BASELINE), None)
    ends = [end for row in results for end in (row.ndcg, row.low, row.high) if end is not None]
    scale = interval_scale(ends)
    top = max(result.ndcg for result in results)
    rows = lines(_comparison_row(row, scale, baseline, is_best=row.ndcg == top) for row in results)
    legend = "nDCG@10 with its 95 % interval. Filled dots search with JASPER"
    if baseline is not None:
        legend += "; gain and p compare with the question alone, the dashed line"
    return f"""<p class="legend" id="comparison-legend">{legend}.</p>
<div class="scroll" role="region" aria-labelledby="comparison-heading" tabindex="0">
<table class="comparison" aria-describedby="comparison-legend">
<thead><tr><th scope="col">System</th><th scope="col" class="number">nDCG@10</th>
<th scope="col" class="plotted">95 % interval</th><th scope="col" class="number">Gain</th>
<th scope="col" class="number">p</th><th scope="col" class="number">Recall@10</th>
<th scope="col" class="number">MRR@10</th><th scope="col" class="number">Training</th></tr></thead>
<tbody>
{rows}
</tbody>
<tfoot aria-hidden="true"><tr><td></td><td></td><td class="plotted">{interval_axis(scale)}</td>
<td></td><td></td><td></td><td></td><td></td></tr></tfoot>
</table>
</div>
{_HOW_TO_READ}"""


def facts(data: ReportData) -> str:
    """What the run was made of."""
    items = lines(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in data.facts.items())
    return f'<dl class="facts">\n{items}\n</dl>' if items else ""


def next_steps(data: ReportData) -> str:
    """Commands to run next; a click marks a whole one."""
    items = lines(
        f'<li><pre tabindex="0" aria-label="command"><code>{escape(command)}</code></pre></li>'
        for command in data.next_commands
    )
    return f'<ol class="commands">\n{items}\n</ol>' if items else ""


def _key_figures(results: Sequence[SystemResult]) -> str:
    by_key = {result.key: result for result in results}
    baseline = by_key.get(BASELINE)
    figures = []
    for key, name in _KEY_FIGURES.items():
        if key not in by_key:
            continue
        beside = "<span>nDCG@10</span>"
        if baseline is not None and key != BASELINE:
            gain = signed(by_key[key].ndcg - baseline.ndcg)
            beside = f'<span class="up">{gain}</span>' if gain.startswith("+") and key in TRAINED_HERE else gain
        kind = ' class="ours"' if key in TRAINED_HERE else ""
        figures.append(f"<div{kind}><dt>{name}</dt><dd><b>{fixed(by_key[key].ndcg)}</b> {beside}</dd></div>")
    return f'<dl class="figures">{"".join(figures)}</dl>' if figures else ""


def _comparison_row(result: SystemResult, scale: Scale, baseline: float | None, *, is_best: bool) -> str:
    # A remark in brackets goes below the name, which keeps the column narrow enough for a phone.
    name, _, remark = result.name.partition(" (")
    remark_line = f" <small>{escape(remark.removesuffix(')'))}</small>" if remark else ""
    best = ' <span class="tag">best</span>' if is_best else ""
    gain = MISSING if baseline is None or result.key == BASELINE else signed(result.ndcg - baseline)
    ours = result.key in TRAINED_HERE
    plot = interval(result.ndcg, result.low, result.high, scale=scale, reference=baseline, ours=ours)
    numbers = [
        gain,
        escape(p_value(result.p_value)),
        fixed(result.recall),
        fixed(result.mrr),
        seconds(result.train_seconds),
    ]
    cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers)
    kind = ' class="best"' if is_best else ""
    return (
        f'<tr{kind}><th scope="row"><span class="name">{escape(name)}</span>{best}{remark_line}</th>'
        f'<td class="number main">{fixed(result.ndcg)}</td><td class="plotted">{plot}</td>{cells}</tr>'
    )
