from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from jasper_rag.errors import InputError
from jasper_rag.retrieval.vector_files import Tensor, write_index
from jasper_rag.retrieval.vector_index import _FACTS, ExactIndex

VECTORS = np.random.default_rng(0).standard_normal((30, 7)).astype(np.float32)


def _saved(directory: Path, storage: str = "int8", **settings: Any) -> ExactIndex:
    index = ExactIndex(VECTORS, storage, **settings)
    index.add(VECTORS[:5] + 1)
    index.remove([3, 31])
    index.save(directory)
    return index


def _tensor_file(directory: Path) -> Path:
    (path,) = directory.glob("vectors-*.safetensors")
    return path


@pytest.mark.parametrize(
    ("storage", "settings"),
    [("float32", {}), ("float16", {}), ("int8", {}), ("int8", {"keep_originals": False}), ("int8", {"rescore": 2})],
)
def test_a_loaded_index_is_the_saved_one(tmp_path: Path, storage: str, settings: dict[str, Any]) -> None:
    index = _saved(tmp_path, storage, **settings)
    loaded = ExactIndex.load(tmp_path)
    for queries in (VECTORS[:1], VECTORS):
        for found, expected in zip(loaded.search(queries, 6), index.search(queries, 6), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert loaded.rows.tolist() == index.rows.tolist()
    assert loaded.add(VECTORS[:1]).tolist() == [35]
    assert (loaded.storage, loaded._rescore) == (storage, settings.get("rescore"))


def test_the_file_is_plain_safetensors_and_the_same_each_time(tmp_path: Path) -> None:
    _saved(tmp_path / "a")
    _saved(tmp_path / "b")
    assert _tensor_file(tmp_path / "a").read_bytes() == _tensor_file(tmp_path / "b").read_bytes()
    tensors = load_file(_tensor_file(tmp_path / "a"))
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "rows": [33],
        "originals": [33, 7],
        "scales": [33],
        "codes": [33, 16],
    }
    decoded = tensors["codes"][:, :7].float() * tensors["scales"].float()[:, None]
    np.testing.assert_allclose(decoded.numpy()[:3], VECTORS[:3], atol=0.02)


def test_float32_vectors_stay_on_disk_and_can_be_saved_over_themselves(tmp_path: Path) -> None:
    _saved(tmp_path, "float32")
    index = ExactIndex.load(tmp_path)
    assert isinstance(index._segments._parts[0]._stored[0].rows, np.memmap)
    index.remove([0])
    expected = index.search(VECTORS, 4)
    index.save(tmp_path)
    _tensor_file(tmp_path)
    for found, wanted in zip(ExactIndex.load(tmp_path).search(VECTORS, 4), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    ExactIndex(np.zeros((0, 4), dtype=np.float32), "int8").save(tmp_path)
    assert len(ExactIndex.load(tmp_path)) == 0


def test_a_failure_while_writing_leaves_the_old_index(tmp_path: Path) -> None:
    index = _saved(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def breaking() -> Iterator[NDArray[Any]]:
        yield VECTORS[:8]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_index(tmp_path, {}, [Tensor("vectors", VECTORS.shape, VECTORS.dtype, breaking())])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(ExactIndex.load(tmp_path).search(VECTORS, 3)[1], index.search(VECTORS, 3)[1])


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    _saved(tmp_path)
    path = _tensor_file(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="cut or altered") as caught:
        ExactIndex.load(tmp_path)
    assert caught.value.path == path


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path)
    path = _tensor_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="cut or altered"):
        ExactIndex.load(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no vector index here"):
        ExactIndex.load(tmp_path / "nowhere")
    _saved(tmp_path)
    _tensor_file(tmp_path).unlink()
    with pytest.raises(InputError, match=r"vectors-\w+.safetensors: cannot be read"):
        ExactIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the description"),
        ("[1, 2]", "not the description"),
        ("\udcff", "not the description"),
        ('{"format_version": 1}', "not the description"),
        ('{"format_version": 9, "file": "x", "sha256": "y"}', "format version 9, but this program reads 1"),
        ('{"format_version": 1, "file": "../x", "sha256": "y"}', "names '../x' as the file of vectors"),
    ],
)
def test_a_bad_description_is_refused(tmp_path: Path, content: str, message: str) -> None:
    _saved(tmp_path)
    (tmp_path / "index.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        ExactIndex.load(tmp_path)
    # What cannot be read can be replaced.
    _saved(tmp_path)
    assert len(ExactIndex.load(tmp_path)) == 33


def test_tensors_of_something_else_are_refused(tmp_path: Path) -> None:
    facts = dict.fromkeys(_FACTS, 1) | {"storage_name": "int8"}
    for given in (facts, {"storage_name": "int8"}):
        write_index(tmp_path, given, [Tensor("codes", (2, 2), np.dtype(np.int8), [np.zeros((2, 2), dtype=np.int8)])])
        with pytest.raises(InputError, match=r"\{'codes': \[2, 2\]\} with (.|\n)* do not make an index"):
            ExactIndex.load(tmp_path)
    assert json.loads((tmp_path / "index.json").read_text())["format_version"] == 1
