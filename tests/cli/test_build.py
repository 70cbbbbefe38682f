from __future__ import annotations

import csv
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes into one file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def flags(data: Path, word_model: Path) -> list[object]:
    """What the builds of this file have in common."""
    return ["--data", data, "--encoder", word_model, "--n-neg", 4, "--n-clusters", 6, "--offline"]


@pytest.fixture(scope="module")
def building(jasper: Command, flags: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A dataset, and what `jasper build` said while it made it; shared, so leave it as it is."""
    root = tmp_path_factory.mktemp("datasets") / "synonyms"
    return root, jasper("build", *flags, "--output-dir", root)


@pytest.fixture
def csv_files(synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path) -> tuple[Path, Path]:
    """The set as the original project has it: scored pairs with keywords, and keyword clusters in another case."""
    documents = {document.id: document for document in synonym_set.documents}
    words = sorted({word for document in synonym_set.documents for word in document.text.split(" and ")})
    pairs = tmp_path / "pairs.csv"
    with open(pairs, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "source_text", "answer", "tags", "label"])
        for number, query in enumerate(synonym_set.queries):
            (document_id,) = synonym_set.qrels["all"][query.id]
            text = documents[document_id].text
            tags = json.dumps([word.upper() for word in text.split(" and ")])
            writer.writerow([query.text, text, "yes", tags, 1 if number % 4 else 0.5])
            writer.writerow([query.text, documents[f"d{(number + 50) % 160}"].text, "no", "", 0])
    vectors = word_encoder.encode(words, "query")
    numbers = {word.title(): number % 4 for number, word in enumerate(words)}
    centroids = [vectors[cluster::4].mean(axis=0).tolist() for cluster in range(4)]
    clusters = tmp_path / "clusters.json"
    content = {"metadata": {"n_clusters": 4}, "cluster_assignments": numbers, "centroids": centroids}
    clusters.write_text(json.dumps(content))
    return pairs, clusters


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading an encoder is a failure: bad input must be found before."""

    def load(*_: object, **__: object) -> Encoder:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("jasper_rag.encoder_choice.usable_encoder", load)


def test_a_dataset_is_built_and_told(building: tuple[Path, Any]) -> None:
    root, outcome = building
    assert (outcome.code, outcome.out) == (0, "")
    assert "160 pairs of 160 questions and 160 sources: 128 train, 16 val, 16 test" in outcome.err
    assert "6 clusters of " in outcome.err
    assert "4 negatives per pair: " in outcome.err
    assert "val: 0 of 16 sources and 0 of 16 questions stand in train too" in outcome.err
    assert outcome.err.rstrip().endswith(f"jasper inspect {root}")
    splits = JASPERSteeringDataset.create_combined_splits(root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 128, "val": 16, "test": 16}
    assert splits["train"][0]["negative_embs"].shape == (4, 24)
    assert not list(root.parent.glob(".*"))


@pytest.mark.slow
def test_equal_builds_give_equal_bytes_and_quiet_is_quiet(
    jasper: Command, building: tuple[Path, Any], flags: list[object], tmp_path: Path
) -> None:
    outcome = jasper("build", *flags, "--output-dir", tmp_path / "synonyms", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert files_of(tmp_path / "synonyms") == files_of(building[0])


@pytest.mark.slow
@pytest.mark.parametrize("storage_format", ["pt", "hdf5"])
def test_the_formats_of_the_original_project_hold_the_same(
    jasper: Command, building: tuple[Path, Any], flags: list[object], tmp_path: Path, storage_format: str
) -> None:
    pytest.importorskip("h5py")
    for place in ("one", "other"):
        outcome = jasper("build", *flags, "--output-dir", tmp_path / place, "--storage-format", storage_format, "-q")
        assert (outcome.code, outcome.err) == (0, "")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")
    ours = JASPERSteeringDataset.create_combined_splits(building[0])["train"]
    theirs = JASPERSteeringDataset.create_combined_splits(tmp_path / "one")["train"]
    kept, held = ours.tensors.all_tensors(), theirs.tensors.all_tensors()
    assert set(held) - set(kept) == {"steering_centroid", "steering_keyword_weighted", "steering_residual"}
    for name, tensor in kept.items():
        np.testing.assert_array_equal(held[name], tensor)
    assert theirs.pair_keyword_ids.to_lists() == ours.pair_keyword_ids.to_lists()
    assert read_texts(tmp_path / "one") == read_texts(building[0])
    for variant in ("zero", "centroid", "keyword", "residual"):
        ours.force_steering(variant)
        theirs.force_steering(variant)
        for row in (0, 5, 77):
            np.testing.assert_allclose(theirs[row]["steering"], ours[row]["steering"], atol=1e-6)
    report = json.loads((tmp_path / "one" / "build_report.json").read_text())
    assert report["encoder"]["dimension"] == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_scored_pairs_and_keyword_clusters_from_end_to_end(
    jasper: Command, csv_files: tuple[Path, Path], word_model: Path, tmp_path: Path, synonym_set: RetrievalSet
) -> None:
    pairs, clusters = csv_files
    root = tmp_path / "dataset"
    outcome = jasper(
        "build", "--csv", pairs, "--clusters", clusters, "--encoder", word_model, "--output-dir", root, "--n-neg", 4
    )
    assert outcome.code == 0, outcome.err
    splits = JASPERSteeringDataset.create_combined_splits(root)
    texts = read_texts(root)
    held = splits["train"].tensors
    # Wrong pairs are no pairs, and scores are kept.
    assert len(held) == 160
    relevance = held.tensors["pair_relevance"]
    assert sorted(set(relevance.tolist())) == [0.5, 1.0]
    assert int((relevance == 0.5).sum()) == 40
    answers = {query.text: set(synonym_set.qrels["all"][query.id]) for query in synonym_set.queries}
    documents = {document.text: document.id for document in synonym_set.documents}
    for row, (question, source) in enumerate(held.tensors["pair_index"].tolist()):
        assert documents[texts.documents[source].text] in answers[texts.questions[question].text]
        # Whatever the case of letters in the two files, no pair loses a keyword.
        words = {texts.keywords[word].lower() for word in held.keywords[row]}
        assert words == set(texts.documents[source].text.split(" and "))
    assert int((held.keywords.offsets.diff() == 0).sum()) == 0
    assert len(texts.clusters) == 4
    known = json.loads(clusters.read_text())["cluster_assignments"]
    numbers = {word.lower(): number for word, number in known.items()}
    for row, (_, source) in enumerate(held.tensors["pair_index"].tolist()):
        votes = [numbers[word] for word in texts.documents[source].text.split(" and ")]
        most = max(votes.count(number) for number in votes)
        assert votes.count(int(held.tensors["pair_cluster_id"][row])) == most


@pytest.mark.slow
def test_settings_come_from_a_file_and_flags_override_it(
    jasper: Command, flags: list[object], tmp_path: Path, word_model: Path, data: Path
) -> None:
    settings = tmp_path / "build.yaml"
    settings.write_text("n_clusters: 3\nsplit: question\nsplit_ratios: [0.5, 0.5, 0.0]\nnegatives:\n  n_neg: 9\n")
    root = tmp_path / "dataset"
    command = ["--data", data, "--encoder", word_model, "--config", settings, "--n-neg", 5, "--seed", 7]
    assert jasper("build", *command, "--output-dir", root).code == 0
    config = json.loads((root / "config.json").read_text())
    assert (config["n_clusters"], config["n_neg"], config["random_seed"]) == (3, 5, 7)
    assert not (root / "test_idx.safetensors").exists()
    assert config["build"]["split_ratios"] == [0.5, 0.5, 0.0]


@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--clustering", "topic"], "none of the 160 sources has a topic"),
        (["--clustering", "title"], "160 different values for 160 sources"),
        (["--clustering", "spectral"], "'kmeans', 'topic', 'title' or 'file'"),
        (["--clustering", "file"], "Name one: --clusters FILE.json"),
        (["--clusters", "nowhere.json"], "nowhere.json: this file cannot be read"),
        (["--clusters", "x.json", "--clustering", "kmeans"], "a cluster file, but clustering kmeans"),
        (["--n-neg", 128], "sources that could be its negatives; 128 are asked for"),
        (["--split", "random"], "'given', 'source' or 'question'"),
        (["--storage-format", "zarr"], "there is no storage format 'zarr'"),
        (["--columns", "question=Frage"], "columns"),
        (["--csv", "pairs.csv"], "one kind of input is expected"),
        (["--config", "nowhere.yaml"], "there is no such file"),
    ],
)
def test_bad_input_is_found_before_slow_work(
    jasper: Command, data: Path, tmp_path: Path, changed: list[object], message: str
) -> None:
    outcome = jasper("build", "--data", data, "--output-dir", tmp_path / "dataset", *changed)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_unusable_sets_and_tables_are_refused(jasper: Command, damaged: Path, tmp_path: Path) -> None:
    (damaged / "qrels" / "all.tsv").rename(damaged / "qrels" / "test.tsv")
    table = tmp_path / "table.csv"
    table.write_text("frage,quelle\na,b\n")
    unscored = tmp_path / "unscored.csv"
    unscored.write_text("question,source,score\na,b,much\n")
    few = tmp_path / "few.csv"
    few.write_text("question,source\n" + "".join(f"q{n},s{n}\n" for n in range(20)))
    for arguments, message in (
        (["--data", damaged], "damaged has no questions to train on (splits: test)"),
        (["--csv", table], "no column holds the question; the file has 'frage', 'quelle'"),
        (["--csv", table, "--columns", "question=frage,source=quelle,id=frage"], "unknown field 'id'"),
        (["--csv", table, "--columns", "question=frage,question=quelle"], "'question' is given twice"),
        (["--csv", table, "--columns", "question=frage,source=Quelle"], "there is no column 'Quelle'"),
        (["--csv", table, "--columns", "question=frage,source=quelle"], "one would be empty"),
        (["--csv", unscored], "unscored.csv:2 [score]: the score 'much'"),
        (["--csv", few, "--n-neg", 16], "has 15 sources that could be its negatives; 16 are asked for"),
        ([], "one kind of input is expected"),
    ):
        outcome = jasper("build", *arguments, "--output-dir", tmp_path / "dataset")
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
        assert "Traceback" not in outcome.err
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_hdf5_without_h5py_is_refused_first(
    jasper: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    outcome = jasper("build", "--data", data, "--output-dir", tmp_path / "dataset", "--storage-format", "hdf5")
    assert outcome.code == 2
    assert "jasper-rag[hdf5]" in outcome.err


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_a_folder_that_holds_something_else_is_left_alone(jasper: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    outcome = jasper("build", "--data", data, "--output-dir", tmp_path)
    assert outcome.code == 2
    assert "something else than a dataset is here" in outcome.err
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.slow
def test_a_cluster_file_of_another_encoder(jasper: Command, flags: list[object], tmp_path: Path) -> None:
    content = {"metadata": {"n_clusters": 1}, "cluster_assignments": {"car": 0}, "centroids": [[1.0, 0.0]]}
    (tmp_path / "clusters.json").write_text(json.dumps(content))
    kept = [flag for flag in flags if flag not in ("--n-clusters", 6)]
    outcome = jasper("build", *kept, "--clusters", tmp_path / "clusters.json", "--output-dir", tmp_path / "dataset")
    assert outcome.code == 2
    assert "clusters.json [centroids]: vectors of 2 dimensions, expected 24" in outcome.err
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
@pytest.mark.parametrize("storage_format", ["safetensors", "pt", "hdf5"])
def test_a_full_disk_leaves_the_older_dataset(
    jasper: Command, building: tuple[Path, Any], flags: list[object], tmp_path: Path, storage_format: str
) -> None:
    pytest.importorskip("h5py")
    old, new = Path(shutil.copytree(building[0], tmp_path / "old")), tmp_path / "new"
    before = files_of(old)
    for target in (old, new):
        with largest_file(9_000):
            outcome = jasper("build", *flags, "--output-dir", target, "--seed", 3, "--storage-format", storage_format)
        assert (outcome.code, outcome.out) == (1, "")
        assert "Make room" in outcome.err or "File too large" in outcome.err
        assert "Traceback" not in outcome.err
    assert files_of(old) == before
    assert not new.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
