"""Explanations of a held-out split, written while a subspace model trains: one line for each of its questions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from jasper_rag.data.dataset_texts import DatasetTexts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError
from jasper_rag.explain.known_pairs import KnownPairs
from jasper_rag.explain.xai_interface import XAIInterface
from jasper_rag.explain.xai_output import save_xai_outputs
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.training.subspace_config import SubspaceRunConfig
from jasper_rag.training.training_run import TrainingRun

_LOG = logging.getLogger(__name__)

FOLDER = "xai"
_SHOWN = 120
"""Characters of a source without a title."""


class SplitExplanations:
    """Explains the val split every few epochs; to be a trainer's `after_epoch`. Questions are asked without steering.

    Args:
        run: Of a subspace model.
        texts: Of its dataset; None: questions are known by their rows.
        output_dir: Of the run.

    Raises:
        InputError: `xai.cluster_names_file` cannot be read or has another number of names than there are subspaces.
        ValueError: The run is none of a subspace model.
    """

    def __init__(self, run: TrainingRun, texts: DatasetTexts | None, output_dir: str | Path) -> None:
        if not isinstance(run.config, SubspaceRunConfig):
            raise ValueError(f"settings of a subspace run are needed, got {type(run.config).__name__}.")
        self._config = run.config.xai
        self.folder = Path(self._config.xai_output_dir or Path(output_dir) / FOLDER)
        asked = run.datasets[run.config.dataset.split_val]
        self._names = _names(self._config.cluster_names_file, texts, len(asked.centroid_embs))
        self._known = _known_pairs(run.datasets[run.config.dataset.split_train], texts)
        rows, topics = _asked(asked)
        self._questions: NDArray[np.float32] = asked.tensors.tensors["question_embs"].cpu().numpy()[rows]
        self._heads = [
            _head(row, texts) | {"true_topic": self._names[topic]} for row, topic in zip(rows, topics, strict=True)
        ]
        self._last: tuple[int, nn.Module] | None = None

    def __call__(self, epoch: int, model: nn.Module) -> None:
        """Explain the split by the model as it is after an epoch, where this one is due."""
        self._last = epoch, model
        if (epoch + 1) % self._config.xai_every_n_epochs == 0:
            self.write()

    def write(self) -> Path | None:
        """Explain by the model of the last epoch seen, unless that was done; the file, or None where there is none."""
        if self._last is None:
            return None
        epoch, model = self._last
        assert isinstance(model, SubspacePredictor)
        self._last = None
        shown = self._config.num_similar_pairs
        interface = XAIInterface(model, None, self._names, known_pairs=self._known, num_similar_pairs=shown)
        found = interface.explain_batch(self._questions, vectors=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"xai_epoch_{epoch:04d}.jsonl"
        records: list[dict[str, Any]] = [{**head, **each} for head, each in zip(self._heads, found, strict=True)]
        save_xai_outputs(records, path)
        _LOG.info("%d questions of the val split explained in %s", len(records), path)
        return path


def _asked(dataset: JASPERSteeringDataset) -> tuple[list[int], list[int]]:
    """Rows of the questions of a split that have a relevant source, ascending, and the cluster of the best one."""
    held = dataset.tensors.tensors
    rows = dataset.split_indices.cpu().numpy()
    questions = held["pair_index"].cpu().numpy()[rows, 0]
    relevance, clusters = (held[name].cpu().numpy()[rows] for name in ("pair_relevance", "pair_cluster_id"))
    order = np.lexsort((np.arange(len(rows)), -relevance, questions))
    order = order[relevance[order] > 0]
    found, first = np.unique(questions[order], return_index=True)
    return found.tolist(), clusters[order[first]].tolist()


def _known_pairs(dataset: JASPERSteeringDataset, texts: DatasetTexts | None) -> KnownPairs:
    held = dataset.tensors.tensors
    rows = dataset.split_indices.cpu().numpy()
    rows = rows[held["pair_relevance"].cpu().numpy()[rows] > 0]
    sides = held["pair_index"].cpu().numpy()[rows]
    vectors = held["question_embs"].cpu().numpy()[sides[:, 0]]
    sources = np.ascontiguousarray(sides[:, 1], dtype=np.int64)
    if texts is None:
        return KnownPairs(vectors, sources=sources)
    questions = [texts.questions[row] for row in sides[:, 0].tolist()]
    answers = [texts.documents[row] for row in sides[:, 1].tolist()]
    return KnownPairs(
        vectors,
        [question.text for question in questions],
        [question.id for question in questions],
        [answer.id for answer in answers],
        [answer.title or answer.text[:_SHOWN] for answer in answers],
        sources,
    )


def _head(row: int, texts: DatasetTexts | None) -> dict[str, str]:
    if texts is None:
        return {"question_id": str(row), "question": ""}
    return {"question_id": texts.questions[row].id, "question": texts.questions[row].text}


def _names(file: str | None, texts: DatasetTexts | None, count: int) -> tuple[str, ...]:
    if file is not None:
        return read_cluster_names(file, count)
    return tuple(f"subspace_{row}" for row in range(count)) if texts is None else texts.clusters


def read_cluster_names(path: str | Path, count: int) -> tuple[str, ...]:
    """Names of subspaces: a JSON list of strings where the file's name ends in `.json`, else one per line.

    Raises:
        InputError: The file is missing or something else, or has not `count` names.
    """
    path = Path(path)
    remedy = f"Give a .json file with a list of {count} strings, or a text file of {count} lines."
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except FileNotFoundError as error:
        raise InputError("there is no such file.", path=path, remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise InputError("cannot be read as names.", path=path, remedy=remedy) from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError("names are expected, none of them empty.", path=path, remedy=remedy)
    if len(names) != count:
        raise InputError(f"{len(names)} names for {count} subspaces.", path=path, remedy=remedy)
    return tuple(name.strip() for name in names)
