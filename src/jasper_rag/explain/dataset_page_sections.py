"""The sections of the dataset page, each a function from the summary to HTML; an empty string leaves one out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jasper_rag.explain.dataset_page_data import (
    TIER_NAMES,
    ClusterFigures,
    DatasetSummary,
    Sample,
    SampleNegative,
    SplitFigures,
)
from jasper_rag.explain.dataset_page_plots import bar, stacked
from jasper_rag.explain.report_markup import MISSING, clip, escape, fixed, lines
from jasper_rag.explain.report_plots import interval, interval_axis, interval_scale

SHOWN, LISTED = 30, 300
"""Topics that are listed at once, and those that are listed at all, on a click."""

TIER_MEANINGS = {
    1: "another source of the answer's topic",
    2: "from the topics beside it",
    3: "the most similar to the question elsewhere",
    4: "any source of another topic",
}
VARIANT_MEANINGS = {
    "zero": "no guidance, as a question comes when nobody steers",
    "centroid": "the way from the question to the centre of its topic",
    "keyword": "the weighted mean of the pair's keywords",
    "residual": "how the question differs from the centre of its topic",
}
_QUESTION_COLUMNS, _TITLE_COLUMNS, _TEXT_COLUMNS, _NEGATIVE_COLUMNS = 300, 90, 420, 110


def header(summary: DatasetSummary) -> str:
    """Name, what it is in a sentence, and the few figures to remember."""
    counts = summary.counts
    figures = "".join(
        f"<div><dt>{name.capitalize()}</dt><dd><b>{counts[key]:,}</b></dd></div>"
        for key, name in (
            ("pairs", "pairs"),
            ("questions", "questions"),
            ("sources", "sources"),
            ("clusters", "topics"),
            ("keywords", "keywords"),
        )
    )
    return lines(
        [
            f'<p class="eyebrow">JASPER-RAG dataset</p>\n<h1>{escape(summary.name)}</h1>',
            f'<p class="verdict">{escape(verdict(summary))}</p>',
            f'<dl class="figures">{figures}</dl>',
        ]
    )


def verdict(summary: DatasetSummary) -> str:
    """What the set is and whether its splits are clean, in two sentences."""
    counts = summary.counts
    first = (
        f"{counts['questions']:,} questions with known answers among {counts['sources']:,} sources in "
        f"{counts['clusters']:,} topics, and {counts['n_neg']} hard negatives for each."
    )
    tested = [split for split in summary.splits if split.name != "train"]
    leaking = [split for split in tested if split.shared_sources or split.near_duplicates]
    if not tested:
        return f"{first} There is nothing but train."
    if not leaking:
        return f"{first} Nothing of {' and '.join(split.name for split in tested)} stands in train."
    told = ", ".join(f"{' and '.join(_shared(split))} of {split.name}" for split in leaking)
    return f"{first} Not quite clean: {told} stand in train too, or nearly so, and figures on them flatter."


def _shared(split: SplitFigures) -> list[str]:
    """What of a split stands in train, in words."""
    counts = (("source", split.shared_sources), ("question", split.near_duplicates))
    return [f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts if count]


def topics(summary: DatasetSummary, plot: str, colours: Sequence[str]) -> str:
    """The map, and every topic with its size.

    Args:
        summary: The dataset.
        plot: SVG of the map; empty without one.
        colours: By topic; empty for a topic that is not on the map.
    """
    order = sorted(range(len(summary.clusters)), key=lambda number: -summary.clusters[number].sources)
    largest = summary.clusters[order[0]].sources
    rows = [_topic(number, summary.clusters[number], largest, colours[number]) for number in order[:LISTED]]
    legend = (
        '<p class="legend">Every dot is a source, every disc a topic. The most typical sources stand in the middle of '
        "their topic; doubtful ones lean towards the topic they might belong to as well. Similar topics are near each "
        f"other as far as a plane allows.{'' if summary.has_texts else _NO_TEXTS}</p>"
    )
    return lines([legend, plot, f'<ol class="topics">\n{lines(rows[:SHOWN])}\n</ol>', _more(rows[SHOWN:], len(order))])


def _more(rows: Sequence[str], total: int) -> str:
    """The smaller topics, folded."""
    if not rows:
        return ""
    hidden = total - SHOWN - len(rows)
    rest = f'\n<p class="legend">and {hidden:,} smaller ones</p>' if hidden else ""
    return f"""<details class="more"><summary>{total - SHOWN:,} smaller topics</summary>
<ol class="topics" start="{SHOWN + 1}">
{lines(rows)}
</ol>{rest}</details>"""


_NO_TEXTS = " This directory keeps no texts, so topics are numbers."


def _topic(number: int, cluster: ClusterFigures, largest: int, colour: str) -> str:
    terms = ", ".join(cluster.terms)
    title = f' title="{escape(terms)}"' if terms else ""
    return (
        f'<li data-topic="{number}"{title}><span class="name">{escape(clip(cluster.name, 60))}</span>'
        f'<span class="number">{cluster.sources:,}</span>{bar(cluster.sources / max(largest, 1), colour)}</li>'
    )


def negatives(summary: DatasetSummary) -> str:
    """Shares of the tiers and how near they are to the questions."""
    cosines = [tier.cosine for tier in summary.tiers if tier.cosine is not None]
    scale = interval_scale([*cosines, summary.positive_cosine, 0.0])
    rows = []
    for tier in summary.tiers:
        plot = MISSING
        if tier.cosine is not None:
            plot = interval(
                tier.cosine, None, None, scale=scale, reference=summary.positive_cosine, ours=tier.tier == 3
            )
        rows.append(
            f'<tr><th scope="row"><span class="name">{tier.name}</span> <small>{TIER_MEANINGS[tier.tier]}</small></th>'
            f'<td class="number">{tier.share:.1%}</td><td class="number">{fixed(tier.cosine)}</td>'
            f'<td class="plotted">{plot}</td></tr>'
        )
    return f"""<p class="legend" id="negatives-legend">Each pair has {summary.counts["n_neg"]} negatives: sources that
do not answer its question. A question and its own source have a mean cosine of {fixed(summary.positive_cosine)}: the
nearer a tier comes to that, the harder it is.</p>
<div class="scroll" role="region" aria-labelledby="negatives-heading" tabindex="0">
<table class="comparison tiers" aria-describedby="negatives-legend">
<thead><tr><th scope="col">Tier</th><th scope="col" class="number">Share</th>
<th scope="col" class="number">Cosine</th><th scope="col" class="plotted">Mean cosine; dashed: own source</th></tr>
</thead><tbody>
{lines(rows)}
</tbody>
<tfoot aria-hidden="true"><tr><td></td><td></td><td></td><td class="plotted">{interval_axis(scale)}</td></tr></tfoot>
</table>
</div>"""


def steering(summary: DatasetSummary) -> str:
    """Shares of the variants when training begins and at the end of the curriculum."""
    shown = [("epoch 0", [variant.first for variant in summary.variants])]
    if summary.last_epoch:
        shown.append((f"epoch {summary.last_epoch}", [variant.last for variant in summary.variants]))
    kinds = [variant.name for variant in summary.variants]
    bars = lines(
        f"<div><dt>{name}</dt><dd>{stacked(list(zip(kinds, shares, strict=True)), f'Shares in {name}')}</dd></div>"
        for name, shares in shown
    )
    rows = lines(
        f'<tr><th scope="row"><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect class="{variant.name}" '
        f'width="10" height="10" rx="2"/></svg> {variant.name} <small>{VARIANT_MEANINGS[variant.name]}</small></th>'
        + "".join(f'<td class="number">{shares[place]:.1%}</td>' for _, shares in shown)
        + "</tr>"
        for place, variant in enumerate(summary.variants)
    )
    heads = "".join(f'<th scope="col" class="number">{name.capitalize()}</th>' for name, _ in shown)
    fallback = ""
    if summary.pairs_without_keywords:
        fallback = f'\n<p class="legend">{summary.pairs_without_keywords:,} pairs have no keyword.</p>'
    return f"""<p class="legend">In every epoch each pair is served with one kind of guidance, drawn with these
probabilities.</p>
<dl class="shares">
{bars}
</dl>
<div class="scroll" role="region" aria-labelledby="steering-heading" tabindex="0"><table class="plain">
<thead><tr><th scope="col">Guidance</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>{fallback}"""


def splits(summary: DatasetSummary) -> str:
    """Sizes, what stands in train too, and what the loader warns of."""
    rows = lines(
        f'<tr><th scope="row">{split.name}</th>'
        + "".join(
            f'<td class="number">{MISSING if value is None else f"{value:,}"}</td>'
            for value in (split.pairs, split.questions, split.sources, split.shared_sources, split.near_duplicates)
        )
        + "</tr>"
        for split in summary.splits
    )
    faults = "".join(f"<li>{escape(fault)}</li>" for fault in summary.faults)
    warned = f"<ul>{faults}</ul>" if faults else "<p>The loader has nothing to warn of.</p>"
    return f"""<div class="scroll" role="region" aria-labelledby="splits-heading" tabindex="0"><table class="plain">
<thead><tr><th scope="col">Split</th><th scope="col" class="number">Pairs</th>
<th scope="col" class="number">Questions</th><th scope="col" class="number">Sources</th>
<th scope="col" class="number">Sources in train</th><th scope="col" class="number">Questions nearly in train</th></tr>
</thead>
<tbody>
{rows}
</tbody></table></div>
<div class="faults">{warned}</div>"""


def samples(summary: DatasetSummary) -> str:
    """Three pairs with their negatives."""
    return lines(_sample(sample, is_open=place == 0) for place, sample in enumerate(summary.samples))


def _sample(sample: Sample, *, is_open: bool) -> str:
    text = clip(sample.source_text, _TEXT_COLUMNS)
    words = "".join(f'<span class="tag">{escape(word)}</span> ' for word in sample.keywords)
    keywords = f'<p class="keywords">{words.strip()}</p>' if words else ""
    body = f"<p>{escape(text)}</p>" if text else ""
    hard = lines(map(_negative, sample.negatives))
    return f"""<details class="example"{" open" if is_open else ""}>
<summary><h3>{escape(clip(sample.question, _QUESTION_COLUMNS))}</h3>
<span class="change">{escape(sample.cluster)}</span></summary>
<div class="sides">
<div><h4>Source <span>{sample.split}, relevance {sample.relevance:g}</span></h4>
<ul class="answer"><li class="relevant"><span class="aside">{fixed(sample.cosine)}</span>
<b>{escape(clip(sample.source_title, _TITLE_COLUMNS))}</b>{body}</li></ul>{keywords}</div>
<div><h4>Negatives <span>tier and cosine with the question</span></h4>
<ol>
{hard}
</ol></div>
</div>
</details>"""


def _negative(negative: SampleNegative) -> str:
    text = clip(negative.text, _NEGATIVE_COLUMNS)
    body = f"<p>{escape(text)}</p>" if text else ""
    aside = f'<span class="aside"><i>{TIER_NAMES[negative.tier]}</i> {fixed(negative.cosine)}</span>'
    return f"<li>{aside}<b>{escape(clip(negative.title, _TITLE_COLUMNS))}</b>{body}</li>"


def facts(summary: DatasetSummary) -> str:
    """Where the numbers come from."""
    kind = "of the original project, or in its formats" if summary.format_version is None else "of this program"
    found = {
        "Format": f"{summary.storage_format}, {kind}",
        "Encoder": summary.encoder or "not kept in this directory",
        "Length of a vector": f"{summary.counts['dimension']:,}",
        "Topics": summary.clustering or "not kept in this directory",
        "Texts": "kept: rows lead back to documents" if summary.has_texts else "not kept in this directory",
        "On disk": f"{summary.megabytes:,.1f} MB",
    }
    items = lines(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in found.items())
    return f'<dl class="facts">\n{items}\n</dl>'


def next_steps(summary: DatasetSummary) -> str:
    """Commands to run next; a click marks a whole one."""
    place = shlex.quote(summary.path)
    commands = [
        f"python examples/train_jasper_predictor.py --dataset-dir {place} --output-dir runs/steered",
        f"jasper mine --run RUN --dataset {place}",
    ]
    items = lines(f'<li><pre tabindex="0"><code>{escape(command)}</code></pre></li>' for command in commands)
    return f'<ol class="commands">\n{items}\n</ol>'
