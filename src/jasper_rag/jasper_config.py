"""Every setting of a run, in one place that imports no torch: defaults, YAML, overrides, errors for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jasper_rag.embedding.sentence_encoder_config import SentenceEncoderConfig
from jasper_rag.errors import InputError
from jasper_rag.explain.explain_config import ExplainConfig
from jasper_rag.text.chunking_config import ChunkingConfig
from jasper_rag.text.training_questions_config import PseudoQuestionConfig
from jasper_rag.training.predictor_training_config import GuardConfig, PredictorTrainingConfig
from jasper_rag.training.topics_config import TopicsConfig
from jasper_rag.yaml_files import read_yaml

_Settings = TypeVar("_Settings", bound=BaseModel)

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class EncoderSettings(BaseModel):
    """Which embedding model, and how it reads a text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(DEFAULT_ENCODER, min_length=1, description="Name on the model hub, or a model folder.")
    max_seq_length: int | None = Field(None, ge=3, description="Tokens read of a text; null: the model's own limit.")
    query_prompt: str = Field("", description="Put before every question; empty: the model's own.")
    document_prompt: str = Field("", description="Put before every document; empty: the model's own.")
    device: str | None = Field(None, description="cpu, cuda, mps; null: a GPU if there is one.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Half precision is for GPUs.")
    batch_size: int = Field(64, gt=0, description="Texts per forward pass.")
    revision: str | None = Field(None, description="Commit, tag or branch on the hub.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the model.")

    def to_encoder_config(self, *, offline: bool = False) -> SentenceEncoderConfig:
        """The same settings as the encoder takes them."""
        return SentenceEncoderConfig(**self.model_dump(), offline=offline)


class JasperConfig(BaseModel):
    """All settings of `Jasper.fit` and `jasper fit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**63, description="Same seed, same numbers on a CPU.")
    language: str = Field("english", description="Of BM25's stemmer and stop words; none switches both off.")
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    training: PredictorTrainingConfig = Field(default_factory=PredictorTrainingConfig)
    guard: GuardConfig = Field(default_factory=GuardConfig)
    topics: TopicsConfig = Field(default_factory=TopicsConfig)
    explain: ExplainConfig = Field(default_factory=ExplainConfig)
    chunking: ChunkingConfig = Field(default_factory=ChunkingConfig)
    pseudo_questions: PseudoQuestionConfig = Field(default_factory=PseudoQuestionConfig)


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> JasperConfig:
    """The settings of a fit; arguments and errors as `load_settings`."""
    return load_settings(JasperConfig, path, overrides)


def load_settings(
    model: type[_Settings], path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> _Settings:
    """Defaults, overlaid by a YAML file, overlaid by `overrides`.

    Args:
        model: The class of settings.
        path: YAML file; None for defaults only.
        overrides: Dotted key -> value, e.g. {"encoder.name": "..."}; None values are skipped.

    Raises:
        InputError: An unknown key (the nearest known one is named) or a value out of range.
    """
    values: dict[str, Any] = {} if path is None else read_yaml(path)
    for key, value in (overrides or {}).items():
        if value is None:
            continue
        *sections, last = key.split(".")
        target = values
        for section in sections:
            if not isinstance(target.setdefault(section, {}), dict):
                remedy = f"Write its keys indented below `{section}:`, or leave it out."
                raise InputError("must hold keys and values.", path=path, field=section, remedy=remedy)
            target = target[section]
        target[last] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_input_error(model, error, path) from error


def _as_input_error(model: type[BaseModel], error: ValidationError, path: str | Path | None) -> InputError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        return InputError("unknown key.", path=path, field=field, remedy=f"{hint}Known here: {', '.join(known)}.")
    given = first.get("input")
    return InputError(f"{first['msg']}; got {given!r}.", path=path, field=field, remedy="Change or remove the key.")


def _known_keys(model: Any, location: Iterable[int | str]) -> list[str]:
    for part in location:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)
