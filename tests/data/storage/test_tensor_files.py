from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.data.storage.archives import verify_archive
from jasper_rag.data.storage.integer_lists import parse_integer_lists, read_integer_lists
from jasper_rag.data.storage.stored import UnreadableFile
from jasper_rag.data.storage.tensor_files import TensorFiles
from jasper_rag.dataset_layout import TENSORS
from jasper_rag.errors import InputError


class Trap:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pair_keyword_ids", "question_embs", "hard_negatives", "test_idx"])
@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("use_mmap", [True, False])
def test_a_crafted_file_is_refused_and_runs_nothing(original: Any, name: str, archive: bool, use_mmap: bool) -> None:
    trace = original.root / "trace"
    torch.save([[Trap(trace)]], original.root / f"{name}.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(InputError, match=f"{name}.pt"):
        JASPERSteeringDataset(original.root, "train", use_mmap=use_mmap)
    assert not trace.exists()


def test_a_bare_pickle_is_refused(original: Any) -> None:
    trace = original.root / "trace"
    (original.root / "pair_keyword_ids.pt").write_bytes(pickle.dumps([[Trap(trace)]], protocol=2))
    with pytest.raises(InputError, match=r"pair_keyword_ids\.pt"):
        JASPERSteeringDataset(original.root, "train")
    assert not trace.exists()


@pytest.mark.parametrize(
    "tensor", [torch.rand(3, 2), torch.zeros(0, 2), torch.tensor(2.0), torch.ones(3, dtype=torch.bfloat16)]
)
@pytest.mark.parametrize("mapped", [True, False])
def test_any_tensor_is_read_as_it_is(tmp_path: Path, tensor: torch.Tensor, mapped: bool) -> None:
    save_file({"source_embs": tensor}, tmp_path / "source_embs.safetensors")
    found = TensorFiles(tmp_path, mapped).read(TENSORS["source_embs"])
    assert found is not None
    torch.testing.assert_close(found.tensor, tensor, rtol=0, atol=0)


def test_a_tensor_that_is_to_be_negated_is(original: Any) -> None:
    expected = original.tensors["source_embs"]
    negated = torch._neg_view(-expected)
    assert negated.is_neg()
    torch.save(negated, original.root / "source_embs.pt")
    found = TensorFiles(original.root).read(TENSORS["source_embs"])
    assert found is not None
    np.testing.assert_array_equal(found.tensor.numpy(), expected.numpy())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_rubbish_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"source_embs{suffix}"
    for content in (b"", b"rubbish", b"\x00" * 100, b"\xff" * 100):
        path.write_bytes(content)
        for mapped in (True, False):
            with pytest.raises(UnreadableFile, match=f"source_embs{suffix}: "):
                TensorFiles(tmp_path, mapped).read(TENSORS["source_embs"])


def test_nothing_is_none(tmp_path: Path) -> None:
    assert TensorFiles(tmp_path).read(TENSORS["source_embs"]) is None
    assert TensorFiles(tmp_path).read_keywords() is None


def test_files_of_old_versions_of_torch_are_read(original: Any) -> None:
    for name in ("question_embs", "hard_negatives"):
        tensor = original.tensors[name]
        torch.save(tensor, original.root / f"{name}.pt", _use_new_zipfile_serialization=False)
    torch.save(original.keywords, original.root / "pair_keyword_ids.pt", _use_new_zipfile_serialization=False)
    dataset = JASPERSteeringDataset(original.root, "train")
    assert torch.equal(dataset.question_embs, original.tensors["question_embs"])
    assert dataset.pair_keyword_ids.to_lists() == original.keywords


def test_safetensors_hold_the_tensor_of_their_name(ours: Any) -> None:
    (ours.root / "source_embs.safetensors").write_bytes((ours.root / "question_embs.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"holds the tensors \['question_embs'\], not 'source_embs' alone"):
        JASPERSteeringDataset(ours.root, "train")


@pytest.mark.slow
def test_a_format_can_be_chosen(original: Any, ours: Any) -> None:
    torch.save(torch.zeros(3), original.root / "x.pt")
    assert len(JASPERSteeringDataset(original.root, "train", storage_format="pt")) == 32
    with pytest.raises(InputError, match=r"there is no question_embs\.safetensors or question_embs\.pt"):
        JASPERSteeringDataset(original.root, "train", storage_format="safetensors")
    assert len(JASPERSteeringDataset(ours.root, "train", storage_format="safetensors")) == 32


def test_parts_of_an_archive_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(torch.ones(100), path)
    verify_archive(path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = content.index(archive.read("x/data/0"))
    content[start + 8] ^= 1
    with pytest.raises(UnreadableFile, match="the CRC of x/data/0 differs"):
        verify_archive(path, bytes(content))
    content[start - 64 : start] = b"\x00" * 64
    with pytest.raises(UnreadableFile, match="damaged: "):
        verify_archive(path, bytes(content))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02")] ^= 1
    with pytest.raises(UnreadableFile, match="damaged: Bad magic number for central directory"):
        verify_archive(path, bytes(content))
    verify_archive(path, b"no archive")


NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-300, 70_000)


@pytest.mark.slow
@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=8) | st.lists(NUMBERS, max_size=5))
def test_lists_are_read_as_torch_reads_them(tmp_path_factory: pytest.TempPathFactory, lists: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lists") / "x.pt"
    torch.save(lists, path)
    assert read_integer_lists(path) == torch.load(path, weights_only=True) == lists


@pytest.mark.slow
def test_long_and_repeated_lists(tmp_path: Path) -> None:
    shared = [5, 6]
    lists = [[row, row + 1] for row in range(3000)] + [shared, shared] + [list(range(2500))]
    torch.save(lists, tmp_path / "x.pt")
    assert read_integer_lists(tmp_path / "x.pt") == lists


@pytest.mark.parametrize("value", [[True], [None], ["a"], [1.0], [(1,)], {"a": 1}, torch.zeros(1), 5, [torch.zeros(1)]])
def test_anything_else_is_left_to_torch(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pt")
    assert read_integer_lists(tmp_path / "x.pt") is None


@pytest.mark.slow
@given(st.binary(max_size=40))
def test_no_instructions_do_harm(code: bytes) -> None:
    found = parse_integer_lists(b"\x80\x02" + code)
    assert found is None or isinstance(found, list)
