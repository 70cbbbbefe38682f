"""Train a subspace model on a steering dataset; the same as `jasper train --subspace`.

python examples/train_subspace_jasper.py \
    --config configs/subspace_jasper.yaml \
    --dataset-dir /path/to/jasper_dataset \
    --output-dir runs/subspace_run_01
"""

from __future__ import annotations

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.train import train

if __name__ == "__main__":
    run_verb(train, "train_subspace_jasper.py", "--subspace")
