from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jasper_rag.errors import InputError
from jasper_rag.explain import dataset_page, dataset_page_summary
from jasper_rag.explain.dataset_page import render_dataset_page, write_dataset_page
from jasper_rag.explain.dataset_page_data import (
    ClusterFigures,
    DatasetSummary,
    OpenedDataset,
    SplitFigures,
    open_for_inspection,
)
from jasper_rag.explain.dataset_page_plots import bar, stacked
from jasper_rag.explain.dataset_page_sections import SHOWN, topics, verdict
from jasper_rag.explain.dataset_page_summary import summarise


@pytest.fixture(scope="module")
def opened(dataset: Path) -> OpenedDataset:
    return open_for_inspection(dataset)


@pytest.fixture(scope="module")
def summary(opened: OpenedDataset) -> DatasetSummary:
    return summarise(opened)


@pytest.fixture(scope="module")
def page(opened: OpenedDataset, summary: DatasetSummary) -> str:
    return render_dataset_page(opened, summary)


class Strict(HTMLParser):
    """Every element is closed, in order; attributes that could reach out are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link"}:
            self.open.append(tag)
        for name, value in attrs:
            self.ids += [str(value)] if name == "id" else []
            reaches = name in {"src", "srcset", "action", "style"} or (
                name == "href" and not re.match("#|data:,", str(value))
            )
            self.outside += [f"{tag} {name}"] if reaches or name.startswith("on") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_figures_are_those_of_the_tensors(opened: OpenedDataset, summary: DatasetSummary, dataset: Path) -> None:
    tensors = {path.stem: load_file(path) for path in dataset.glob("*.safetensors")}
    pairs, hard = tensors["pair_index"]["pair_index"], tensors["hard_negatives"]["hard_negatives"]
    tiers = tensors["negative_tiers"]["negative_tiers"]
    questions, sources = tensors["question_embs"]["question_embs"], tensors["source_embs"]["source_embs"]
    assert summary.counts["pairs"] == len(pairs) == 160
    assert dict(summary.counts) | {"keywords": 0} == {
        "pairs": 160, "questions": 160, "sources": 160, "keywords": 0, "clusters": 6, "dimension": 24, "n_neg": 4
    }  # fmt: skip
    assert [(split.name, split.pairs) for split in summary.splits] == [("train", 128), ("val", 16), ("test", 16)]
    cosines = np.einsum("pd,pnd->pn", questions[pairs[:, 0]], sources[hard])
    for tier in summary.tiers:
        assert tier.share == pytest.approx((tiers == tier.tier).mean())
        assert tier.cosine == pytest.approx(cosines[tiers == tier.tier].mean(), abs=1e-5)
    assert summary.positive_cosine == pytest.approx(
        np.einsum("pd,pd->p", questions[pairs[:, 0]], sources[pairs[:, 1]]).mean(), abs=1e-5
    )
    clusters = tensors["source_cluster_id"]["source_cluster_id"]
    assert [cluster.sources for cluster in summary.clusters] == np.bincount(clusters).tolist()
    assert [cluster.pairs for cluster in summary.clusters] == np.bincount(clusters[pairs[:, 1]]).tolist()
    assert [(variant.name, round(variant.first, 3), round(variant.last, 3)) for variant in summary.variants] == [
        ("zero", 0.5, 0.1), ("centroid", 0.167, 0.3), ("keyword", 0.167, 0.3), ("residual", 0.167, 0.3)
    ]  # fmt: skip
    assert (summary.last_epoch, summary.faults, summary.encoder) == (100, (), "words-0")
    assert opened.texts is not None
    texts = {document.text for document in opened.texts.documents}
    assert len(summary.samples) == 3
    for sample in summary.samples:
        assert sample.source_text in texts
        assert len(sample.negatives) == 4
        assert sample.split == "train"
    assert json.loads(json.dumps(asdict(summary)))["name"] == "synonyms"


def test_a_foreign_directory_has_rows_and_numbers(foreign: Path, summary: DatasetSummary) -> None:
    found = summarise(open_for_inspection(foreign))
    assert not found.has_texts
    assert (found.format_version, found.storage_format) == (None, "pt")
    assert found.clusters[2].name == "cluster 2"
    assert re.fullmatch(r"question \d+", found.samples[0].question)
    assert re.fullmatch(r"source \d+", found.samples[0].negatives[0].title)
    assert all(word.startswith("keyword ") for word in found.samples[0].keywords)
    assert found.tiers == summary.tiers
    # Counted anew where no report is kept.
    assert [(s.shared_sources, s.near_duplicates) for s in found.splits[1:]] == [
        (s.shared_sources, s.near_duplicates) for s in summary.splits[1:]
    ]


def test_many_questions_are_not_compared_one_by_one(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_page_summary, "_MOST_COSINES", 10)
    found = summarise(open_for_inspection(foreign))
    assert [split.near_duplicates for split in found.splits] == [None, None, None]
    assert [split.shared_sources for split in found.splits] == [None, 0, 0]


@pytest.mark.slow
def test_what_the_loader_says_is_shown(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    hard = load_file(root / "hard_negatives.safetensors")["hard_negatives"]
    hard[:, 1] = hard[:, 0]
    save_file({"hard_negatives": hard}, root / "hard_negatives.safetensors")
    opened = open_for_inspection(root)
    found = summarise(opened)
    assert found.faults == ("160 of 160 pairs have duplicate negatives, which then count double",)
    assert "160 of 160 pairs have duplicate negatives" in render_dataset_page(opened, found)
    (root / "documents.jsonl").unlink()
    with pytest.raises(InputError, match=r"documents\.jsonl"):
        open_for_inspection(root)


def test_the_page_is_well_formed_and_reaches_nowhere(page: str) -> None:
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert parser.outside == []
    assert "http" not in page.replace("http-equiv", "")
    for link in re.findall('href="#([^"]*)"', page):
        assert link in parser.ids
    found = re.search(r"style-src '(sha256-[^']*)'; script-src '(sha256-[^']*)'", page)
    assert found is not None
    for digest, tag in zip(found.groups(), ("style", "script"), strict=True):
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        assert digest == f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_the_page_shows_every_source_and_every_topic(page: str, summary: DatasetSummary) -> None:
    assert page.count("h0") == 160
    assert len(re.findall('<g class="topic"', page)) == 6
    for number, cluster in enumerate(summary.clusters):
        assert f'<li data-topic="{number}"' in page
        assert html.escape(cluster.name) in page
    for sample in summary.samples:
        assert html.escape(sample.question) in page
    colours = re.findall('<g class="topic" data-topic="[0-9]+" fill="(#[0-9a-f]{6})"', page)
    assert len(set(colours)) == 6
    for heading in ("Topics", "Negatives", "Steering", "Splits and leaks", "Samples", "Facts", "What to run next"):
        assert f">{heading}</h2>" in page


@pytest.mark.slow
def test_equal_datasets_give_equal_pages(dataset: Path, page: str, tmp_path: Path) -> None:
    opened = open_for_inspection(dataset)
    path = write_dataset_page(opened, summarise(opened), tmp_path / "new" / "page.html")
    assert path.read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_large_sets_are_drawn_in_part(
    opened: OpenedDataset, summary: DatasetSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_page, "MOST_DOTS", 50)
    monkeypatch.setattr(dataset_page, "MOST_TOPICS", 4)
    page = render_dataset_page(opened, summary)
    assert 46 <= page.count("h0") <= 54
    assert len(re.findall('<g class="topic"', page)) == 4
    assert len(re.findall("<li data-topic", page)) == 6


@pytest.mark.slow
def test_hostile_texts_are_escaped(opened: OpenedDataset, summary: DatasetSummary) -> None:
    bad = '<script>alert("x")</script>'
    clusters = tuple(replace(cluster, name=bad, terms=(bad,)) for cluster in summary.clusters)
    samples = tuple(replace(sample, question=bad, source_text=bad, keywords=(bad,)) for sample in summary.samples)
    hostile = replace(summary, name=bad, clusters=clusters, samples=samples, faults=(bad,), encoder=bad, path="a b")
    page = render_dataset_page(opened, hostile)
    assert page.count("<script>") == 1
    assert "--dataset-dir &#x27;a b&#x27;" in page


@pytest.mark.slow
def test_small_topics_are_folded(opened: OpenedDataset, summary: DatasetSummary) -> None:
    many = tuple(ClusterFigures(f"topic {number}", (), 160 - number, 1) for number in range(SHOWN + 300))
    page = render_dataset_page(opened, replace(summary, clusters=many[:6]))
    assert "smaller topics" not in page
    listed = topics(replace(summary, clusters=many), "", [""] * len(many))
    assert f"<summary>{300} smaller topics" in listed
    assert "and 30 smaller ones" in listed


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ((SplitFigures("train", 9, 9, 9),), "There is nothing but train."),
        ((SplitFigures("train", 9, 9, 9), SplitFigures("val", 1, 1, 1, 0, 0)), "Nothing of val stands in train."),
        (
            (
                SplitFigures("train", 9, 9, 9),
                SplitFigures("val", 9, 9, 9, 2, None),
                SplitFigures("test", 9, 9, 9, 0, 1),
            ),
            "Not quite clean: 2 sources of val, 1 question of test stand in train too, or nearly so",
        ),
    ],
)
def test_the_verdict_says_whether_splits_are_clean(
    summary: DatasetSummary, splits: tuple[SplitFigures, ...], said: str
) -> None:
    assert said in verdict(replace(summary, splits=splits))


def test_bars_are_as_wide_as_their_shares() -> None:
    assert 'width="25.00"' in bar(0.25)
    assert 'fill="#123456"' in bar(1, "#123456")
    drawn = stacked([("zero", 0.5), ("centroid", 0.25), ("keyword", 0.25)], "shares")
    assert re.findall('x="([0-9.]+)" width="([0-9.]+)"', drawn) == [
        ("0.00", "50.00"),
        ("50.00", "25.00"),
        ("75.00", "25.00"),
    ]


@pytest.mark.slow
def test_fixed_curricula_and_missing_keywords_are_told(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    config = json.loads((root / "config.json").read_text())
    config["curriculum"] = {"mode": "fixed", "zero_prob_start": 0.4}
    (root / "config.json").write_text(json.dumps(config))
    opened = open_for_inspection(root)
    found = replace(summarise(opened), pairs_without_keywords=3)
    assert found.last_epoch == 0
    assert [variant.last for variant in found.variants] == pytest.approx([0.4, 0.2, 0.2, 0.2])
    page = render_dataset_page(opened, found)
    assert "3 pairs have no keyword." in page
    assert "Epoch 0</th></tr>" in page
