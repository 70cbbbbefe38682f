"""A trained model on disk: safetensors for numbers, JSON for the rest, checksums over all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from jasper_rag import atomic_files
from jasper_rag.atomic_files import replacing_directory, write_json, write_text
from jasper_rag.atomic_moves import recover
from jasper_rag.embedding.checksums import content_sha256, file_sha256
from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import FusionWeights
from jasper_rag.models.corpus_gate import CorpusGate
from jasper_rag.models.guard import FamiliarityGate, Guard
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topic_router import Routing
from jasper_rag.models.topics import Topics
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.vector_files import mapped_tensors
from jasper_rag.serving.saved_pairs import SavedPairs, read_pairs, write_pairs
from jasper_rag.serving.saved_predictor import predictor_description, predictor_of
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.records import Document

FORMAT_VERSION, OLDEST_READ = 4, 2
"""A model of format 2 has no topics; one of format 3 routes to them uncalibrated; neither has known pairs."""

DESCRIPTION = "jasper.json"
PREDICTOR, GATE, VECTORS, DOCUMENTS = "predictor.safetensors", "gate.safetensors", "vectors.safetensors", "corpus.jsonl"
MODEL_FOLDER = "model"
LEXICAL, CORPUS_GATE, TOPICS = "lexical", "corpus_gate.safetensors", "topics.safetensors"
_CORPUS_GATE_NUMBERS = ("typical", "low", "high", "neighbours")
_OWN_CHECKSUM = "content_sha256"
_FIT_AGAIN = "The folder is damaged: run `jasper fit` again."


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Everything a search needs.

    Args:
        config: The resolved settings as plain values.
        identity: Of the encoder the vectors come from.
        documents: The N documents.
        vectors: Of the documents.
        lexical: BM25 over the same documents; None where they have no text.
        predictor: The trained predictor.
        guard: Blend and gate.
        weights: Fusion weights.
        corpus_gate: Tells a corpus like the one trained on from others; None where it is switched off.
        openness: What it says of these documents.
        name: Of the data set.
        topics: Of the documents; None where there are none.
        routing: To them: calibration, worth of a chosen topic, usual atypicality.
        known_pairs: Train questions to be shown beside new ones; None where none are kept.
    """

    config: dict[str, Any]
    identity: EncoderIdentity
    documents: tuple[Document, ...]
    vectors: DocumentVectors
    lexical: LexicalIndex | None
    predictor: Predictor
    guard: Guard
    weights: FusionWeights
    corpus_gate: CorpusGate | None
    openness: float
    name: str
    topics: Topics | None = None
    routing: Routing = field(default_factory=Routing)
    known_pairs: SavedPairs | None = None

    @property
    def serving_guard(self) -> Guard:
        """The guard over these documents."""
        return self.guard.over(self.openness)


def write_model(model: SavedModel, directory: str | Path) -> None:
    """Write `model` to `directory`; an older model there stays whole until the new one is complete.

    Raises:
        InputError: `directory` holds something else, which would be lost.
    """
    require_replaceable(directory)
    with replacing_directory(directory) as folder:
        save_tensors(model.predictor.state_dict(), folder / PREDICTOR)
        save_file(_vector_arrays(model.vectors), folder / VECTORS)
        gate = model.guard.gate
        if gate is not None:
            save_file({"bank": gate.bank}, folder / GATE)
        corpus = model.corpus_gate
        if corpus is not None:
            save_file({"bank": corpus.bank}, folder / CORPUS_GATE)
        topics = model.topics
        if topics is not None:
            arrays = {
                "centroids": topics.centroids,
                "assignment": topics.assignment,
                "usual_atypicality": model.routing.usual,
            }
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / TOPICS)
        rows = (
            {"_id": d.id, "title": d.title, "text": d.text} | ({"topic": d.topic} if d.topic else {})
            for d in model.documents
        )
        write_text(folder / DOCUMENTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        if model.lexical is not None:
            model.lexical.save(folder / LEXICAL)
        pairs = write_pairs(model.known_pairs, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        description = {
            "format_version": FORMAT_VERSION,
            "name": model.name,
            "documents": len(model.documents),
            "dimension": model.vectors.dimension,
            "lexical": model.lexical is not None,
            "encoder": model.identity.to_json(),
            "predictor": predictor_description(model.predictor),
            "alpha": model.guard.alpha,
            "gate": None if gate is None else {"low": gate.low, "high": gate.high, "neighbours": gate.neighbours},
            "corpus_gate": None if corpus is None else {name: getattr(corpus, name) for name in _CORPUS_GATE_NUMBERS},
            "corpus_openness": model.openness,
            "topics": None if topics is None else {"names": topics.names, "terms": topics.terms},
            "routing": model.routing.to_json(),
            "known_pairs": pairs,
            "fusion_weights": {"plain": model.weights.plain, "jasper": model.weights.jasper},
            "config": model.config,
            "sha256": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
        }
        description[_OWN_CHECKSUM] = content_sha256(description, _OWN_CHECKSUM)
        write_json(folder / DESCRIPTION, description)


def model_folder(directory: str | Path) -> Path:
    """The model folder of a run directory, or the folder itself."""
    inside = Path(directory) / MODEL_FOLDER
    return inside if inside.is_dir() else Path(directory)


def require_replaceable(directory: str | Path) -> None:
    """Refuse a place where writing a model would remove something else.

    Raises:
        InputError: It is a file, or a folder that is neither empty nor a model.
    """
    atomic_files.require_replaceable(directory, DESCRIPTION, "model")


def read_model(directory: str | Path) -> SavedModel:
    """Read what `write_model` wrote.

    Raises:
        InputError: No model there, a newer format, or a file that is missing, truncated or altered.
    """
    folder = Path(directory)
    recover(folder)
    description = read_description(folder)
    try:
        return _built(folder, description)
    except InputError:
        raise
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot be read: {error}", path=folder, remedy=_FIT_AGAIN) from error


def _built(folder: Path, description: dict[str, Any]) -> SavedModel:
    for name, expected in description["sha256"].items():
        _check_file(folder, name, expected)
    predictor = predictor_of(description["predictor"], load_tensors(folder / PREDICTOR))
    gate, corpus = description["gate"], description["corpus_gate"]
    # Its checksum is right, so it may be mapped: a large corpus takes memory only where it is searched.
    vectors = _vectors_of(mapped_tensors(folder / VECTORS)[1])
    documents = tuple(
        Document(row.values["_id"], row.values["text"], row.values.get("title", ""), row.values.get("topic", ""))
        for row in json_rows(folder / DOCUMENTS)
    )
    if len(documents) != len(vectors):
        raise InputError(f"{len(documents)} documents but vectors of {len(vectors)}.", path=folder, remedy=_FIT_AGAIN)
    topics, routing = _topics(folder, description.get("topics"), description.get("routing"))
    if topics is not None and len(topics.assignment) != len(documents):
        problem = f"{len(documents)} documents but topics of {len(topics.assignment)}."
        raise InputError(problem, path=folder, remedy=_FIT_AGAIN)
    return SavedModel(
        config=description["config"],
        identity=EncoderIdentity.from_json(description["encoder"]),
        documents=documents,
        vectors=vectors,
        lexical=LexicalIndex.load(folder / LEXICAL) if description["lexical"] else None,
        predictor=predictor,
        guard=Guard(
            description["alpha"],
            None if gate is None else FamiliarityGate(load_file(folder / GATE)["bank"], **gate),
        ),
        corpus_gate=None if corpus is None else CorpusGate(load_file(folder / CORPUS_GATE)["bank"], **corpus),
        openness=description["corpus_openness"],
        weights=FusionWeights(**description["fusion_weights"]),
        name=description["name"],
        topics=topics,
        routing=routing,
        known_pairs=read_pairs(folder, description.get("known_pairs", 0)),
    )


def _topics(
    folder: Path, described: dict[str, Any] | None, routing: dict[str, float] | None
) -> tuple[Topics | None, Routing]:
    if described is None:
        return None, Routing()
    arrays = load_file(folder / TOPICS)
    terms = tuple(tuple(row) for row in described["terms"])
    topics = Topics(tuple(described["names"]), terms, arrays["centroids"], arrays["assignment"])
    return topics, Routing() if routing is None else Routing.from_json(routing, arrays["usual_atypicality"])


def _vector_arrays(vectors: DocumentVectors) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {"vectors": np.ascontiguousarray(vectors.vectors)}
    if vectors.passages is not None:
        arrays |= {"passage_starts": vectors.passages.starts, "passage_spans": vectors.passages.spans}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _vectors_of(arrays: dict[str, np.ndarray]) -> DocumentVectors:
    if "passage_starts" not in arrays:
        return DocumentVectors(arrays["vectors"])
    return DocumentVectors(arrays["vectors"], Passages(arrays["passage_starts"], arrays["passage_spans"]))


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `jasper.json`.

    Raises:
        InputError: It is missing, not JSON, altered, incomplete or of another format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        remedy = "Give the folder that `jasper fit --output-dir` wrote (or its model/ folder)."
        raise InputError(f"there is no trained model here (no {DESCRIPTION}).", path=folder, remedy=remedy)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError("not valid JSON.", path=path, remedy=_FIT_AGAIN) from error
    found = description.get("format_version") if isinstance(description, dict) else None
    if not isinstance(description, dict) or found not in range(OLDEST_READ, FORMAT_VERSION + 1):
        newer = isinstance(found, int) and found > FORMAT_VERSION
        remedy = "A newer jasper-rag wrote it: upgrade." if newer else "Run `jasper fit` again."
        problem = f"model format {found!r}; this version reads {OLDEST_READ} to {FORMAT_VERSION}."
        raise InputError(problem, path=path, field="format_version", remedy=remedy)
    if description.get(_OWN_CHECKSUM) != content_sha256(description, _OWN_CHECKSUM):
        remedy = "It was altered: run `jasper fit` again."
        raise InputError("does not match its own checksum.", path=path, field=_OWN_CHECKSUM, remedy=remedy)
    return description


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    # Names come from a file: they must not lead out of the folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        remedy = "This folder was not written by jasper-rag: do not use it."
        raise InputError(f"{name!r} lies outside the model.", path=folder / DESCRIPTION, field="sha256", remedy=remedy)
    if not path.is_file():
        raise InputError("the file is missing.", path=path, remedy="Run `jasper fit` again.")
    if file_sha256(path) != expected:
        remedy = "It was truncated or altered: run `jasper fit` again."
        raise InputError("does not match its checksum.", path=path, remedy=remedy)
