from __future__ import annotations

from typing import Any

import pytest
import torch

from jasper_rag.embedding.device import present_device, usable_device
from jasper_rag.errors import InputError


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_that_computes(device: Any) -> None:
    assert usable_device(device) == present_device(device) == present_device(None) == torch.device("cpu")


def test_tensors_without_data_have_a_place_but_are_not_computed_with() -> None:
    assert present_device("meta").type == "meta"


@pytest.mark.parametrize("device", ["gpu", 3.5, "meta", "cuda:63", torch.device("cuda", 63)])
def test_one_that_does_not_is_refused_before_work_begins(device: Any) -> None:
    with pytest.raises(InputError, match=f"'{device}' cannot be used") as refusal:
        usable_device(device)
    assert 'Use "cpu"' in str(refusal.value)
