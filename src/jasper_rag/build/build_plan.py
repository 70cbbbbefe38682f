"""What will be built, checked as far as it can be before anything is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.cluster_file import ClusterFile, read_cluster_file, require_dimension
from jasper_rag.build.given_clusters import topic_sizes
from jasper_rag.build.negative_candidates import require_candidates
from jasper_rag.build.pair_set import positive_keys
from jasper_rag.build.pair_table import PairTable, pair_table
from jasper_rag.build.split_negatives import allowed_sources
from jasper_rag.errors import InputError


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Make one with `plan_build`.

    Args:
        given: Documents, questions, judgements, perhaps keywords.
        config: Every setting.
        table: The rows.
        cluster_file: Path of the file of keyword clusters, for `clustering: file`.
        keyword_clusters: What it holds.
    """

    given: BuildInput
    config: BuildConfig
    table: PairTable
    cluster_file: Path | None = None
    keyword_clusters: ClusterFile | None = None

    def topics(self) -> list[str]:
        """What the sources are grouped by, for `clustering` by topic or title."""
        by_topic = self.config.clustering == "topic"
        return [document.topic if by_topic else document.title for document in self.table.documents]

    def require_dimension(self, dimension: int) -> None:
        """Refuse a cluster file of another space than that of the encoder.

        Raises:
            InputError: Its vectors have another length.
        """
        if self.keyword_clusters is not None and self.cluster_file is not None:
            require_dimension(self.keyword_clusters, dimension, self.cluster_file)


def plan_build(given: BuildInput, config: BuildConfig, cluster_file: str | Path | None = None) -> BuildPlan:
    """Number and split the pairs, and refuse what would fail later, after the slow part.

    Args:
        given: Documents, questions, judgements, perhaps keywords.
        config: Every setting.
        cluster_file: JSON file of keyword clusters, for `clustering: file`.

    Raises:
        InputError: Unusable splits or cluster file, topics that do not group, or a question with fewer candidates
            than negatives are asked for.
    """
    path = _cluster_path(config, cluster_file)
    keyword_clusters = None if path is None else read_cluster_file(path)
    table = pair_table(given, config)
    plan = BuildPlan(given, config, table, path, keyword_clusters)
    if config.clustering in {"topic", "title"}:
        topic_sizes(plan.topics(), config.clustering)
    keys = positive_keys(table.pairs, table.text_group)
    for split, rows in table.splits.items():
        allowed = allowed_sources(table.pairs, table.splits, table.text_group, split)
        require_candidates(
            table.pairs[rows],
            keys,
            table.text_group,
            allowed,
            config.negatives.n_neg,
            names=[question.id for question in table.questions],
        )
    return plan


def _cluster_path(config: BuildConfig, cluster_file: str | Path | None) -> Path | None:
    if config.clustering == "file" and cluster_file is None:
        raise InputError("no cluster file.", field="clustering", remedy="Name one: --clusters FILE.json.")
    if config.clustering != "file" and cluster_file is not None:
        remedy = "Leave out --clusters, or --clustering."
        raise InputError(f"a cluster file, but clustering {config.clustering}.", field="clustering", remedy=remedy)
    return None if cluster_file is None else Path(cluster_file)
