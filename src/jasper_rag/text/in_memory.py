"""A retrieval set from what a program already holds: documents and question-answer pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet

Corpus = Iterable[Document] | Iterable[str] | Mapping[str, str]
"""Documents, or texts (ids "0", "1", ...), or id -> text."""

Questions = Iterable[tuple[str, str | int]]
"""(question, id of the document that answers it); a number is the document's position."""


def retrieval_set_of(corpus: Corpus, questions: Questions, name: str = "corpus") -> RetrievalSet:
    """Documents and questions as a set with one split, "all"; equal questions become one with several answers.

    Raises:
        InputError: No document, no question, a duplicate id, an empty text, or an answer that is not in the corpus.
    """
    documents = tuple(_documents(corpus))
    if not documents:
        raise InputError("the corpus is empty.", field="corpus", remedy="Give at least a few documents.")
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise InputError(f"document id {document.id!r} occurs twice.", field="corpus", remedy="Make ids unique.")
        if not document.content.strip():
            raise InputError(f"document {document.id!r} is empty.", field="corpus", remedy="Leave it out.")
        known.add(document.id)
    query_ids: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row, (text, answer) in enumerate(questions):
        if not text.strip():
            raise InputError(f"question {row} is empty.", field="questions", remedy="Leave it out.")
        document_id = _answer_id(answer, documents, known, row)
        qrels.setdefault(query_ids.setdefault(text, f"q{len(query_ids)}"), {})[document_id] = 1
    if not qrels:
        raise InputError("there is no question.", field="questions", remedy="Give (question, document id) pairs.")
    queries = tuple(Query(query_id, text) for text, query_id in query_ids.items())
    return RetrievalSet(name, documents, queries, {"all": qrels})


def _documents(corpus: Corpus) -> Iterable[Document]:
    if isinstance(corpus, Mapping):
        texts: Mapping[str, str] = corpus
        return [Document(str(key), text) for key, text in texts.items()]
    return [
        item if isinstance(item, Document) else Document(str(position), item) for position, item in enumerate(corpus)
    ]


def _answer_id(answer: str | int, documents: tuple[Document, ...], known: set[str], row: int) -> str:
    if isinstance(answer, int):
        if not 0 <= answer < len(documents):
            problem = f"question {row} is answered by document {answer}, but there are {len(documents)} documents."
            raise InputError(problem, field="questions", remedy="Positions count from 0.")
        return documents[answer].id
    if answer not in known:
        problem = f"question {row} is answered by {answer!r}, which is not in the corpus."
        raise InputError(problem, field="questions", remedy="Use the ids of the corpus, or positions as numbers.")
    return answer
