"""From documents, or from pairs, to the files an encoder is trained and tested on.

Near-duplicates go first; then queries are made, pairs are dealt to train, val and test by document, negatives are mined
among the documents that are not answers of val or test, and test queries are asked of the whole corpus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jasper_rag.atomic_files import replacing_entries, write_json
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.errors import InputError
from jasper_rag.file_locks import exclusive
from jasper_rag.retrieval.example_negatives import mine_negatives
from jasper_rag.text.leakage import normalised
from jasper_rag.text.near_duplicates import DistinctTexts, distinct_texts, near_duplicates
from jasper_rag.text.pair_files import EvaluationSet, TrainingExample, write_evaluation_set, write_examples
from jasper_rag.text.pair_splitting import checked_shares, split_pairs
from jasper_rag.text.query_styles import MIXED, Generate, chosen_styles, styled_queries
from jasper_rag.text.verbatim import PhraseFinder

TRAIN, VAL, TEST, REPORT = "train.json", "val.json", "test_eval.json", "preparation_report.json"
NEGATIVES = ("bm25", "encoder", "random")


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """How pairs are made.

    Args:
        num_pairs: Pairs to make of documents; None: one of each. Of given pairs: how many to use at most.
        styles: See `query_styles`.
        add_negatives: Give every training pair a negative.
        negatives: One of `NEGATIVES`.
        split: Shares of train, val and test.
        shuffle: Otherwise the first documents are for train, the last ones for test.
        seed: Another seed, other pairs and splits.
        language: Of BM25 and of the words that are no keywords.
    """

    num_pairs: int | None = None
    styles: tuple[str, ...] = (MIXED,)
    add_negatives: bool = True
    negatives: str = "bm25"
    split: tuple[float, float, float] = (1.0, 0.0, 0.0)
    shuffle: bool = True
    seed: int = 42
    language: str = "english"

    def __post_init__(self) -> None:
        checked_shares(self.split)
        chosen_styles(self.styles)
        if self.negatives not in NEGATIVES:
            problem = f"unknown kind {self.negatives!r}."
            raise InputError(problem, remedy=f"Give one of {', '.join(NEGATIVES)}.", field="negatives")
        if self.num_pairs is not None and self.num_pairs < 1:
            raise InputError(f"{self.num_pairs} pairs.", remedy="Give at least 1.", field="num_pairs")


@dataclass(frozen=True, slots=True)
class PreparedPairs:
    """What training and evaluation read, and how it came about.

    Args:
        train: Pairs to train on.
        val: Pairs to choose a model by; empty where their share is 0.
        test: None where its share is 0.
        report: Plain values for `preparation_report.json`.
    """

    train: tuple[TrainingExample, ...]
    val: tuple[TrainingExample, ...]
    test: EvaluationSet | None
    report: Mapping[str, Any] = field(default_factory=dict)


class _Pair(NamedTuple):
    query: str
    row: int  # of the positive
    style: str
    negative: int = -1  # a given one's row


def prepare_documents(
    documents: Sequence[str],
    config: PreparationConfig | None = None,
    *,
    distractors: Sequence[str] = (),
    generate: Generate | None = None,
    encoder: Encoder | None = None,
) -> PreparedPairs:
    """Make pairs of documents alone.

    Args:
        documents: Texts.
        config: How; the defaults if None.
        distractors: More texts for the test's corpus, which answer nothing.
        generate: Document -> query; its queries go before those of the styles.
        encoder: For `negatives="encoder"`.

    Raises:
        InputError: No document is left, no query can be made of them, or they are too few for the splits.
    """
    config = config or PreparationConfig()
    distinct = distinct_texts(documents)
    made = styled_queries(distinct.texts, config.num_pairs, config.styles, config.seed, config.language, generate)
    pairs = [_Pair(query.text, query.row, query.style) for query in made.queries]
    if not pairs:
        raise InputError(
            f"no query could be made of {len(distinct.texts):,} documents.",
            remedy="Give documents of at least two sentences, or other styles: --styles mixed.",
            field="styles",
        )
    started = {"documents read": len(documents), "pairs asked for": config.num_pairs or len(distinct.texts)}
    dropped = {"blank documents": distinct.blank, **_duplicates(distinct), **made.dropped}
    more, dropped["distractors that were near-duplicates"] = _new(distinct.texts, distractors)
    return _prepared(made.texts, pairs, config, started, dropped, more, encoder)


def prepare_pairs(
    examples: Sequence[TrainingExample],
    config: PreparationConfig | None = None,
    *,
    distractors: Sequence[str] = (),
    encoder: Encoder | None = None,
) -> PreparedPairs:
    """Deal given pairs; a near-duplicate positive is replaced by the first of its kind.

    A given negative stays, unless it is a near-duplicate of an answer or an answer of val or test: then one is mined.

    Raises:
        InputError: They are too few for the splits, or no test query is left.
    """
    config = config or PreparationConfig()
    count = len(examples)
    distinct = distinct_texts([example.positive for example in examples] + [example.negative for example in examples])
    pairs: dict[tuple[str, int], _Pair] = {}
    for place, example in enumerate(examples):
        pair = _Pair(example.query, distinct.rows[place], "given", distinct.rows[count + place])
        pairs.setdefault((normalised(example.query), pair.row), pair)
    dropped = {"pairs that stood before": count - len(pairs)} | _duplicates(distinct)
    chosen = list(pairs.values())[: config.num_pairs]
    more, dropped["distractors that were near-duplicates"] = _new(distinct.texts, distractors)
    return _prepared(distinct.texts, chosen, config, {"pairs read": count}, dropped, more, encoder)


def write_prepared(prepared: PreparedPairs, directory: str | Path, train_file: str | Path | None = None) -> list[Path]:
    """Write all files or none: whatever ends the process, the folder has the old ones or the new ones.

    Args:
        prepared: What to write.
        directory: For val.json, test_eval.json and the report; and train.json, unless it goes elsewhere.
        train_file: Path of the training pairs; outside the folder it is replaced on its own, right before the others.

    Returns:
        The files written.
    """
    directory = Path(directory)
    train = directory / TRAIN if train_file is None else Path(train_file)
    inside = train.absolute().parent == directory.absolute()
    names = [VAL] * bool(prepared.val) + [TEST] * (prepared.test is not None) + [REPORT]
    if inside and train.name in names:
        raise InputError(f"{train.name} is written beside it.", path=train, remedy="Give another --output.")
    with exclusive(directory, "preparing pairs here"), ExitStack() as stack:
        entries = stack.enter_context(replacing_entries(directory))
        outside = entries if inside else stack.enter_context(replacing_entries(train.parent))
        write_examples(outside / train.name, prepared.train)
        if prepared.val:
            write_examples(entries / VAL, prepared.val)
        if prepared.test is not None:
            write_evaluation_set(entries / TEST, prepared.test)
        write_json(entries / REPORT, prepared.report)
    return [train, *(directory / name for name in names)]


def _duplicates(distinct: DistinctTexts) -> dict[str, int]:
    return {"equal documents": distinct.equal, "near-duplicate documents": distinct.similar}


def _new(texts: Sequence[str], distractors: Sequence[str]) -> tuple[list[str], int]:
    """Distractors that are near-duplicates of no document as it was given, and how many are of one."""
    if not distractors:
        return [], 0
    found = distinct_texts([*texts, *distractors])
    return list(found.texts[len(texts) :]), found.equal + found.similar


def _prepared(
    texts: Sequence[str],
    pairs: list[_Pair],
    config: PreparationConfig,
    started: Mapping[str, int],
    dropped: Mapping[str, int],
    distractors: Sequence[str],
    encoder: Encoder | None,
) -> PreparedPairs:
    keys = [normalised(pair.query) for pair in pairs]
    split_of = split_pairs(keys, [pair.row for pair in pairs], config.split, config.seed, shuffle=config.shuffle)
    split = {name: [pair for pair, own in zip(pairs, split_of, strict=True) if own == name] for name in _SPLITS}
    held = {pair.row for name in ("val", "test") for pair in split[name]}
    examples, how = _with_negatives(split, texts, held, config, encoder)
    corpus = distinct_texts([*texts, *distractors])  # a taken-out sentence may have been all the difference
    test, verbatim = _test_set(split["test"], corpus.texts, corpus.rows) if config.split[2] else (None, 0)
    dropped = dict(dropped) | {"test queries that stood word for word in the corpus": verbatim}
    counts = {name: len(examples.get(name, ())) for name in ("train", "val")}
    used = {name: len({pair.row for pair in split[name]}) for name in _SPLITS}
    report = {
        "format_version": 1,
        **{key.replace(" ", "_"): value for key, value in started.items()},
        "documents_kept": len(texts),
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "pairs": {**counts, "test": 0 if test is None else len(test.queries)},
        "documents_with_queries": used,
        "test_corpus": 0 if test is None else len(test.corpus),
        "styles": dict(sorted(Counter(pair.style for pair in pairs).items())),
        "negatives": dict(sorted(how.items())),
        "settings": asdict(config) | {"styles": list(config.styles), "split": list(config.split)},
    }
    return PreparedPairs(examples["train"], examples["val"], test, report)


_SPLITS = ("train", "val", "test")


def _with_negatives(
    split: Mapping[str, list[_Pair]],
    texts: Sequence[str],
    held: set[int],
    config: PreparationConfig,
    encoder: Encoder | None,
) -> tuple[dict[str, tuple[TrainingExample, ...]], dict[str, int]]:
    """Pairs as the files hold them; negatives come from documents that answer nothing in val and test."""
    answers: defaultdict[str, set[int]] = defaultdict(set)
    wanted = [(name, pair) for name in ("train", "val") for pair in split[name]]
    for _, pair in wanted:
        answers[normalised(pair.query)].add(pair.row)
    given = [_usable(pair, answers[normalised(pair.query)], held, texts) for _, pair in wanted]
    how = Counter({"given": sum(row >= 0 for row in given)})
    how["given but replaced"] = sum(pair.negative >= 0 for _, pair in wanted) - how["given"]
    missing = [place for place, row in enumerate(given) if row < 0] if config.add_negatives else []
    if missing:
        mined = mine_negatives(
            [wanted[place][1].query for place in missing],
            [answers[normalised(wanted[place][1].query)] for place in missing],
            texts,
            [row not in held for row in range(len(texts))],
            config.negatives,
            encoder=encoder,
            language=config.language,
            seed=config.seed,
        )
        how.update(mined.how)
        for place, row in zip(missing, mined.rows, strict=True):
            given[place] = row
    made: dict[str, list[TrainingExample]] = {"train": [], "val": []}
    for (name, pair), row in zip(wanted, given, strict=True):
        made[name].append(TrainingExample(pair.query, texts[pair.row], texts[row] if row >= 0 else ""))
    return {name: tuple(rows) for name, rows in made.items()}, {key: count for key, count in how.items() if count}


def _usable(pair: _Pair, answers: set[int], held: set[int], texts: Sequence[str]) -> int:
    row = pair.negative
    if row < 0 or row in answers or row in held or near_duplicates(texts[row], texts[pair.row]):
        return -1
    return row


def _test_set(pairs: Sequence[_Pair], corpus: Sequence[str], rows_of: Sequence[int]) -> tuple[EvaluationSet, int]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    text: dict[str, str] = {}
    for pair in pairs:
        rows[text.setdefault(normalised(pair.query), pair.query)].append(rows_of[pair.row])
    queries = list(rows)
    verbatim = PhraseFinder(queries).found_in_any(corpus)
    kept = [query for number, query in enumerate(queries) if number not in verbatim]
    if not kept:
        raise InputError(
            f"all {len(queries)} test queries stand word for word in a document.",
            remedy="Give queries of other words, or a larger share for the test: --split 0.7 0.1 0.2",
            field="split",
        )
    relevance = tuple(tuple(dict.fromkeys(rows[query])) for query in kept)
    return EvaluationSet(tuple(corpus), tuple(kept), relevance), len(verbatim)
