"""Documents with no questions, few questions, or sentences beside questions: what a fit makes of them, and says."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.run_directory import write_fit
from jasper_rag.run_report import facts
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet
from jasper_rag.text.training_questions import PSEUDO, PSEUDO_DEV

pytestmark = pytest.mark.slow

HASTY = {"training.steps": 2}
DOCUMENTS, SENTENCES = 50, 3
NOTHING = "Nothing was verified on real questions"


@pytest.fixture(scope="module")
def texts() -> tuple[Document, ...]:
    """50 documents of three sentences of six words."""
    generator = random.Random(0)
    vocabulary = ["".join(letters) for letters in itertools.product("bdfgklmn", "aeiou", "bdfgkl", "aeiou")]

    def sentence() -> str:
        return " ".join(generator.sample(vocabulary, 6)).capitalize() + "."

    return tuple(Document(f"d{row}", " ".join(sentence() for _ in range(SENTENCES))) for row in range(DOCUMENTS))


@pytest.fixture(scope="module")
def questions(texts: tuple[Document, ...]) -> tuple[Query, ...]:
    """Question r is made of words of document r."""
    return tuple(Query(f"q{row}", " ".join(document.text.split()[2:14:3])) for row, document in enumerate(texts))


def asked(first: int, last: int) -> Qrels:
    return {f"q{row}": {f"d{row}": 1} for row in range(first, last)}


def record_of(jasper: Jasper) -> FitRecord:
    assert jasper.record is not None
    return jasper.record


@pytest.fixture(scope="module")
def alone(texts: tuple[Document, ...], fitted: Jasper) -> Jasper:
    """Fitted on documents alone."""
    return Jasper.fit(texts, encoder=fitted.encoder, config=load_config(overrides=HASTY))


def test_documents_alone_are_fitted_and_the_verdict_says_on_what(alone: Jasper) -> None:
    record = record_of(alone)
    metrics = record.to_metrics()
    assert metrics["verdict"].startswith(record.comparison.to_metrics()["verdict"])
    assert NOTHING in metrics["verdict"]
    trained_on = metrics["trained_on"]
    assert (trained_on["kind"], trained_on["labelled_pairs"], trained_on["real_test_questions"]) == ("pseudo", 0, 0)
    assert trained_on["pseudo_questions"] == sum(len(queries) for queries in record.embedded.splits.values()) > 50
    assert trained_on["dev_ndcg@10"][trained_on["chosen"]] == record.candidates.trained.best_ndcg
    assert set(record.embedded.splits) == {"train", "dev", "test"}
    assert facts(alone, record)["Trained on"].startswith("pseudo questions")
    # No document is asked for in two splits.
    sources = [set(queries.judgements.documents.tolist()) for queries in record.embedded.splits.values()]
    assert len(set.union(*sources)) == sum(map(len, sources))


def test_the_run_of_documents_alone_says_so_too(alone: Jasper, texts: tuple[Document, ...], tmp_path: Path) -> None:
    write_fit(alone, record_of(alone), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert NOTHING in metrics["verdict"]
    assert NOTHING in (tmp_path / "report.html").read_text()
    splits = json.loads((tmp_path / "splits.json").read_text())["splits"]
    assert all(query.startswith("pseudo:") for queries in splits.values() for query in queries)
    loaded = Jasper.load(tmp_path, encoder=alone.encoder)
    assert loaded.model.documents == texts
    assert loaded.search(texts[7].text)[0].document == texts[7]


def test_a_few_labels_are_the_real_test(
    texts: tuple[Document, ...], questions: tuple[Query, ...], word_encoder: Encoder
) -> None:
    few = RetrievalSet("notes", texts, questions, {"all": asked(0, 19)})
    record = record_of(Jasper.fit(few, encoder=word_encoder, config=load_config(overrides=HASTY)))
    assert record.embedded.splits["test"].ids == tuple(f"q{row}" for row in range(19))
    assert not any(query.startswith("q") for split in ("train", "dev") for query in record.embedded.splits[split].ids)
    metrics = record.to_metrics()
    assert metrics["questions"] == metrics["trained_on"]["real_test_questions"] == 19
    assert (metrics["trained_on"]["kind"], metrics["trained_on"]["labelled_pairs"]) == ("pseudo", 0)
    assert "Tested on 19 real questions; none of them trained or decided anything." in metrics["verdict"]
    assert NOTHING not in metrics["verdict"]


def test_one_label_more_and_labels_decide(
    texts: tuple[Document, ...], questions: tuple[Query, ...], word_encoder: Encoder, tmp_path: Path
) -> None:
    enough = RetrievalSet("notes", texts, questions, {"all": asked(0, 20)})
    jasper = Jasper.fit(enough, encoder=word_encoder, config=load_config(overrides=HASTY))
    record = record_of(jasper)
    metrics = record.to_metrics()
    assert metrics["trained_on"]["kind"] == "labelled and pseudo"
    assert metrics["trained_on"]["labelled_pairs"] == len(record.embedded.splits["train"]) == 16
    assert metrics["trained_on"]["real_test_questions"] == metrics["questions"] == 2
    made = sum(len(record.embedded.splits[split]) for split in (PSEUDO, PSEUDO_DEV))
    assert metrics["trained_on"]["pseudo_questions"] == made
    assert metrics["verdict"] == record.comparison.to_metrics()["verdict"]
    for split in ("train", "dev", "test"):
        assert all(query.startswith("q") for query in record.embedded.splits[split].ids)
    # Sentences quote their documents by design: that is no leak, and no split of the run's.
    assert record.leaks.clean
    write_fit(jasper, record, tmp_path)
    assert set(json.loads((tmp_path / "splits.json").read_text())["splits"]) == {"train", "dev", "test"}
    assert len(metrics["trained_on"]["dev_ndcg@10"]) > 1
    assert "dev nDCG@10: " in facts(jasper, record)["Trained on"]


def test_never_means_never(texts: tuple[Document, ...], questions: tuple[Query, ...], word_encoder: Encoder) -> None:
    enough = RetrievalSet("notes", texts, questions, {"all": asked(0, 20)})
    config = load_config(overrides=HASTY | {"pseudo_questions.use": "never"})
    metrics = record_of(Jasper.fit(enough, encoder=word_encoder, config=config)).to_metrics()
    assert (metrics["trained_on"]["kind"], metrics["trained_on"]["pseudo_questions"]) == ("labelled", 0)
