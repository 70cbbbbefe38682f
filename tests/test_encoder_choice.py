from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.sentence_encoder_config import SentenceEncoderConfig
from jasper_rag.encoder_choice import checked_encoder, given_vectors_identity, require_known, usable_encoder
from jasper_rag.errors import InputError
from jasper_rag.jasper_config import JasperConfig, load_config


def test_a_given_encoder_is_used_as_it_is(word_encoder: Encoder) -> None:
    assert usable_encoder(word_encoder, JasperConfig(), offline=True) is word_encoder


def test_a_function_is_an_encoder() -> None:
    def double(texts: list[str]) -> np.ndarray:
        return np.full((len(texts), 3), 2.0)

    vectors = usable_encoder(double, JasperConfig(), offline=True).encode(["a", "b"], "query")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_without_one_the_settings_decide(word_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SentenceEncoderConfig] = []

    class Loader:
        @staticmethod
        def from_config(config: SentenceEncoderConfig) -> Encoder:
            asked.append(config)
            return word_encoder

    # In place of the module, which takes seconds to import.
    monkeypatch.setitem(sys.modules, "jasper_rag.embedding.sentence_encoder", SimpleNamespace(SentenceEncoder=Loader))
    config = load_config(overrides={"encoder.name": "some/model", "encoder.query_prompt": "query: "})
    for offline in (True, False):
        assert usable_encoder(None, config, offline=offline) is word_encoder
    assert [(c.name, c.query_prompt, c.offline) for c in asked] == [
        ("some/model", "query: ", True),
        ("some/model", "query: ", False),
    ]


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(InputError, match="an encoder cannot be made of int"):
        usable_encoder(3, JasperConfig(), offline=True)


def test_the_encoder_of_the_vectors_is_known_by_its_identity(word_encoder: Encoder) -> None:
    expected = identity_of(word_encoder)
    require_known(expected)
    assert checked_encoder(word_encoder, expected) is word_encoder
    other = EncoderIdentity(name=expected.name, weights_sha256="0" * 63 + "1", dimension=expected.dimension)
    with pytest.raises(InputError, match=r"not the one the vectors were made with: .*differ in weights") as caught:
        checked_encoder(word_encoder, other)
    assert caught.value.field == "encoder"
    assert expected.name in caught.value.remedy


def test_vectors_alone_have_no_encoder() -> None:
    identity = given_vectors_identity(24)
    assert identity.dimension == 24
    assert EncoderIdentity.from_json(identity.to_json()) == identity
    with pytest.raises(InputError, match="fitted on vectors alone") as caught:
        require_known(identity)
    assert caught.value.field == "encoder"
    assert "Jasper.load(RUN, encoder=...)" in caught.value.remedy


def test_vectors_alone_take_any_encoder_of_their_width(word_encoder: Encoder) -> None:
    class Wide:
        def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
            return np.eye(1, 25, dtype=np.float32).repeat(len(texts), axis=0)

    identity = given_vectors_identity(24)
    assert checked_encoder(word_encoder, identity) is word_encoder
    with pytest.raises(InputError, match="25 dimensions, the vectors have 24"):
        checked_encoder(Wide(), identity)
