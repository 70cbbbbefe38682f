"""Measure a trained encoder beside its base model and BM25; the same as `jasper evaluate-encoder`.

python scripts/evaluate.py \
    --model_path checkpoints/best_model.pt \
    --test_data data/processed/test_eval.json \
    --batch_size 32 \
    --top_k 100 \
    --output_file results/eval_results.json
"""

from __future__ import annotations

from jasper_rag.cli.evaluate_encoder import evaluate_encoder
from jasper_rag.cli.main import run_verb

if __name__ == "__main__":
    run_verb(evaluate_encoder, "evaluate.py")
