"""Texts to vectors: the encoder seam, sentence-transformers behind it, and the store that encodes each text once."""
