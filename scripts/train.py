"""Train a Gaussian encoder on pairs; the same as `jasper train-encoder`.

python scripts/train.py \
    --train_data data/processed/train.json \
    --val_data data/processed/val.json \
    --epochs 3
"""

from __future__ import annotations

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.train_encoder import train_encoder

if __name__ == "__main__":
    run_verb(train_encoder, "train.py")
