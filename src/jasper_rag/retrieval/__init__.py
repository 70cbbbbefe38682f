"""Search over stored vectors and texts, fusion of the two, and TREC run files."""
