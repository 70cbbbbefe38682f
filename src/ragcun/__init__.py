"""Import paths of the original `ragcun` package; every name is `jasper_rag`'s own object."""
