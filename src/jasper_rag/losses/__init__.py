"""Training objectives: tensors in, tensors out; a loss never receives a model."""
