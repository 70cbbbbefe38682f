"""Makes a training set for steering: clusters of sources, negatives, steering; writes a dataset directory."""
