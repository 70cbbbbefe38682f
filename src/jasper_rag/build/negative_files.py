"""The negatives of a dataset directory, exchanged while others may be reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_files import replacing_entries
from jasper_rag.build.negative_mining import Negatives


def write_negatives(
    negatives: Negatives, directory: str | Path, suffix: Literal[".safetensors", ".pt"] = ".safetensors"
) -> None:
    """Replace the negatives, their tiers and scores; every file is the whole old or the whole new one at any moment.

    All are on disk before the first takes its place. If that fails, or the process is killed in between, none or,
    after `atomic_moves.recover`, all of them are new. Files of one mining carry the same `mining` in their metadata.

    Args:
        negatives: Of all pairs.
        directory: A dataset directory; everything else in it stays as it is.
        suffix: Format of rows and tiers; scores, which only we read, are always `.safetensors`.
    """
    arrays: dict[str, NDArray[Any]] = dict(
        zip(layout.MINED_TENSORS, (negatives.rows, negatives.tiers, negatives.scores), strict=True)
    )
    with replacing_entries(directory) as fresh:
        for name, array in arrays.items():
            whole = np.ascontiguousarray(array)
            if suffix == ".pt" and name in layout.NEGATIVE_TENSORS:
                torch.save(torch.from_numpy(whole), fresh / f"{name}.pt")
            else:
                save_file({name: whole}, fresh / f"{name}.safetensors", {layout.MINING: negatives.mark()})
