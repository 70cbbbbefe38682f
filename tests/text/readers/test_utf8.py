from __future__ import annotations

import os
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers import read_retrieval_set


@pytest.mark.parametrize("suffix", [b"", b".csv"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, suffix: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix))
    if suffix:
        path.write_text("text\na\n")
    else:
        path.mkdir()
        (path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"caf.udce9.*: the name is not UTF-8"):
        read_retrieval_set(path)


def test_the_folders_above_may_be_called_anything(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("text")
    assert read_retrieval_set(folder).name == "texts"
