"""A small Gaussian encoder that is no identity, with a predictor."""

from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.embedding.gaussian_checkpoint import write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma


@pytest.fixture(scope="session")
def gaussian(word_model: Path) -> GaussianEmbeddingGemma:
    """16 dimensions over the words of `synonym_set`; shared, so leave it as it is."""
    import torch

    model = GaussianEmbeddingGemma(16, str(word_model), freeze_base=True, use_predictor=True, device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.projection.parameters(), *(model.predictor or model.projection).parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(gaussian: GaussianEmbeddingGemma, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gaussian` as a file."""
    path = tmp_path_factory.mktemp("checkpoints") / "best_model.pt"
    write_gaussian_checkpoint(path, gaussian.state())
    return path
