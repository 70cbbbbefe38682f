from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jasper_rag import dataset_layout as layout


def test_every_tensor_has_one_place() -> None:
    paths = [spec.hdf5 for spec in layout.TENSORS.values()]
    assert len(set(paths)) == len(paths) == 16
    assert all(name == spec.name for name, spec in layout.TENSORS.items())


def test_the_names_are_those_of_the_original_project() -> None:
    required = {name for name, spec in layout.TENSORS.items() if spec.required}
    assert required == {
        *("question_embs", "source_embs", "keyword_embs", "centroid_embs", "pair_index", "pair_cluster_id"),
        *("pair_relevance", "centroid_distances", "hard_negatives", "negative_tiers", "train_idx", "val_idx"),
    }
    assert layout.TENSORS["hard_negatives"].hdf5 == "negatives/hardnegatives"
    assert set(layout.STEERING_TENSORS.values()) <= set(layout.TENSORS)
    assert layout.VARIANTS == ("zero", "centroid", "keyword", "residual")


def test_sizes_are_known_keys() -> None:
    known = {*layout.COUNT_KEYS, "embedding_dim", "n_neg", "n_train", "n_val", "n_test", 2}
    assert all(set(spec.shape) <= known for spec in layout.TENSORS.values())
    assert all(spec.high in known for spec in layout.TENSORS.values() if isinstance(spec.high, str))


def test_paths() -> None:
    here = layout.DatasetLayout(Path("d"))
    assert here.config == Path("d/config.json")
    assert here.checksums == Path("d/checksums.json")
    assert here.hdf5 == Path("d/dataset.h5")
    assert here.tensor("train_idx") == Path("d/train_idx.safetensors")
    assert here.tensor("train_idx", ".pt") == Path("d/train_idx.pt")
    assert "hard_negatives.pt" in layout.CHECKSUM_FREE


@pytest.mark.slow
def test_it_imports_nothing_heavy() -> None:
    code = "import sys, jasper_rag.dataset_layout; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
