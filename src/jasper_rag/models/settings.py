"""What the settings of all models have in common; free of torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from jasper_rag.errors import InputError


class ModelSettings(BaseModel):
    """Settings of a model; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The same as keyword arguments.

        Raises:
            InputError: A key is unknown; the nearest known one is said.
            ValueError: A value is out of range.
        """
        known = list(cls.model_fields)
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key).lower(), known, n=1, cutoff=0.5)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise InputError("unknown key.", field=str(key), remedy=f"{hint}Known here: {', '.join(known)}.")
        return cls.model_validate(dict(values))
