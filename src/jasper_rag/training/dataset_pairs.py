"""The pairs of a steering dataset's split as the softmax over all sources needs them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.dataset_layout import TEXT_FILES
from jasper_rag.embedding.given_set import vector_groups
from jasper_rag.text.leakage import text_key
from jasper_rag.training.training_pairs import TrainingPairs, known_positives

IntArray = NDArray[np.int64]


class SplitPairs(NamedTuple):
    """The pairs of a split, sample by sample."""

    pairs: TrainingPairs
    """Row i of `pairs.pairs` is sample i; `pairs.questions` are all of the dataset's."""
    row_of_source: Tensor
    """int64 [n_sources], the row in `pairs.sources` of each of the dataset's sources; a number of its own beyond all
    rows where it is not among them."""


def split_pairs(dataset: JASPERSteeringDataset) -> SplitPairs:
    """Pairs, sources and known positives of a dataset's split, on the CPU.

    Sources of equal text are one source, questions of equal text share their sources; where the directory keeps no
    texts, equal vectors tell.
    """
    held = dataset.tensors.tensors
    rows = dataset.split_indices.cpu()
    sides = held["pair_index"].cpu()[rows].numpy()
    question_group, source_group = _groups(dataset.tensors)
    of_pair = source_group[sides[:, 1]]
    kept, local = np.unique(of_pair, return_inverse=True)
    place = np.searchsorted(kept, source_group).clip(max=len(kept) - 1)
    row_of_source = np.where(kept[place] == source_group, place, len(kept) + source_group)
    pairs = TrainingPairs(
        questions=held["question_embs"].cpu(),
        sources=held["source_embs"].cpu()[torch.from_numpy(kept)],
        pairs=torch.from_numpy(np.stack([sides[:, 0], local], axis=1).astype(np.int64)),
        known_positives=torch.from_numpy(known_positives(question_group, sides[:, 0], local)),
        relevance=held["pair_relevance"].cpu()[rows],
    )
    return SplitPairs(pairs, torch.from_numpy(row_of_source.astype(np.int64)))


def _groups(opened: SteeringTensors) -> tuple[IntArray, IntArray]:
    """For each question and each source the first row that is the same, int64 [n_questions] and [n_sources]."""
    if all((opened.root / name).is_file() for name in TEXT_FILES):
        texts = read_texts(opened.root)
        questions = [text_key(query.text, query.id) for query in texts.questions]
        sources = [text_key(document.content, document.id) for document in texts.documents]
        return _first_rows(questions), _first_rows(sources)
    tables = (opened.tensors[name].cpu().numpy() for name in ("question_embs", "source_embs"))
    questions_of, sources_of = (vector_groups(table) for table in tables)
    return questions_of, sources_of


def _first_rows(keys: list[str]) -> IntArray:
    first: dict[str, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)
