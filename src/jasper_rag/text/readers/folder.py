"""Plain text: one file with many documents, or a folder with one document per file."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import Document, RetrievalSet

logger = logging.getLogger(__name__)

MARKDOWN = (".md", ".markdown")
TEXT_SUFFIXES = (".txt", *MARKDOWN)
_HEADING = re.compile(r"#{1,6}[ \t]+(\S.*?)[ \t#]*")
_FENCE = ("```", "~~~")

_Line = tuple[int, str, bool]
"""Line number, line without its end, whether it stands inside a fenced code block."""


def read_text_file(path: str | Path, name: str | None = None) -> RetrievalSet:
    """Read many documents from one file; a document's id is the number of its first line.

    The rule: where a blank line stands between two texts, every block between blank lines is a document, its
    lines joined by blanks; otherwise every line is one. In Markdown the blocks keep their line breaks, code fences
    are not cut, and a heading is no document but the title of those below it.

    Args:
        path: A `.txt` or `.md` file.
        name: Name of the set; the file's stem by default.

    Raises:
        InputError: The file is missing, not UTF-8 or has no text.
    """
    path = Path(path)
    markdown = path.suffix.lower() in MARKDOWN
    lines = list(_lines(path, markdown))
    blocks = list(_blocks(lines))
    if not blocks:
        raise InputError("this file has no text.", remedy="Write one document per line or paragraph.", path=path)
    if markdown:
        documents = tuple(_markdown_documents(blocks))
    elif len(blocks) > 1:
        documents = tuple(
            Document(str(block[0][0]), " ".join(text.strip() for _, text, _ in block)) for block in blocks
        )
    else:
        documents = tuple(Document(str(number), text.strip()) for number, text, _ in blocks[0])
    if not documents:
        raise InputError("this file has headings only.", remedy="Write text below them.", path=path)
    return RetrievalSet(name or path.stem, documents, ())


def read_text_folder(directory: str | Path, name: str | None = None) -> RetrievalSet:
    """Read a folder of `.txt` and `.md` files, sub-folders included, one document each, in a fixed order.

    A document's id is its path inside the folder, its title the first Markdown heading or else the file's stem,
    its topic the first sub-folder. Hidden files and folders are left out; files without text are left out with a
    warning.

    Args:
        directory: The folder.
        name: Name of the set; the folder's name by default.

    Raises:
        InputError: A file cannot be read, or no file has text.
    """
    directory = Path(directory)
    documents = []
    empty = []
    for path in text_files(directory):
        document = _file_document(path, directory)
        if document is None:
            empty.append(path.name)
        else:
            documents.append(document)
    if empty:
        logger.warning("%s: %d files without text left out, the first is %s", directory, len(empty), empty[0])
    if not documents:
        suffixes = ", ".join(TEXT_SUFFIXES)
        raise InputError("no text file with text in this folder.", remedy=f"Put {suffixes} in it.", path=directory)
    return RetrievalSet(name or directory.resolve().name, tuple(documents), ())


def text_files(directory: Path) -> Iterator[Path]:
    """Yield the folder's text files, hidden ones left out, in a fixed order (of their paths' parts)."""
    for folder, below, files in os.walk(directory):
        below[:] = sorted(one for one in below if not one.startswith("."))
        for file in sorted(files):
            if file.lower().endswith(TEXT_SUFFIXES) and not file.startswith("."):
                yield Path(folder) / file


def _file_document(path: Path, root: Path) -> Document | None:
    relative = path.relative_to(root)
    try:
        identifier = relative.as_posix()
        identifier.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("the file's name is not UTF-8.", remedy="Rename it.", path=repr(str(path))) from error
    lines = list(_lines(path, path.suffix.lower() in MARKDOWN))
    visible = [position for position, (_, text, _) in enumerate(lines) if text.strip()]
    if not visible:
        return None
    title, at = path.stem, -1
    if path.suffix.lower() in MARKDOWN:
        title, at = _first_heading(lines) or (title, at)
    # A heading on top would be read twice: as the title and again at the start of the text.
    body = lines[at + 1 :] if at == visible[0] else lines
    text = "\n".join(line for _, line, _ in body).strip()
    return Document(identifier, text, title, topic=relative.parts[0] if len(relative.parts) > 1 else "")


def _lines(path: Path, markdown: bool) -> Iterator[_Line]:
    fence = ""
    for number, line in utf8_lines(path):
        text = line.rstrip("\r\n")
        mark = text.lstrip()[:3]
        edge = markdown and mark in _FENCE and fence in ("", mark)
        yield number, text, bool(fence) or edge
        if edge:
            fence = "" if fence else mark


def _blocks(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    block: list[_Line] = []
    for line in lines:
        if line[1].strip() or (line[2] and block):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _heading(line: _Line) -> str:
    match = None if line[2] else _HEADING.fullmatch(line[1].strip())
    return match.group(1) if match else ""


def _first_heading(lines: Sequence[_Line]) -> tuple[str, int] | None:
    return next(((title, at) for at, line in enumerate(lines) if (title := _heading(line))), None)


def _markdown_documents(blocks: Sequence[Sequence[_Line]]) -> Iterator[Document]:
    title = ""
    for block in blocks:
        body: list[_Line] = []
        for line in block:
            heading = _heading(line)
            if heading:
                yield from _section(body, title)
                title, body = heading, []
            else:
                body.append(line)
        yield from _section(body, title)


def _section(body: Sequence[_Line], title: str) -> Iterator[Document]:
    if body:
        yield Document(str(body[0][0]), "\n".join(text for _, text, _ in body).strip(), title)
