"""MS MARCO read in one go or several: what has come stays in a file until there is enough."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar
from jasper_rag.text.msmarco import CONFIGS, REPOSITORY, JudgedQuestion, file_rows, hub_rows, judged_question
from jasper_rag.text.msmarco_pairs import MarcoPairs, held_out, marco_pairs
from jasper_rag.text.readers.rows import Row, split_name

logger = logging.getLogger(__name__)

_SYNC_EVERY = 500  # rows
_SPLITS = ("train", "validation")


class PartialFile:
    """Questions kept as they come, so that a killed download goes on where it was.

    JSONL; the first line says what it is of, each further one holds the number of rows read so far and, where the
    last of them made one, a question. A line that a kill cut short is dropped.

    Args:
        path: The file, `<split>.partial`.
        source: What is read; a file of another source is begun anew.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.rows_read = 0
        self.questions: list[JudgedQuestion] = []
        self._header = {"format_version": 1, "source": source}
        self._whole = 0  # bytes that hold whole lines
        if path.is_file():
            self._read()

    def _read(self) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                    if entry is None or (number == 0 and entry != self._header):
                        break
                    if number:
                        self.rows_read = int(entry["rows_read"])
                        if "query" in entry:
                            texts = (tuple(map(str, entry[field])) for field in ("positives", "negatives"))
                            self.questions.append(JudgedQuestion(str(entry["query"]), *texts))
                except (ValueError, KeyError, TypeError):
                    break
                self._whole += len(line)
        if self.rows_read:
            logger.info("%s: going on after %s rows", self.path, f"{self.rows_read:,}")

    def fill(self, rows: Iterable[Row], most: int | None) -> None:
        """Append what further rows hold, until there are `most` questions."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(self._whole)
            if not self._whole:
                file.write(json.dumps(self._header).encode() + b"\n")
            with progress_bar(most, f"reading {self.path.stem}", "questions") as bar:
                bar.update(len(self.questions))
                for row in rows:
                    question = judged_question(row)
                    self.rows_read += 1
                    entry: dict[str, Any] = {"rows_read": self.rows_read}
                    if question is not None:
                        self.questions.append(question)
                        entry |= asdict(question)
                        bar.update()
                    file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                    if self.rows_read % _SYNC_EVERY == 0:
                        file.flush()
                        os.fsync(file.fileno())
                    if most is not None and len(self.questions) >= most:
                        break


def collect_msmarco(
    directory: str | Path,
    config: str = "v1.1",
    *,
    source: str | Path | None = None,
    most_train: int | None = None,
    most_dev: int | None = None,
    split_ratio: float = 1.0,
) -> MarcoPairs:
    """Read questions until there are enough and make pairs of them.

    Args:
        directory: Where the unfinished files `<split>.partial` are; created. `forget_partial` removes them.
        config: One of `CONFIGS`, on the hub.
        source: A `.parquet` or `.jsonl` file of the same schema instead, a tenth of which is held out; or a folder
            with such files named train... and validation... (or dev..., val...).
        most_train: Questions for training; None: all.
        most_dev: Questions for dev, and as many for the test; None: all.
        split_ratio: See `marco_pairs`.

    Raises:
        InputError: A number below 1, an unknown config, a source that cannot be read, or no usable question.
    """
    directory = Path(directory)
    for field, most in (("num_examples", most_train), ("max_dev_samples", most_dev)):
        if most is not None and most < 1:
            raise InputError(f"{most} questions.", remedy="Give at least 1.", field=field)
    if config not in CONFIGS:
        raise InputError(f"unknown config {config!r}.", remedy=f"Give {' or '.join(CONFIGS)}.", field="config")
    if not 0 < split_ratio <= 1:
        remedy = "Give a share of more than 0 and at most 1."
        raise InputError(f"the ratio is {split_ratio:g}.", remedy=remedy, field="split_ratio")
    most_held = None if most_dev is None else most_dev * (1 if split_ratio < 1 else 2)
    files = _source_files(Path(source)) if source is not None else {}
    read = {}
    for split, most in zip(_SPLITS, (most_train, most_held), strict=True):
        if files and split not in files:
            continue
        place = str(files[split].resolve()) if files else f"hf:{REPOSITORY}:{config}"
        partial = PartialFile(partial_path(directory, split), f"{place} {split}")
        if most is None or len(partial.questions) < most:
            start = partial.rows_read
            partial.fill(file_rows(files[split], start) if files else hub_rows(config, split, start), most)
        read[split] = partial.questions[:most]
    train, held = (read["train"], read["validation"]) if len(read) > 1 else held_out(read["train"])
    return marco_pairs(train, held, split_ratio)


def partial_path(directory: Path, split: str) -> Path:
    """The unfinished file of a split."""
    return directory / f"{split}.partial"


def forget_partial(directory: str | Path) -> None:
    """Remove the unfinished files: their questions are where they belong."""
    for split in _SPLITS:
        partial_path(Path(directory), split).unlink(missing_ok=True)


def _source_files(source: Path) -> dict[str, Path]:
    if not source.is_dir():
        return {"train": source}
    names = {"train": "train", "dev": "validation"}
    found: dict[str, Path] = {}
    for path in sorted(source.iterdir()):
        split = names.get(split_name(path.name.partition(".")[0].partition("-")[0]))
        if split and path.suffix.lower() in (".parquet", ".jsonl"):
            found.setdefault(split, path)
    if "train" not in found:
        problem = "no train....parquet or train....jsonl in this folder."
        raise InputError(problem, remedy="Name the files train... and validation..., or give one file.", path=source)
    return found
