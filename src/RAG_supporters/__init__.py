"""Import paths of the original `RAG_supporters` package; every name is `jasper_rag`'s own object."""
