"""`--vectors` and its companions: files of vectors and judgements in place of texts and an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.jasper import Jasper
    from jasper_rag.jasper_config import JasperConfig

Vectors = Annotated[
    Path | None, typer.Option("--vectors", help="Document vectors of your own: .npy, .safetensors, .parquet.")
]
Ids = Annotated[Path | None, typer.Option("--ids", help="Ids of --vectors, one per line. [default: 0, 1, ...]")]
QueryVectors = Annotated[Path | None, typer.Option("--query-vectors", help="Question vectors, as --vectors.")]
QueryIds = Annotated[Path | None, typer.Option("--query-ids", help="Ids of --query-vectors, as --ids.")]
Qrels = Annotated[
    Path | None, typer.Option("--qrels", help="Judgements of --vectors: a .tsv, or a folder of train, dev, test.")
]


@dataclass(frozen=True, slots=True)
class GivenFiles:
    """The files named on the command line; names are those of the flags."""

    vectors: Path | None
    ids: Path | None
    query_vectors: Path | None
    query_ids: Path | None
    qrels: Path | None

    def any(self) -> bool:
        """Whether a file was named."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def training(self, data: str | None, columns: Mapping[str, str], settings: JasperConfig) -> Callable[[], Jasper]:
        """Read everything, so that whatever is wrong is said at once; what is returned trains.

        Args:
            data: Texts of the same ids, for BM25 and the report; its judgements count where there is no `qrels`.
            columns: Of a table of texts.
            settings: Of the training.

        Raises:
            InputError: A file is missing, or what the readers refuse.
        """
        from jasper_rag.embedding.given_set import given_set
        from jasper_rag.embedding.vector_sources import read_vectors
        from jasper_rag.jasper import Jasper
        from jasper_rag.text.readers import read_retrieval_set
        from jasper_rag.text.readers.judgement_files import read_judgements

        if self.vectors is None or self.query_vectors is None or (self.qrels is None and data is None):
            needed = {"--vectors": self.vectors, "--query-vectors": self.query_vectors, "--qrels": self.qrels}
            missing = [flag for flag, path in needed.items() if path is None]
            remedy = "Vectors need --vectors, --query-vectors and --qrels (or --data, a set with judgements)."
            raise InputError(f"{' and '.join(missing)} missing.", field=missing[0], remedy=remedy)
        texts = None if data is None else read_retrieval_set(data, columns=columns)
        documents = read_vectors(self.vectors, self.ids)
        queries = read_vectors(self.query_vectors, self.query_ids)
        if self.qrels is not None:
            qrels: Mapping[str, Mapping[str, Mapping[str, int]]] = read_judgements(
                self.qrels, queries.known, documents.known
            )
        else:
            qrels = {} if texts is None else texts.qrels
        name = self.vectors.stem if texts is None else texts.name
        given = given_set(documents, queries, qrels, name, texts)
        return lambda: Jasper.fit_vectors(
            given.retrieval_set, given.document_vectors, given.query_vectors, config=settings
        )
