"""A trained model as the embedding object of other frameworks; each file needs its framework, an extra."""
