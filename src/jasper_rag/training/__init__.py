"""Training: of the predictor on cached embeddings, and of its guard."""
