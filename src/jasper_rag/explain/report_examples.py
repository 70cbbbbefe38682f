"""The examples of the report: each question with its hits before and after, and a filter over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.explain.report_markup import clip, escape, fixed, lines

SHOWN_HITS = 5
"""Hits of a list that are always shown; below them only the first relevant one."""

OPEN_EXAMPLES = 3
"""Examples that are open when the page opens."""

OUTCOMES: Mapping[str, str] = {"better": "Better", "worse": "Worse", "same": "Unchanged"}
"""Key in the page -> word, by the rank of the first relevant hit."""

_QUESTION_COLUMNS, _TITLE_COLUMNS, _TEXT_COLUMNS = 300, 72, 140


def examples(data: ReportData) -> str:
    """The filter and every example."""
    if not data.examples:
        return ""
    items = lines(_example(example, position) for position, example in enumerate(data.examples))
    return f"{_filter(data.examples)}\n{items}"


def first_relevant(hits: Sequence[Hit]) -> int | None:
    """Rank, from 1, of the first relevant hit; None without one."""
    return next((rank for rank, hit in enumerate(hits, start=1) if hit.relevant), None)


def outcome(example: Example) -> str:
    """A key of `OUTCOMES`: whether the first relevant hit rose, sank, or stayed; not found is below every rank."""
    before, after = first_relevant(example.before), first_relevant(example.after)
    if before == after:
        return "same"
    return "better" if before is None or (after is not None and after < before) else "worse"


def _filter(all_examples: Sequence[Example]) -> str:
    """Text box, outcome and count; hidden until the script, which they need, has run."""
    counts = Counter(outcome(example) for example in all_examples)
    total = len(all_examples)
    options = "".join(
        f'<option value="{key}">{word} ({counts[key]})</option>' for key, word in OUTCOMES.items() if counts[key]
    )
    return f"""<form class="filter" id="filter" role="search" aria-label="Examples" hidden>
<label>Filter <input type="search" id="filter-text" placeholder="words in questions and documents" \
autocomplete="off" spellcheck="false"></label>
<label>Outcome <select id="filter-outcome"><option value="">all ({total})</option>{options}</select></label>
<button type="button" id="filter-open">Open all</button>
<output id="filter-count" for="filter-text filter-outcome">{total} of {total} shown</output>
</form>"""


def _example(example: Example, position: int) -> str:
    key = outcome(example)
    note = f'<p class="note">{escape(example.note)}</p>\n' if example.note else ""
    before = _side("Before", "question alone", example.before, ranks={})
    earlier = {hit.document_id: rank for rank, hit in enumerate(example.before, start=1)}
    after = _side("After", "with JASPER", example.after, ranks=earlier)
    is_open = " open" if position < OPEN_EXAMPLES else ""
    return f"""<details class="example" data-outcome="{key}"{is_open}>
<summary><h3>{escape(clip(example.question, _QUESTION_COLUMNS))}</h3>
<span class="change {key}">{_change(example)}</span></summary>
{note}<div class="sides">
{before}
{after}
</div>
</details>"""


def _change(example: Example) -> str:
    """The outcome with the ranks of the first relevant hit."""
    word, before, after = OUTCOMES[outcome(example)], _rank(example.before), _rank(example.after)
    if before == after:
        return f"<b>{word}</b> {before}"
    return f'<b>{word}</b> {before} <span aria-label="to">→</span> {after.removeprefix("rank ")}'


def _rank(hits: Sequence[Hit]) -> str:
    rank = first_relevant(hits)
    return f"not in the first {len(hits)}" if rank is None else f"rank {rank}"


def _side(name: str, system: str, hits: Sequence[Hit], *, ranks: Mapping[str, int]) -> str:
    """One list of hits; `ranks` are those of the other list, empty for the list that came first."""
    if not hits:
        return f"<div><h4>{name} <span>{system}</span></h4><p>No hits.</p></div>"
    items = lines(_hit(hit, rank, _movement(hit, rank, ranks)) for rank, hit in _shown(hits))
    return f"<div><h4>{name} <span>{system}</span></h4>\n<ol>\n{items}\n</ol></div>"


def _shown(hits: Sequence[Hit]) -> Iterator[tuple[int, Hit]]:
    first = first_relevant(hits)
    for rank, hit in enumerate(hits, start=1):
        if rank <= SHOWN_HITS or rank == first:
            yield rank, hit


def _movement(hit: Hit, rank: int, ranks: Mapping[str, int]) -> str:
    """Where the hit stood in the other list, if that says anything new."""
    if not ranks or ranks.get(hit.document_id) == rank:
        return ""
    return f"was {ranks[hit.document_id]}" if hit.document_id in ranks else "new"


def _hit(hit: Hit, rank: int, movement: str) -> str:
    # A mark with a word and a heavier edge: the difference must not hang on colour.
    tag = '<span class="tag">✓ relevant</span>' if hit.relevant else ""
    moved = f"<i>{movement}</i> " if movement else ""
    text = clip(hit.text, _TEXT_COLUMNS)
    body = f"<p>{escape(text)}</p>" if text else ""
    title = escape(clip(hit.title or hit.document_id, _TITLE_COLUMNS))
    kind = ' class="relevant"' if hit.relevant else ""
    aside = f'<span class="aside">{moved}{fixed(hit.score)}</span>'
    return f'<li value="{rank}"{kind}>{aside}<b>{title}</b> {tag}{body}</li>'
