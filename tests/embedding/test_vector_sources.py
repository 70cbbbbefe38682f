from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from jasper_rag.embedding import vector_sources
from jasper_rag.embedding.vector_arrays import RawVectors
from jasper_rag.embedding.vector_sources import GivenVectors, read_vectors
from jasper_rag.errors import InputError

Array = NDArray[Any]
VALUES = np.random.default_rng(0).standard_normal((5, 3))
UNIT = VALUES / np.linalg.norm(VALUES, axis=1, keepdims=True)
IDS = ("a", "b", "c", "d", "e")


def write(root: Path, suffix: str, values: Array, ids: tuple[str, ...] | None = IDS) -> tuple[Path, Path | None]:
    """The file of vectors and the file of ids, if there is one."""
    path, id_path = root / f"v{suffix}", root / "ids.txt"
    if suffix == ".parquet":
        columns: dict[str, Any] = {"v": [list(map(float, row)) for row in values]}
        pq.write_table(pa.table(columns if ids is None else {"_id": list(ids), **columns}), path)
        return path, None
    if suffix == ".npy":
        np.save(path, values)
    else:
        save_file({"v": values}, path)
    if ids is None:
        return path, None
    id_path.write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
    return path, id_path


@pytest.fixture(params=[".npy", ".safetensors", ".parquet"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("numbers", [1, 7, 2**20])
def test_reads_unit_rows_and_ids(tmp_path: Path, suffix: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_sources, "_BLOCK_NUMBERS", numbers)
    found = read_vectors(*write(tmp_path, suffix, VALUES))
    assert found.ids == IDS
    assert found.vectors.dtype == np.float32
    assert found.vectors.flags.writeable
    assert found.rescaled
    np.testing.assert_allclose(found.vectors, UNIT, atol=1e-7)
    assert found.source == ("v.parquet" if suffix == ".parquet" else "ids.txt")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows_are_not_rescaled(tmp_path: Path, suffix: str, dtype: Any) -> None:
    found = read_vectors(*write(tmp_path, suffix, UNIT.astype(dtype)))
    assert not found.rescaled
    np.testing.assert_allclose(found.vectors, UNIT, atol=1e-3 if dtype == np.float16 else 1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_without_ids_rows_are_numbered(tmp_path: Path) -> None:
    for suffix in (".npy", ".safetensors"):
        found = read_vectors(str(write(tmp_path, suffix, VALUES, None)[0]))
        assert found.ids == ("0", "1", "2", "3", "4")
        assert found.source == f"the row numbers of v{suffix}"


def test_parquet_with_a_file_of_ids_or_numbers_or_named_columns(tmp_path: Path) -> None:
    path, _ = write(tmp_path, ".parquet", VALUES, None)
    (tmp_path / "ids.txt").write_text("\ufeffa\r\n b \nc\nd\ne", encoding="utf-8")
    assert read_vectors(path, tmp_path / "ids.txt").ids == IDS
    columns = {"key": [3, 1, 4, 15, 9], "w": VALUES.tolist(), "v": UNIT.tolist()}
    pq.write_table(pa.table(columns), path)
    found = read_vectors(path, columns={"id": "key", "vector": "v"})
    assert found.ids == ("3", "1", "4", "15", "9")
    assert not found.rescaled


def test_safetensors_by_name(tmp_path: Path) -> None:
    save_file({"docs": VALUES, "other": UNIT}, tmp_path / "v.safetensors")
    assert not read_vectors(tmp_path / "v.safetensors", columns={"vector": "other"}).rescaled
    with pytest.raises(InputError, match=r"'docs'.*'other'"):
        read_vectors(tmp_path / "v.safetensors")


@pytest.mark.parametrize("scale", [1e200, 1e-200, 5e-324, 1e308])
def test_numbers_whose_squares_have_no_place(tmp_path: Path, scale: float) -> None:
    values = np.array([[1.0, 0.0], [0.0, scale], [scale, -scale]])
    found = read_vectors(*write(tmp_path, ".npy", values, ("a", "b", "c")))
    np.testing.assert_allclose(found.vectors, [[1, 0], [0, 1], [0.5**0.5, -(0.5**0.5)]], atol=1e-7)
    assert found.rescaled


@pytest.mark.parametrize("numbers", [1, 2**20])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [(np.nan, "holds NaN"), (np.inf, "or infinity"), (-np.inf, "or infinity"), (0.0, "is all zeros")],
)
def test_rows_without_direction(
    tmp_path: Path, suffix: str, bad: float, problem: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_sources, "_BLOCK_NUMBERS", numbers)
    values = VALUES.copy()
    values[2:4] = bad
    with pytest.raises(InputError, match=rf"row 2 \(counted from 0, id 'c'\) .*{problem}") as caught:
        read_vectors(*write(tmp_path, suffix, values))
    assert caught.value.path == tmp_path / f"v{suffix}"


def test_rows_that_all_point_the_same_way(tmp_path: Path, suffix: str) -> None:
    same = np.outer([1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="all 5 vectors point the same way"):
        read_vectors(*write(tmp_path, suffix, same))
    assert read_vectors(*write(tmp_path, suffix, same[:1], ("a",))).ids == ("a",)
    same[4, 0] = 3
    assert len(read_vectors(*write(tmp_path, suffix, same)).ids) == 5


def test_other_number_of_ids(tmp_path: Path) -> None:
    for ids in (IDS[:4], (*IDS, "f"), ()):
        path, id_path = write(tmp_path, ".npy", VALUES, ids)
        with pytest.raises(InputError, match=f"ids.txt: {len(ids)} ids, but .*v.npy has 5 vectors") as caught:
            read_vectors(path, id_path)
        assert "header" in caught.value.remedy


@pytest.mark.parametrize(
    ("third", "problem"), [("a", "'a' was already given at line 1"), ("", "empty"), (" ", "empty"), ("x\ty", "tab")]
)
def test_bad_ids(tmp_path: Path, suffix: str, third: str, problem: str) -> None:
    path, id_path = write(tmp_path, suffix, VALUES, ("a", "b", third, "d", "e"))
    with pytest.raises(InputError, match=problem) as caught:
        read_vectors(path, id_path)
    assert (caught.value.path, caught.value.line) == (id_path or path, 3)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_vectors(tmp_path / "v.npy")
    with pytest.raises(InputError, match="a file is expected"):
        read_vectors(tmp_path)
    with pytest.raises(InputError, match=r"none.txt: this file does not exist"):
        read_vectors(write(tmp_path, ".npy", VALUES)[0], tmp_path / "none.txt")


def test_unknown_and_empty_files(tmp_path: Path, suffix: str) -> None:
    for name, problem in (("v.pt", r"cannot be read from \.pt"), ("v", "without a suffix"), (f"v{suffix}", "is empty")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=problem) as caught:
            read_vectors(tmp_path / name)
        if "empty" not in problem:
            assert ".npy, .safetensors, .parquet" in caught.value.remedy


def test_names_that_a_format_does_not_have(tmp_path: Path, suffix: str) -> None:
    path, id_path = write(tmp_path, suffix, VALUES)
    field = "id" if suffix == ".safetensors" else "vector" if suffix == ".npy" else "text"
    with pytest.raises(InputError, match=f"'{field}' cannot be named in a {suffix} file"):
        read_vectors(path, id_path, columns={field: "x"})


def test_ids_twice_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(InputError, match=r"ids come from .*ids\.txt and from the column '_id'"):
        read_vectors(write(tmp_path, ".parquet", VALUES)[0], tmp_path / "ids.txt")
    with pytest.raises(InputError, match="no column of ids"):
        read_vectors(write(tmp_path, ".parquet", VALUES, None)[0])


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write(tmp_path, ".parquet", VALUES)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="needs pyarrow") as caught:
        read_vectors(path)
    assert "pip install" in caught.value.remedy


def test_a_file_that_announces_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, id_path = write(tmp_path, ".npy", VALUES)
    for blocks in ([VALUES, VALUES], [VALUES[:2]]):
        raw = RawVectors(path, (5, 3), lambda rows, blocks=blocks: iter(blocks))  # type: ignore[misc]
        monkeypatch.setattr(vector_sources, "npy_vectors", lambda path, raw=raw: raw)
        with pytest.raises(InputError, match="5 rows are announced"):
            read_vectors(path, id_path)


def test_as_many_ids_as_vectors() -> None:
    vectors = UNIT.astype(np.float32)
    assert GivenVectors(IDS, vectors).known == (frozenset(IDS), "the given ids")
    for ids, given_vectors in ((IDS[:4], vectors), (IDS, vectors[0])):
        with pytest.raises(ValueError, match=f"{len(ids)} ids for vectors of shape"):
            GivenVectors(ids, given_vectors)


@pytest.mark.slow
def test_reading_loads_neither_torch_nor_pyarrow(tmp_path: Path) -> None:
    path, _ = write(tmp_path, ".npy", VALUES)
    program = (
        "import sys; import jasper_rag.embedding.given_set; "
        "from jasper_rag.embedding.vector_sources import read_vectors; "
        f"read_vectors({str(path)!r}); print(sorted({{'torch', 'pyarrow'}} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(0, 2),
)
def test_a_mutated_file_raises_nothing_else(tmp_path: Path, changes: list[tuple[float, int, bytes]], kind: int) -> None:
    path, id_path = write(tmp_path, (".npy", ".safetensors", ".parquet")[kind], VALUES)
    content = path.read_bytes()
    for where, removed, inserted in changes:
        at = int(where * len(content))
        content = content[:at] + inserted + content[at + removed :]
    path.write_bytes(content)
    try:
        found = read_vectors(path, id_path)
    except InputError:
        return
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
