"""Make training and test pairs of documents or of given pairs; the same as `jasper prepare`.

python scripts/prepare_data.py \
    --documents data/raw/all_docs.txt \
    --generate_pairs \
    --num_pairs 100 \
    --split 0.7 0.15 0.15 \
    --output_dir data/processed
"""

from __future__ import annotations

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.prepare import prepare

if __name__ == "__main__":
    run_verb(prepare, "prepare_data.py")
