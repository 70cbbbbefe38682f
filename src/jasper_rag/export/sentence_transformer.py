"""The sentence-transformers export: the encoder with the prediction on its query side, out of stock modules only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Normalize, Router

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.sentence_encoder import SentenceEncoder, quiet_loading
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.export.query_map import agreement, probe_questions, query_map
from jasper_rag.export.stock_modules import query_modules
from jasper_rag.jasper import Jasper

STOCK = "sentence_transformers."
_TEXTS = 24
"""Texts of the corpus that the written model is asked."""


def write_sentence_transformer(jasper: Jasper, folder: Path) -> float:
    """Write a model whose `encode_query` is `Jasper.transform`, `encode_document` and `encode` the plain vector.

    Returns:
        The largest difference from this model, over vectors and over texts, of the model as read back.

    Raises:
        InputError: The encoder is no sentence-transformers model, computes in half precision or has modules of its
            own, or the predictor has an MLP.
    """
    encoder = _usable(jasper.encoder)
    head = query_modules(query_map(jasper))
    probes = probe_questions(jasper)
    worst = agreement(_moved(head, probes), jasper.transform(probes), "the sentence-transformers model")
    with quiet_loading():
        _model(encoder, head).save(str(folder), create_model_card=False)
    _require_stock(folder)
    texts = [document.content for document in jasper.model.documents[:_TEXTS]]
    return max(worst, _difference_on_texts(jasper, encoder, folder, texts))


def _usable(encoder: Encoder) -> SentenceEncoder:
    remedy = "Export numpy or ONNX: they take the encoder's vectors."
    if not isinstance(encoder, SentenceEncoder):
        raise InputError("the encoder is not a sentence-transformers model.", field="format", remedy=remedy)
    if encoder.dtype != "float32":
        raise InputError(f"the encoder computes in {encoder.dtype}, not float32.", field="format", remedy=remedy)
    return encoder


def _model(encoder: SentenceEncoder, head: list[Module]) -> SentenceTransformer:
    base = cast(list[Module], list(encoder.model.children()))
    if not isinstance(base[-1], Normalize):
        base.append(Normalize())
    router = Router.for_query_document(query_modules=[*base, *head], document_modules=base, default_route="document")
    prompts = {"query": encoder.prompt("query"), "document": encoder.prompt("document")}
    return SentenceTransformer(
        modules=[router],
        prompts=prompts,
        # `encode` is the document side; without a default it would leave the prompt out.
        default_prompt_name="document" if prompts["document"] else None,
        similarity_fn_name="cosine",
        device=str(encoder.model.device),
        local_files_only=True,
    )


def _moved(head: list[Module], questions: Vectors) -> Vectors:
    features = {"sentence_embedding": torch.from_numpy(questions)}
    with torch.inference_mode():
        for module in head:
            features = module(features)
    return features["sentence_embedding"].numpy()


def _require_stock(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    types = {module["type"] for module in modules}
    for routes in folder.rglob(Router.config_file_name):
        types |= set(json.loads(routes.read_text(encoding="utf-8"))["types"].values())
    own = sorted(name for name in types if not name.startswith(STOCK))
    if own:
        raise InputError(
            f"the encoder has modules that sentence-transformers does not come with: {', '.join(own)}.",
            field="format",
            remedy="Export numpy or ONNX: they take the encoder's vectors.",
        )


def _difference_on_texts(jasper: Jasper, encoder: SentenceEncoder, folder: Path, texts: list[str]) -> float:
    """Read the model back and ask it as a stranger would."""
    written = SentenceEncoder(str(folder), device=str(encoder.model.device), offline=True).model
    searched = np.asarray(written.encode_query(texts, show_progress_bar=False))
    plain = np.asarray(written.encode_document(texts, show_progress_bar=False))
    expected = jasper.transform(encoder.encode(texts, "query"))
    return max(
        agreement(searched, expected, "encode_query"),
        agreement(plain, encoder.encode(texts, "document"), "encode_document"),
    )
