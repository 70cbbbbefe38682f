from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

from jasper_rag.embedding.vector_arrays import RawVectors, npy_vectors, safetensors_vectors
from jasper_rag.errors import InputError

Array = NDArray[Any]


def array(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def saved(path: Path, values: Array) -> Path:
    np.save(path, values)
    return path


def together(raw: RawVectors, rows: int) -> Array:
    blocks = [np.array(block) for block in raw.blocks(rows)]
    assert all(0 < len(block) <= rows for block in blocks)
    return np.concatenate(blocks)


def with_header(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    content = header if isinstance(header, bytes) else header.encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(content).to_bytes(2 if version == 1 else 4, "little") + content + data
    )


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_npy_blocks_are_what_numpy_loads(tmp_path: Path, dtype: str, order: Any, rows: int) -> None:
    path = saved(tmp_path / "v.npy", np.asarray(array(5, 3).astype(dtype), order=order))
    raw = npy_vectors(path)
    assert (raw.path, raw.shape) == (path, (5, 3))
    np.testing.assert_array_equal(together(raw, rows), np.load(path))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_npy_headers_of_every_version(tmp_path: Path, version: int) -> None:
    header = "{'shape':(2,2),'fortran_order':False,'descr':'<f4'}"
    path = tmp_path / "v.npy"
    path.write_bytes(with_header(header, np.arange(4, dtype="<f4").tobytes(), version))
    np.testing.assert_array_equal(together(npy_vectors(path), 9), [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (array(4), r"shape \[4\]; expected \[N, D\]"),
        (array(2, 3, 4), r"shape \[2, 3, 4\]"),
        (np.float32(1), r"shape \[\]"),
        (array(0, 3), "at least one row"),
        (array(3, 0), "one column"),
        (np.ones((2, 2), dtype=np.int64), "floats are expected, the file holds <i8"),
        (np.ones((2, 2), dtype=np.bool_), "b1"),
        (np.ones((2, 2), dtype=np.complex64), "c8"),
        (np.ones((2, 2), dtype=np.longdouble), "f"),
        (np.array([["a", "b"]]), "U1"),
        (np.zeros(2, dtype=[("a", "f4"), ("b", "f4")]), "'a'"),
        (np.array([["a", None]], dtype=object), "pickle, which is never read"),
    ],
    ids=str,
)
def test_npy_of_another_shape_or_type(tmp_path: Path, values: Array, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        npy_vectors(saved(tmp_path / "v.npy", values))
    assert caught.value.path == tmp_path / "v.npy"
    assert "float32" in caught.value.remedy


def test_cut_npy_gives_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.npy", array(5, 3))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cut: 187 bytes, where shape \[5, 3\] takes 188"):
        npy_vectors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY",
        with_header("{'descr': '<f4'}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,"),
        with_header("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 2)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': [2, 2]}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 2)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}")[:40],
        with_header("(" * 9000),
        with_header(b"\0\xff"),
        with_header("[" + "1" * 9000 + "]"),
        with_header(" " * 20_000),
        with_header("{[]: 1}"),
    ],
)
def test_damaged_npy_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"header of this \.npy file is cut or damaged"):
        npy_vectors(path)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "it is empty"), (b"PK\3\4zip", "begins with b'PK"), (b"\x80\4", "begins")]
)
def test_no_npy(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"not a .npy file: .*{problem}"):
        npy_vectors(path)


def test_an_enormous_shape_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"))
    with pytest.raises(InputError, match="the file is cut"):
        npy_vectors(path)


@pytest.mark.parametrize("read", [npy_vectors, safetensors_vectors])
def test_folders_and_missing_files(tmp_path: Path, read: Any) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="cannot be read"):
            read(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_safetensors_blocks_are_the_tensor(tmp_path: Path, dtype: Any, rows: int) -> None:
    values = array(5, 3).astype(dtype)
    path = tmp_path / "v.safetensors"
    save_file({"v": values, "lengths": np.ones(5), "hashes": np.ones((5, 32), dtype=np.uint8)}, path)
    for name in (None, "v"):
        raw = safetensors_vectors(path, name)
        assert raw.shape == (5, 3)
        np.testing.assert_array_equal(together(raw, rows), values)


@pytest.mark.parametrize(
    ("tensors", "name", "problem"),
    [
        ({"a": array(2, 2), "b": array(3, 2)}, None, r"'a' \(F32 \[2, 2\]\), 'b' \(F32 \[3, 2\]\)"),
        ({"a": array(2), "b": array(3)}, None, "one tensor"),
        ({}, None, "the file has none"),
        ({"a": array(2, 2)}, "b", r"\[b\]: there is no such tensor; the file has 'a'"),
        ({"a": array(2, 2), "b": array(3)}, "b", r"\[b\]: shape \[3\]"),
        ({"a": array(2, 2, 2)}, None, r"shape \[2, 2, 2\]"),
        ({"a": array(0, 2)}, None, r"shape \[0, 2\]"),
        ({"a": np.ones((2, 2), dtype=np.int8)}, None, r"\[a\]: floats .* holds I8"),
    ],
)
def test_safetensors_without_the_tensor(
    tmp_path: Path, tensors: dict[str, Array], name: str | None, problem: str
) -> None:
    save_file(tensors, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match=problem) as caught:
        safetensors_vectors(tmp_path / "v.safetensors", name)
    assert caught.value.remedy


def test_bfloat16_and_cut_safetensors(tmp_path: Path) -> None:
    header = json.dumps({"v": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "v.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(InputError, match="holds BF16"):
        safetensors_vectors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"not a whole \.safetensors file"):
        safetensors_vectors(path)


def mutated(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for where, removed, inserted in changes:
        at = int(where * min(len(content), 160))
        content = content[:at] + inserted + content[at + removed :]
    return content


SOUND = {
    "npy": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n", array(3, 2).tobytes()),
    "safetensors": save({"v": array(3, 2)}),
}
NASTY = [
    b"",
    b"\0",
    b"\xff" * 8,
    b"-1",
    b"9" * 30,
    b"'",
    b'"',
    b"(",
    b"{",
    b"}",
    b"O",
    b"<i8",
    b"None",
    b"1e9",
    b"\\x",
    b"3L",
]
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 20), st.sampled_from(NASTY) | st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(CHANGES, st.sampled_from(["npy", "safetensors"]))
@example([(0.4, 0, b"\\d")], "npy")
def test_a_mutated_file_raises_nothing_else(tmp_path: Path, changes: list[tuple[float, int, bytes]], kind: str) -> None:
    path = tmp_path / f"v.{kind}"
    path.write_bytes(mutated(SOUND[kind], changes))
    readers: Mapping[str, Any] = {"npy": npy_vectors, "safetensors": safetensors_vectors}
    try:
        raw = readers[kind](path)
    except InputError:
        return
    assert together(raw, 2).shape == raw.shape
