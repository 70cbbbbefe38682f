"""Train a JASPER predictor on a steering dataset; the same as `jasper train`.

python examples/train_jasper_predictor.py \
    --config configs/jasper_base.yaml \
    --dataset-dir /path/to/jasper_dataset \
    --output-dir runs/jasper_run_01
"""

from __future__ import annotations

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.train import train

if __name__ == "__main__":
    run_verb(train, "train_jasper_predictor.py")
