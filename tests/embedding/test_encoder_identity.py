from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.errors import InputError

BASE = EncoderIdentity(name="model", revision="r1", weights_sha256="ab" * 32, dimension=8, max_seq_length=128)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "cd" * 32},
        {"configuration_sha256": "cd" * 32},
        {"dimension": 9},
        {"max_seq_length": None},
        {"dtype": "bfloat16"},
    ],
)
def test_what_changes_numbers_changes_both_fingerprints(change: dict[str, object]) -> None:
    other = replace(BASE, **change)  # type: ignore[arg-type]
    assert other.fingerprint("query") != BASE.fingerprint("query")
    assert other.fingerprint("document") != BASE.fingerprint("document")
    sentence = BASE.mismatch(other)
    assert sentence is not None
    assert sentence.startswith("two versions of 'model' differ in ")


def test_a_prompt_belongs_to_its_role_only() -> None:
    other = replace(BASE, query_prompt="query: ")
    assert other.fingerprint("query") != BASE.fingerprint("query")
    assert other.fingerprint("document") == BASE.fingerprint("document")
    assert BASE.mismatch(other, "document") is None
    assert BASE.mismatch(other) == "two versions of 'model' differ in query prompt: '' and 'query: '."
    assert (other.prompt("query"), other.prompt("document")) == ("query: ", "")


def test_the_roles_are_apart_even_with_one_prompt() -> None:
    assert BASE.fingerprint("query") != BASE.fingerprint("document")


def test_names_matter_only_where_the_weights_are_unknown() -> None:
    assert BASE.mismatch(replace(BASE, name="elsewhere", revision="r2")) is None
    unknown = replace(BASE, weights_sha256="")
    assert unknown.mismatch(replace(unknown, name="elsewhere")) == (
        "'model' and 'elsewhere' differ in name: 'model' and 'elsewhere'."
    )
    assert unknown.fingerprint("query") != replace(unknown, revision="r2").fingerprint("query")


def test_long_values_are_shortened_in_the_sentence() -> None:
    sentence = BASE.mismatch(replace(BASE, weights_sha256="cd" * 32))
    assert sentence == "two versions of 'model' differ in weights (SHA-256): 'abababababab…' and 'cdcdcdcdcdcd…'."


def test_unknown_against_known_weights_is_a_mismatch() -> None:
    assert BASE.mismatch(replace(BASE, weights_sha256="")) is not None


def test_json_round_trip() -> None:
    assert EncoderIdentity.from_json(json.loads(json.dumps(BASE.to_json()))) == BASE


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"name": "m"}, "missing \\['dimension'\\]"),
        ({"name": "m", "dimension": 3, "colour": "red"}, "unknown \\['colour'\\]"),
        ({"name": "m", "dimension": "3"}, "'3' is of the wrong type"),
        ({"name": "m", "dimension": True}, "wrong type"),
        ({"name": None, "dimension": 3}, "wrong type"),
    ],
)
def test_bad_json_is_refused(value: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        EncoderIdentity.from_json(value)
