"""From vectors and judgements to a model; from a model to one over another corpus."""
