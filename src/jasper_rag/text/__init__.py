"""Strings only: records, readers, splits. Nothing here imports torch or numpy."""

from __future__ import annotations

from jasper_rag.text.records import Document as Document
from jasper_rag.text.records import Qrels as Qrels
from jasper_rag.text.records import Query as Query
from jasper_rag.text.records import RetrievalSet as RetrievalSet
