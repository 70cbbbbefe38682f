"""From files to a `RetrievalSet`: one reader per layout, and `read_retrieval_set`, which picks the reader."""

from __future__ import annotations

from jasper_rag.text.readers.retrieval_set import read_retrieval_set as read_retrieval_set
