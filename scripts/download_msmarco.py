"""Download MS MARCO as pairs to train an encoder on.

python scripts/download_msmarco.py \
    --output data/processed/msmarco \
    --num_examples 50000
"""

from __future__ import annotations

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.msmarco import msmarco

if __name__ == "__main__":
    run_verb(msmarco, "download_msmarco.py")
