from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.export import standalone_predictor
from jasper_rag.export.numpy_predictor import LOADER, SETTINGS, TENSORS, write_numpy
from jasper_rag.export.standalone_predictor import Predictor
from jasper_rag.jasper import Jasper

STRANGER = f"""
import sys
sys.modules["jasper_rag"] = None  # an import would fail, wherever the package is installed
sys.path.insert(0, sys.argv[1])
import numpy as np
from {LOADER.removesuffix(".py")} import Predictor
np.save("moved.npy", Predictor().transform(np.load("questions.npy")))
assert "torch" not in sys.modules
"""


@pytest.fixture
def exported(fitted: Jasper, tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    write_numpy(fitted, folder)
    return folder


@pytest.mark.slow
def test_a_process_without_this_package_gets_the_same_numbers(
    fitted: Jasper, questions: Vectors, exported: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "questions.npy", questions)
    subprocess.run([sys.executable, "-I", "-c", STRANGER, str(exported)], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_allclose(np.load(tmp_path / "moved.npy"), fitted.transform(questions), rtol=0, atol=1e-6)


def test_the_loader_needs_numpy_and_safetensors_only() -> None:
    tree = ast.parse(Path(standalone_predictor.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "json", "pathlib", "typing", "numpy", "safetensors.numpy"}


def test_vectors_of_any_length_and_kind(fitted: Jasper, questions: Vectors, exported: Path) -> None:
    predictor = Predictor(str(exported))
    expected = fitted.transform(questions)
    for given in (questions * 7, questions.astype(np.float64), (questions * 3).tolist()):
        moved = predictor.transform(given)
        assert (moved.dtype, moved.shape) == (np.float32, questions.shape)
        np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-6)
    slightly_off = questions * np.float32(1.0005)
    np.testing.assert_allclose(predictor.transform(slightly_off), fitted.transform(slightly_off), rtol=0, atol=1e-6)
    assert predictor.transform(questions[:0]).shape == (0, 24)


@pytest.mark.parametrize("shape", [(24,), (2, 23), (1, 2, 24)])
def test_other_widths_are_refused(exported: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected vectors of shape \[n, 24\], got"):
        Predictor(exported).transform(np.ones(shape))


def test_another_format_is_refused(exported: Path) -> None:
    settings = json.loads((exported / SETTINGS).read_text(encoding="utf-8"))
    (exported / SETTINGS).write_text(json.dumps(settings | {"format_version": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match="holds format 2"):
        Predictor(exported)
    (exported / TENSORS).unlink()
    (exported / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(FileNotFoundError):
        Predictor(exported)
