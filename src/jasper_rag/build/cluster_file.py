"""The JSON file of keyword clusters that the original project writes: read and checked.

{"metadata": {"n_clusters": 2, ...},
 "cluster_assignments": {"git": 0, "docker": 1, ...},
 "clusters": {"0": ["git", ...], "1": [...]},                          (may be left out)
 "cluster_stats": {"0": {"topic_descriptors": ["git", ...], ...}},     (may be left out)
 "centroids": [[...D numbers], ...],
 "embeddings": {"git": [...D numbers], ...}}                           (may be left out)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError

_NAME_TERMS = 3
_OTHER_ENCODER = "Use the encoder that the clusters were made with."


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """Keyword clusters.

    Args:
        cluster_of_keyword: Keyword in lower case -> cluster in 0 .. K-1.
        centroids: float32 [K, D], scaled to unit rows: the space of the sources.
        names: K different names: up to three topic descriptors each, else keywords.
        keyword_vectors: float32 [D] unit vector per keyword in lower case; empty where the file has none.
    """

    cluster_of_keyword: Mapping[str, int]
    centroids: Vectors
    names: tuple[str, ...]
    keyword_vectors: Mapping[str, Vectors]


def read_cluster_file(path: str | Path, dimension: int | None = None) -> ClusterFile:
    """Read and check a file.

    Args:
        path: The JSON file.
        dimension: The sources' D; None: not compared.

    Raises:
        InputError: The file is missing or no JSON; a field is missing or of another kind; cluster numbers have gaps
            or go beyond the centroids; two spellings of a keyword are in two clusters; `clusters` contradicts
            `cluster_assignments`; vectors of unequal or another dimension, not finite, or all zeros. Each with the
            file and the field.
    """
    path = Path(path)
    content = _Content(path, _read_object(path))
    assigned = content.assignments()
    centroids = content.vectors("centroids", content.required("centroids", list), dimension)
    content.check_numbers(assigned, len(centroids))
    content.check_listing(assigned)
    vectors = content.keyword_vectors(assigned, centroids.shape[1])
    return ClusterFile(assigned, centroids, content.names(assigned, len(centroids)), vectors)


def require_dimension(found: ClusterFile, dimension: int, path: str | Path) -> None:
    """Refuse clusters of another space than that of the sources.

    Args:
        found: What the file holds.
        dimension: The sources' D.
        path: The file, for the message.

    Raises:
        InputError: The centroids have another length.
    """
    if found.centroids.shape[1] != dimension:
        raise InputError(
            f"vectors of {found.centroids.shape[1]} dimensions, expected {dimension}.",
            remedy=_OTHER_ENCODER,
            path=path,
            field="centroids",
        )


def _read_object(path: Path) -> dict[str, Any]:
    remedy = "Give the JSON file of keyword clusters."
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"this file cannot be read ({error.strerror}).", remedy=remedy, path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}.", remedy=remedy, path=path) from error
    if not isinstance(value, dict):
        raise InputError(f"a JSON object is expected, got a {type(value).__name__}.", remedy=remedy, path=path)
    return value


@dataclass(frozen=True, slots=True)
class _Content:
    path: Path
    value: Mapping[str, Any]

    def fault(self, field: str, problem: str, remedy: str = "Mend the file, or cluster again.") -> InputError:
        return InputError(problem, remedy=remedy, path=self.path, field=field)

    def required(self, field: str, kind: type) -> Any:
        found = self.value.get(field)
        if not isinstance(found, kind) or not found:
            problem = "missing or empty" if not found else f"a {kind.__name__} is expected, got {type(found).__name__}"
            raise self.fault(field, f"{problem}.")
        return found

    def optional(self, field: str) -> dict[str, Any]:
        found = self.value.get(field) or {}
        if not isinstance(found, dict):
            raise self.fault(field, f"an object is expected, got {type(found).__name__}.")
        return found

    def assignments(self) -> dict[str, int]:
        assigned: dict[str, int] = {}
        for keyword, cluster in self.required("cluster_assignments", dict).items():
            if isinstance(cluster, bool) or not isinstance(cluster, int):
                raise self.fault("cluster_assignments", f"{keyword!r} has the cluster {cluster!r}, not a whole number.")
            key = keyword_key(keyword)
            if assigned.setdefault(key, cluster) != cluster:
                raise self.fault(
                    "cluster_assignments",
                    f"{keyword!r} is in cluster {cluster}, another spelling of it in {assigned[key]}.",
                    "Letter case does not count: put both spellings in one cluster.",
                )
        return assigned

    def check_numbers(self, assigned: Mapping[str, int], clusters: int) -> None:
        declared = self.required("metadata", dict).get("n_clusters")
        if declared != clusters:
            raise self.fault("metadata.n_clusters", f"{declared!r}, but there are {clusters} centroids.")
        beyond = next((keyword for keyword, cluster in assigned.items() if not 0 <= cluster < clusters), None)
        if beyond is not None:
            problem = f"{beyond!r} has the cluster {assigned[beyond]}, expected 0 to {clusters - 1}."
            raise self.fault("cluster_assignments", problem)
        missing = sorted(set(range(clusters)) - set(assigned.values()))
        if missing:
            raise self.fault("cluster_assignments", f"no keyword has the cluster {', '.join(map(str, missing))}.")

    def check_listing(self, assigned: Mapping[str, int]) -> None:
        for cluster, keywords in self.optional("clusters").items():
            field = f"clusters.{cluster}"
            if not isinstance(keywords, list):
                raise self.fault(field, f"a list is expected, got {type(keywords).__name__}.")
            for keyword in keywords:
                known = assigned.get(keyword_key(str(keyword)))
                if known is None:
                    raise self.fault(field, f"the keyword {keyword!r} is not in cluster_assignments.")
                if str(known) != cluster:
                    raise self.fault(field, f"the keyword {keyword!r} is in cluster {known} by cluster_assignments.")

    def keyword_vectors(self, assigned: Mapping[str, int], dimension: int) -> dict[str, Vectors]:
        given = self.optional("embeddings")
        unknown = next((keyword for keyword in given if keyword_key(keyword) not in assigned), None)
        if unknown is not None:
            raise self.fault("embeddings", f"the keyword {unknown!r} is not in cluster_assignments.")
        if not given:
            return {}
        rows = self.vectors("embeddings", list(given.values()), dimension)
        return {keyword_key(keyword): row for keyword, row in zip(given, rows, strict=True)}

    def vectors(self, field: str, rows: list[Any], dimension: int | None) -> Vectors:
        """Unit rows, float32 [n, D]."""
        try:
            matrix = np.array(rows, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise self.fault(field, f"not rows of numbers of one length: {error}.") from error
        if matrix.ndim != 2 or not matrix.size:
            raise self.fault(field, f"rows of numbers are expected, got the shape {list(matrix.shape)}.")
        if dimension is not None and matrix.shape[1] != dimension:
            problem = f"vectors of {matrix.shape[1]} dimensions, expected {dimension}."
            raise self.fault(field, problem, _OTHER_ENCODER)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
        if len(bad):
            raise self.fault(field, f"vector {int(bad[0])} is not finite or all zeros.")
        unit: Vectors = (matrix / lengths).astype(np.float32)
        return unit

    def names(self, assigned: Mapping[str, int], clusters: int) -> tuple[str, ...]:
        stats = self.optional("cluster_stats")
        names: list[str] = []
        for cluster in range(clusters):
            entry = stats.get(str(cluster))
            described = entry.get("topic_descriptors") if isinstance(entry, dict) else None
            terms = described if isinstance(described, list) and described else None
            own = [keyword for keyword, number in assigned.items() if number == cluster]
            name = ", ".join(str(term) for term in (terms or own)[:_NAME_TERMS])
            names.append(name if name not in names else f"{name} ({cluster})")
        return tuple(names)


def keyword_key(keyword: str) -> str:
    """What spellings of one keyword share: letter case and runs of blanks do not count."""
    return " ".join(keyword.split()).lower()
