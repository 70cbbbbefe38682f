"""Lists of lists of whole numbers as `torch.save` writes them, read without an unpickler.

Torch's safe reader takes a fifth of a second for the keyword lists of 20,000 pairs. Such a file consists of a dozen
kinds of instructions (pickle protocol 2: push a number, begin a list, append), all of which are read here; anything
else, harmful or not, is left to that reader.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from jasper_rag.data.storage.archives import DAMAGED_ARCHIVE

_PROTOCOL, _STOP = 0x80, ord(".")
_EMPTY_LIST, _MARK, _APPEND, _APPENDS = ord("]"), ord("("), ord("a"), ord("e")
_ONE_BYTE, _TWO_BYTES, _FOUR_BYTES, _MANY_BYTES = ord("K"), ord("M"), ord("J"), 0x8A
_REMEMBER, _REMEMBER_FAR, _RECALL, _RECALL_FAR = ord("q"), ord("r"), ord("h"), ord("j")


def read_integer_lists(path: Path) -> list[Any] | None:
    """The lists in a `.pt` file; None if it holds anything else or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return parse_integer_lists(archive.read(names[0])) if len(names) == 1 else None
    except DAMAGED_ARCHIVE:
        return None


def parse_integer_lists(code: bytes) -> list[Any] | None:
    """Build nested lists of whole numbers from their instructions; None at the first unknown one."""
    stack: list[Any] = []
    marks: list[int] = []
    # Keys are bytes as they stand: turning them into numbers would be half of the work.
    memory: dict[bytes, Any] = {}
    at = 0
    try:
        while (kind := code[at]) != _STOP:
            at += 1
            if kind == _ONE_BYTE:
                stack.append(code[at])
                at += 1
            elif kind == _TWO_BYTES:
                stack.append(code[at] | code[at + 1] << 8)
                at += 2
            elif kind == _REMEMBER:
                memory[code[at : at + 1]] = stack[-1]
                at += 1
            elif kind == _REMEMBER_FAR:
                memory[code[at : at + 4]] = stack[-1]
                at += 4
            elif kind == _EMPTY_LIST:
                stack.append([])
            elif kind == _MARK:
                marks.append(len(stack))
            elif kind == _APPENDS:
                mark = marks.pop()
                stack[mark - 1].extend(stack[mark:])
                del stack[mark:]
            elif kind == _APPEND:
                entry = stack.pop()
                stack[-1].append(entry)
            elif kind in (_FOUR_BYTES, _MANY_BYTES):
                size = 4 if kind == _FOUR_BYTES else code[at]
                at += kind == _MANY_BYTES
                stack.append(int.from_bytes(code[at : at + size], "little", signed=True))
                at += size
            elif kind in (_RECALL, _RECALL_FAR):
                size = 1 if kind == _RECALL else 4
                stack.append(memory[code[at : at + size]])
                at += size
            elif kind == _PROTOCOL and code[at] == 2:
                at += 1
            else:
                return None
    except (IndexError, KeyError, AttributeError):
        return None
    return stack[0] if len(stack) == 1 and isinstance(stack[0], list) else None
