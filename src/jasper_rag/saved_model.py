"""A trained model on disk: safetensors for numbers, JSON for the rest, checksums over all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from jasper_rag.atomic_files import replacing_directory, write_json, write_text
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import FusionWeights
from jasper_rag.models.guard import FamiliarityGate, Guard
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.records import Document

FORMAT_VERSION = 1
DESCRIPTION = "jasper.json"
PREDICTOR, GATE, VECTORS, DOCUMENTS = "predictor.safetensors", "gate.safetensors", "vectors.safetensors", "corpus.jsonl"
LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Everything a search needs.

    Args:
        config: The resolved settings as plain values.
        identity: Of the encoder the vectors come from.
        documents: The N documents.
        vectors: float32 [N, D].
        lexical: BM25 over the same documents.
        predictor: The trained predictor.
        guard: Blend and gate.
        weights: Fusion weights.
        name: Of the data set.
    """

    config: dict[str, Any]
    identity: EncoderIdentity
    documents: tuple[Document, ...]
    vectors: Vectors
    lexical: LexicalIndex
    predictor: JASPERPredictor
    guard: Guard
    weights: FusionWeights
    name: str


def write_model(model: SavedModel, directory: str | Path) -> None:
    """Write `model` to `directory`; an older model there stays whole until the new one is complete."""
    with replacing_directory(directory) as folder:
        save_tensors(model.predictor.state_dict(), folder / PREDICTOR)
        save_file({"vectors": np.ascontiguousarray(model.vectors)}, folder / VECTORS)
        gate = model.guard.gate
        if gate is not None:
            save_file({"bank": gate.bank}, folder / GATE)
        rows = (
            {"_id": d.id, "title": d.title, "text": d.text} | ({"topic": d.topic} if d.topic else {})
            for d in model.documents
        )
        write_text(folder / DOCUMENTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        model.lexical.save(folder / LEXICAL)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        description = {
            "format_version": FORMAT_VERSION,
            "name": model.name,
            "documents": len(model.documents),
            "dimension": int(model.vectors.shape[1]),
            "encoder": model.identity.to_json(),
            "predictor": model.predictor.config.model_dump(),
            "alpha": model.guard.alpha,
            "gate": None if gate is None else {"low": gate.low, "high": gate.high, "neighbours": gate.neighbours},
            "fusion_weights": {"plain": model.weights.plain, "jasper": model.weights.jasper},
            "config": model.config,
            "sha256": {str(path.relative_to(folder)): file_sha256(path) for path in files},
        }
        write_json(folder / DESCRIPTION, description)


def read_model(directory: str | Path) -> SavedModel:
    """Read what `write_model` wrote.

    Raises:
        InputError: No model there, a newer format, or a file that is missing, truncated or altered.
    """
    folder = Path(directory)
    description = read_description(folder)
    for name, expected in description["sha256"].items():
        _check_file(folder, name, expected)
    remedy = "The folder is damaged: run `jasper fit` again."
    try:
        predictor = JASPERPredictor(JASPERPredictorConfig(**description["predictor"]))
        predictor.load_state_dict(load_tensors(folder / PREDICTOR))
        gate = description["gate"]
        bank = None if gate is None else load_file(folder / GATE)["bank"]
        vectors = load_file(folder / VECTORS)["vectors"]
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"cannot be read: {error}", path=folder, remedy=remedy) from error
    documents = tuple(
        Document(row.values["_id"], row.values["text"], row.values.get("title", ""), row.values.get("topic", ""))
        for row in json_rows(folder / DOCUMENTS)
    )
    if len(documents) != len(vectors):
        raise InputError(f"{len(documents)} documents but {len(vectors)} vectors.", path=folder, remedy=remedy)
    return SavedModel(
        config=description["config"],
        identity=EncoderIdentity.from_json(description["encoder"]),
        documents=documents,
        vectors=vectors,
        lexical=LexicalIndex.load(folder / LEXICAL),
        predictor=predictor.eval(),
        guard=Guard(description["alpha"], None if gate is None or bank is None else FamiliarityGate(bank, **gate)),
        weights=FusionWeights(**description["fusion_weights"]),
        name=description["name"],
    )


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `jasper.json`.

    Raises:
        InputError: It is missing, not JSON, incomplete or of a newer format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        remedy = "Give the folder that `jasper fit --output-dir` wrote (or its model/ folder)."
        raise InputError("there is no trained model here.", path=folder, remedy=remedy)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError("not valid JSON.", path=path, remedy="The file is damaged: run `jasper fit` again.") from error
    if not isinstance(description, dict) or description.get("format_version") != FORMAT_VERSION:
        found = description.get("format_version") if isinstance(description, dict) else None
        raise InputError(f"format {found!r}; this version reads {FORMAT_VERSION}.", path=path, remedy="Upgrade.")
    wanted = ("name", "encoder", "predictor", "alpha", "gate", "fusion_weights", "config", "sha256")
    missing = [key for key in wanted if key not in description]
    if missing:
        raise InputError(f"lacks {', '.join(missing)}.", path=path, remedy="Run `jasper fit` again.")
    return description


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    # Names come from a file: they must not lead out of the folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{name!r} lies outside the model.", path=folder / DESCRIPTION, field="sha256")
    if not path.is_file():
        raise InputError("the file is missing.", path=path, remedy="Run `jasper fit` again.")
    if file_sha256(path) != expected:
        remedy = "It was truncated or altered: run `jasper fit` again."
        raise InputError("does not match its checksum.", path=path, remedy=remedy)
