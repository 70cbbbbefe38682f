from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.data import validation
from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.errors import InputError

REPEATED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

TENSORS = sorted({*layout.TENSORS})
FLOATS = [name for name in TENSORS if layout.TENSORS[name].dtype == "float32"]
BOUNDED = [name for name in TENSORS if layout.TENSORS[name].low is not None]


def opened(root: Path) -> SteeringTensors:
    return JASPERSteeringDataset.create_combined_splits(root)["train"].tensors


def exchange(made: Any, name: str, tensor: Any) -> Path:
    """A directory like `made` with one `.pt` file exchanged."""
    copy = made.root.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(made.root, copy)
    torch.save(tensor, copy / f"{name}.pt")
    return Path(copy)


@contextmanager
def damaged(path: Path) -> Iterator[Path]:
    """A file that is as it was afterwards."""
    content = path.read_bytes()
    try:
        yield path
    finally:
        path.write_bytes(content)


def refusal(root: Path) -> InputError | DatasetWarning | None:
    """What loading says against a directory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DatasetWarning)
            opened(root)
    except (InputError, DatasetWarning) as error:
        return error
    return None


def refused(root: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(root)
    message = str(caught.value)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("name", "place", "value", "problem"),
    [
        ("question_embs", (3, 2), float("nan"), "row 3, column 2 is nan; allowed: finite numbers"),
        ("source_embs", (39, 5), float("inf"), "row 39, column 5 is inf"),
        ("keyword_embs", (0, 0), float("-inf"), "row 0, column 0 is -inf"),
        ("centroid_embs", (1, 1), float("nan"), "row 1, column 1 is nan"),
        ("steering_residual", (7, 0), float("nan"), "row 7, column 0 is nan"),
        ("pair_index", (5, 0), 20, "row 5, column 0 is 20; allowed: 0 to 19: question_embs has 20 rows"),
        ("pair_index", (5, 1), -1, "row 5, column 1 is -1; allowed: 0 to 39: source_embs has 40 rows"),
        ("pair_cluster_id", (17,), 9999, "row 17 is 9999; allowed: 0 to 3: centroid_embs has 4 rows"),
        ("pair_relevance", (2,), 1.5, "row 2 is 1.5; allowed: 0 to 1"),
        ("pair_relevance", (2,), float("nan"), "row 2 is nan"),
        ("centroid_distances", (0,), -0.5, "row 0 is -0.5; allowed: 0 to 2"),
        ("hard_negatives", (8, 1), 40, "row 8, column 1 is 40; allowed: 0 to 39"),
        ("hard_negatives", (8, 1), -1, "row 8, column 1 is -1"),
        ("negative_tiers", (8, 2), 5, "row 8, column 2 is 5; allowed: 1 to 4"),
        ("train_idx", (4,), 40, "row 4 is 40; allowed: 0 to 39: pair_index has 40 rows"),
        ("test_idx", (0,), 33, "row 0 is pair 33, which is in the val split too"),
        ("val_idx", (1,), 32, "row 1 is pair 32, which the val split has already"),
    ],
)
def test_a_bad_value_is_named(original: Any, name: str, place: tuple[int, ...], value: float, problem: str) -> None:
    tensor = original.tensors[name].clone()
    tensor[place] = value
    refused(exchange(original, name, tensor), f"{name}.pt", problem)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("centroid_distances", lambda tensor: tensor[:10], "has shape [10], [40] is expected"),
        ("question_embs", lambda tensor: tensor[:, :4], "has shape [20, 4], [20, 6] is expected"),
        ("question_embs", lambda tensor: tensor[:19], "has 19 rows, but n_questions in config.json is 20"),
        ("hard_negatives", lambda tensor: tensor[:, :2], "has shape [40, 2], [40, 3] is expected"),
        ("pair_index", lambda tensor: tensor.T, "has 2 rows, but n_pairs in config.json is 40"),
        ("train_idx", lambda tensor: tensor[None], "has shape [1, 32], [n] is expected"),
        ("source_embs", lambda tensor: tensor.double(), "holds float64, float32 is expected"),
        ("pair_index", lambda tensor: tensor.int(), "holds int32, int64 is expected"),
        ("source_embs", lambda tensor: tensor.to_sparse(), "a dense tensor is expected"),
        ("source_embs", lambda tensor: tensor.tolist(), "holds list; a dense tensor is expected"),
        ("source_embs", lambda tensor: torch.tensor(1.0), "has 0 rows, but n_sources"),
        ("pair_keyword_ids", lambda _: [[0]] * 39, "has shape [40], [41] is expected"),
        (
            "pair_keyword_ids",
            lambda _: [[0]] * 39 + [[7]],
            "row 39 holds keyword 7; allowed: 0 to 6: keyword_embs has 7 rows",
        ),
        ("pair_keyword_ids", lambda _: [[0]] * 39 + [[-1]], "row 39 holds keyword -1"),
        ("pair_keyword_ids", lambda _: [[0]] * 39 + [["a"]], "row 39 holds 'a'"),
        ("pair_keyword_ids", lambda _: {"values": torch.zeros(1)}, "holds ['values'], not ['offsets', 'values']"),
        ("pair_keyword_ids", lambda _: "text", "holds str; a list of lists"),
    ],
)
def test_a_bad_form_is_named(original: Any, name: str, change: Callable[[Tensor], Any], problem: str) -> None:
    refused(exchange(original, name, change(original.tensors.get(name, torch.zeros(0)))), f"{name}.pt", problem)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"offsets": torch.tensor([0, 2, 1, *[3] * 38])}, "offset 2 is 1; offsets begin with 0, never fall"),
        ({"offsets": torch.tensor([1, *[3] * 40])}, "offset 0 is 1"),
        ({"offsets": torch.tensor([0, *[2] * 40])}, "offset 40 is 2"),
        ({"offsets": torch.tensor([0, *[4] * 40])}, "is 4; allowed: 0 to 3"),
        ({"values": torch.zeros(3)}, "holds float32, int64 is expected"),
        ({"weights": torch.tensor([1.0, -1.0, 0.0])}, "weight is -1.0; allowed: finite numbers from 0"),
        ({"weights": torch.ones(2)}, "has shape [2], [3] is expected"),
    ],
)
def test_bad_flat_keyword_lists_are_named(original: Any, change: dict[str, Tensor], problem: str) -> None:
    flat = {"values": torch.zeros(3).long(), "offsets": torch.tensor([0, *[3] * 40]), "weights": torch.ones(3)}
    opened(exchange(original, "pair_keyword_ids", flat))
    refused(exchange(original, "pair_keyword_ids", flat | change), "pair_keyword_ids.pt", problem)


def test_no_pairs_is_too_few(original: Any) -> None:
    original.config["n_pairs"] = None
    (original.root / "config.json").write_text(json.dumps(original.config))
    refused(exchange(original, "pair_index", torch.zeros(0, 2).long()), "pair_index.pt", "has no rows")


@pytest.mark.slow
def test_no_keywords_are_fine(make: Callable[..., Any]) -> None:
    made = make("original", settings={"n_keywords": None}, keyword_embs=torch.rand(7, 6))
    root = exchange(made, "pair_keyword_ids", [[]] * 40)
    torch.save(torch.zeros(0, 6), root / "keyword_embs.pt")
    (root / "steering_keyword_weighted.pt").unlink()
    dataset = JASPERSteeringDataset(root, "train")
    dataset.force_steering("keyword")
    assert torch.allclose(dataset.__getitems__([0]).tensors["steering"].norm(dim=1), torch.ones(1))


@pytest.mark.slow
def test_a_bad_row_is_found_in_any_block(original: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_BLOCK_NUMBERS", 13)
    opened(original.root)
    for row in (0, 12, 13, 39):
        tensor = original.tensors["hard_negatives"].clone()
        tensor[row, 2] = -7
        refused(exchange(original, "hard_negatives", tensor), f"row {row}, column 2 is -7")


@pytest.mark.slow
@REPEATED
@given(data=st.data(), name=st.sampled_from(TENSORS))
def test_no_damaged_tensor_loads_silently(original: Any, data: st.DataObject, name: str) -> None:
    tensor = original.tensors[name].clone()
    row = data.draw(st.integers(0, len(tensor) - 1), label="row")
    damages: dict[str, Any] = {
        "fewer rows": tensor[:row],
        "more rows": torch.cat([tensor, tensor[row : row + 1]]),
        "one axis more": tensor[None],
        "another dtype": tensor.half(),
        "no tensor": {"a": 1},
        "no file": None,
    }
    if tensor.ndim == 2:
        damages["fewer columns"] = tensor[:, 1:]
    if name in FLOATS:
        damages["not finite"] = tensor.index_fill(
            0, torch.tensor(row), data.draw(st.sampled_from([float("nan"), -torch.inf]))
        )
    if name in BOUNDED:
        off = data.draw(st.sampled_from([-1, 41, 10**6]))
        damages["outside"] = tensor.index_fill(0, torch.tensor(row), off)
    damage = data.draw(st.sampled_from(sorted(damages)), label="damage")
    if damage == "no file" and name in layout.STEERING_TENSORS.values():
        return  # computed instead
    with damaged(original.root / f"{name}.pt") as path:
        if damages[damage] is None:
            path.unlink()
        else:
            torch.save(damages[damage], path)
        error = refusal(original.root)
    assert error is not None
    assert name in str(error) or damage == "no file" or isinstance(error, DatasetWarning)


@pytest.mark.parametrize("name", ["centroid_distances.pt", "pair_keyword_ids.pt"])
def test_an_archive_with_a_name_that_is_no_text_is_damaged(original: Any, name: str) -> None:
    path = original.root / name
    content = bytearray(path.read_bytes())
    content[30] ^= 0x80  # the first letter of the first member's name
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        opened(original.root)


@pytest.mark.slow
@REPEATED
@given(data=st.data(), kind=st.sampled_from(["ours", "original"]))
def test_no_damaged_file_loads_silently(ours: Any, original: Any, data: st.DataObject, kind: str) -> None:
    made = ours if kind == "ours" else original
    outside = {"config.json", "hard_negatives.safetensors", "negative_tiers.safetensors"}
    names = sorted(path.name for path in made.root.iterdir() if path.name not in outside)
    with damaged(made.root / data.draw(st.sampled_from(names), label="file")) as path:
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1), label="place")
        if data.draw(st.booleans(), label="cut"):
            del content[place:]
        else:
            content[place] ^= data.draw(st.integers(1, 255), label="flipped bits")
        path.write_bytes(content)
        if refusal(made.root) is not None:
            return
        found = opened(made.root)
    # What got through must be harmless, such as a date in a zip archive.
    assert kind == "original"
    sound = opened(made.root)
    assert found.keywords.to_lists() == sound.keywords.to_lists()
    assert all(torch.equal(tensor, sound.all_tensors()[name]) for name, tensor in found.all_tensors().items())
