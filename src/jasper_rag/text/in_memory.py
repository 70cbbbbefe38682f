"""A retrieval set from what a program already holds: documents and question-answer pairs."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet

Corpus = Iterable[Document] | Iterable[str] | Mapping[str, str]
"""Documents, or texts (ids "0", "1", ...), or id -> text."""

Questions = Iterable[tuple[str, str | int]]
"""(question, id of the document that answers it); a number is the document's position."""


def retrieval_set_of(corpus: Corpus, questions: Questions | None, name: str = "corpus") -> RetrievalSet:
    """Documents and questions as a set with one split, "all"; equal questions become one with several answers.

    Without questions (None) the set has documents alone.

    Raises:
        InputError: No document, no question, a duplicate id, an empty text, or an answer that is not in the corpus.
    """
    if isinstance(corpus, str):
        remedy = "Give a list of texts, or read a folder or file with read_retrieval_set."
        raise InputError(f"the corpus is one text ({corpus[:60]!r}).", field="corpus", remedy=remedy)
    documents = tuple(_documents(corpus))
    if not documents:
        raise InputError("the corpus is empty.", field="corpus", remedy="Give at least a few documents.")
    known: set[str] = set()
    for document in documents:
        if not isinstance(document.id, str) or not isinstance(document.text, str):
            problem = f"document {document.id!r} is {document.text!r:.60}; ids and texts must be strings."
            raise InputError(problem, field="corpus", remedy="Turn them into text, or leave the document out.")
        if not isinstance(document.title, str) or not isinstance(document.topic, str):
            problem = f"document {document.id!r}: title {document.title!r:.60}, topic {document.topic!r:.60}."
            raise InputError(problem, field="corpus", remedy='Both must be strings; "" where there is none.')
        _require_unicode(f"document {document.id!r}", "corpus", document.id, document.content, document.topic)
        if document.id in known:
            raise InputError(f"document id {document.id!r} occurs twice.", field="corpus", remedy="Make ids unique.")
        if not document.content.strip():
            raise InputError(f"document {document.id!r} is empty.", field="corpus", remedy="Leave it out.")
        known.add(document.id)
    if questions is None:
        return RetrievalSet(name, documents, (), {})
    query_ids: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row, pair in enumerate(questions):
        text, answer = _pair(pair, row)
        if not text.strip():
            raise InputError(f"question {row} is empty.", field="questions", remedy="Leave it out.")
        _require_unicode(f"question {row}", "questions", text)
        document_id = _answer_id(answer, documents, known, row)
        qrels.setdefault(query_ids.setdefault(text, f"q{len(query_ids)}"), {})[document_id] = 1
    if not qrels:
        raise InputError("there is no question.", field="questions", remedy="Give (question, document id) pairs.")
    queries = tuple(Query(query_id, text) for text, query_id in query_ids.items())
    return RetrievalSet(name, documents, queries, {"all": qrels})


def _documents(corpus: Corpus) -> Iterable[Document]:
    if isinstance(corpus, Mapping):
        texts: Mapping[str, str] = corpus
        return [Document(key, text) for key, text in texts.items()]
    items: Iterable[Document | str] = corpus
    return [item if isinstance(item, Document) else Document(str(row), item) for row, item in enumerate(items)]


def _pair(given: Any, row: int) -> tuple[str, Any]:
    if isinstance(given, Iterable) and not isinstance(given, str):
        parts = tuple(given)
        if len(parts) == 2 and isinstance(parts[0], str):
            return parts[0], parts[1]
    remedy = 'Give pairs such as ("what is c?", "id of the document that answers it").'
    raise InputError(f"question {row} is {given!r:.60}.", field="questions", remedy=remedy)


def _require_unicode(what: str, field: str, *texts: str) -> None:
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            problem = f"{what} holds half a character (U+{ord(text[error.start]):04X}, an unpaired surrogate)."
            raise InputError(problem, field=field, remedy="Read the text with its true encoding.") from error


def _answer_id(answer: str | int, documents: tuple[Document, ...], known: set[str], row: int) -> str:
    if isinstance(answer, SupportsIndex):  # NumPy's integers too
        position = operator.index(answer)
        if not 0 <= position < len(documents):
            problem = f"question {row} is answered by document {answer}, but there are {len(documents)} documents."
            raise InputError(problem, field="questions", remedy="Positions count from 0.")
        return documents[position].id
    if not isinstance(answer, str) or answer not in known:
        problem = f"question {row} is answered by {answer!r}, which is not in the corpus."
        raise InputError(problem, field="questions", remedy="Use the ids of the corpus, or positions as numbers.")
    return answer
