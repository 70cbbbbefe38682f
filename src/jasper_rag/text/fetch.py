"""The published sets of the BEIR benchmark by name: downloaded once, checked, unpacked, ready to read."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.file_locks import exclusive
from jasper_rag.text.archives import unpacked
from jasper_rag.text.download import disk_fault, download
from jasper_rag.text.readers.beir import read_beir

logger = logging.getLogger(__name__)

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
"""Where the authors of BEIR (Thakur et al., 2021, arXiv:2104.08663) keep the sets."""

BEIR_MD5: Mapping[str, str] = {
    "msmarco": "444067daf65d982533ea17ebd59501e4",
    "trec-covid": "ce62140cb23feb9becf6270d0d1fe6d1",
    "nfcorpus": "a89dba18a62ef92f7d323ec890a0d38d",
    "nq": "d4d3d2e48787a744b6f6e691ff534307",
    "hotpotqa": "f412724f78b0d91183a0e86805e16114",
    "fiqa": "17918ed23cd04fb15047f73e6c3bd9d9",
    "arguana": "8ad3e3c2a5867cdced806d6503f29b99",
    "webis-touche2020": "46f650ba5a527fc69e0a6521c5a23563",
    "cqadupstack": "4e41456d7df8ee7760a7f866133bda78",
    "quora": "18fb154900ba42a600f84b839c173167",
    "dbpedia-entity": "c2a39eb420a3164af735795df012ac2c",
    "scidocs": "38121350fc3a4d2f48850f6aff52e4a9",
    "fever": "5a818580227bfb4b35bb6fa46d9b6c03",
    "climate-fever": "8b66f0a9126c521bae2bde127b4dc99d",
    "scifact": "5f7d1de60b170fc8027bb7898e2efca1",
}
"""Name of a set -> MD5 of its archive, from the table "Datasets available" in BEIR's wiki."""

LARGE = 1 << 30
"""Bytes of a corpus over which a fetched set is not read for a check: that takes minutes and gigabytes of memory."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def fetch_beir(
    name: str,
    directory: str | Path,
    base_url: str | None = None,
    *,
    folder: str = "",
    sha256: str = "",
    tries: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Fetch `<base_url>/<name>.zip` into `directory/name`, unless the set is there already.

    The download goes on where it was interrupted; the archive is checked (against the published MD5 where it comes
    from `BEIR_URL`, and against `sha256` where given), unpacked beside its place, moved there in one step and then
    read once, unless it is `LARGE`. The archive is removed when the set stands. `cqadupstack` is twelve sets in
    sub-folders.

    Args:
        name: One of `BEIR_MD5`; with a `base_url` of your own, any.
        directory: Where the set's folder goes; created.
        base_url: Another server with archives of the same layout.
        folder: Name of the set's folder in `directory`; `name` by default.
        sha256: Expected digest of the archive.
        tries: See `jasper_rag.text.download.download`, as for the next two.
        pause: Seconds before the second try.
        timeout: Seconds without an answer.

    Returns:
        The set's folder, for `jasper_rag.text.readers.read_retrieval_set`.

    Raises:
        InputError: An unknown name, no connection, a damaged archive, a full disk, a place already taken by
            something else, another process fetching into the same directory, or data that cannot be read.
    """
    _check_name(name, base_url)
    directory = Path(directory)
    target = directory / (folder or name)
    if sets_in(target):
        logger.info("%s is there already: nothing to download", target)
        _read_once(target)
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise InputError(
                "something else than a BEIR set is here.", remedy="Move it, or fetch elsewhere.", path=target
            )
        with _alone(directory):
            archive = directory / f"{name}.zip"
            url = f"{(base_url or BEIR_URL).rstrip('/')}/{name}.zip"
            md5 = "" if base_url else BEIR_MD5[name]
            logger.info("fetching %s into %s", url, target)
            download(url, archive, sha256=sha256, md5=md5, tries=tries, pause=pause, timeout=timeout)
            _install(archive, target)
    except OSError as error:
        raise disk_fault(error, directory) from error
    _read_once(target)
    return target


def _check_name(name: str, base_url: str | None) -> None:
    if base_url is None and name not in BEIR_MD5:
        near = difflib.get_close_matches(name.lower(), BEIR_MD5, n=1, cutoff=0.6)
        raise InputError(
            f"there is no BEIR set {name!r}.",
            remedy=(f"Did you mean {near[0]}? " if near else "") + f"The sets are {', '.join(BEIR_MD5)}.",
        )
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a set's name.", remedy="Use letters, digits, '.', '_' and '-'.")


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory, so that two processes do not write one file."""
    with exclusive(directory, "fetching into this directory"):
        for left in directory.glob(".unpacking-*.tmp"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield


def _install(archive: Path, target: Path) -> None:
    logger.info("unpacking %s", archive)
    try:
        with unpacked(archive, archive.parent) as folder:
            found = sets_in(folder)
            root = folder / archive.stem if len(found) != 1 else found[0]
            if not sets_in(root):
                held = ", ".join(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))[:8])
                raise InputError(
                    f"this archive is no BEIR set; it holds {held or 'nothing'}.",
                    remedy="Expected corpus.jsonl, queries.jsonl and qrels/<split>.tsv. Check the address.",
                    path=archive,
                )
            root.replace(target)
    except InputError:
        archive.unlink(missing_ok=True)  # it would fail for ever
        raise
    archive.unlink()


def sets_in(folder: Path) -> list[Path]:
    """Return the folders with a BEIR set: this one, or else those right below it, sorted."""
    if not folder.is_dir():
        return []
    folders = [folder, *sorted(folder.iterdir())]
    found = [one for one in folders if (one / "corpus.jsonl").is_file() and (one / "queries.jsonl").is_file()]
    return found[:1] if folder in found else found


def _read_once(target: Path) -> None:
    for folder in sets_in(target):
        if (folder / "corpus.jsonl").stat().st_size <= LARGE:
            read = read_beir(folder)
            logger.debug("%s: %d documents, %d queries", folder, len(read.documents), len(read.queries))
