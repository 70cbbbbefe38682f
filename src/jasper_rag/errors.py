"""The one error type that means "the input is wrong, and here is how to mend it"."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input from a person: a file, a field, a flag, a value.

    The command line turns it into one message on stderr and exit code 2; a library caller may catch it as
    `ValueError`. The message says what was given, what was expected and how to mend it.

    Args:
        problem: What is wrong, with the offending value.
        remedy: What to do about it; a sentence.
        path: File or directory the problem is in.
        line: 1-based line number in that file.
        field: Name of the field, column or key.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str = "",
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.problem = problem
        self.remedy = remedy
        self.path = None if path is None else Path(path)
        self.line = line
        self.field = field
        super().__init__(self._message())

    def _message(self) -> str:
        place = "" if self.path is None else str(self.path)
        if self.line is not None:
            place += f":{self.line}"
        if self.field is not None:
            place += f" [{self.field}]" if place else f"[{self.field}]"
        message = f"{place}: {self.problem}" if place else self.problem
        return f"{message}\n  {self.remedy}" if self.remedy else message
