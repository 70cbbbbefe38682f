"""Queries written by a language model behind an OpenAI-compatible address. Nothing is contacted before it is called."""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from jasper_rag.errors import InputError

logger = logging.getLogger(__name__)

KEY_VARIABLES = ("JASPER_GENERATOR_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key, the first one before the second; none is needed for a local server."""

PROMPT = (
    "Write one question that a user who has never seen the following text would type into a search engine and that the "
    "text answers. Do not copy its sentences. Answer with the question alone."
)

_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_CHARACTERS = 6000
_LONGEST_PAUSE = 60.0


class ChatGenerator:
    """Asks a chat model for a query that a document answers: `generator(document) -> query`.

    Args:
        url: Address of the server, of its `/v1`, or of `/v1/chat/completions` itself.
        model: Name of the model, as the server knows it.
        prompt: What the model is told; the document follows.
        tries: Requests before giving up.
        pause: Seconds before the second try; doubled before each further one.
        timeout: Seconds without an answer.

    Raises:
        InputError: No http or https address.
    """

    def __init__(
        self,
        url: str,
        model: str = "default",
        prompt: str = PROMPT,
        *,
        tries: int = 4,
        pause: float = 1.0,
        timeout: float = 60.0,
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise InputError(f"{url!r} is no http or https address.", remedy="Give one such as http://localhost:8000.")
        self.url, self.model, self.prompt = _endpoint(url), model, prompt
        self.tries, self.pause, self.timeout = tries, pause, timeout

    def __call__(self, document: str) -> str:
        """A query that the document answers; "" where the model says nothing.

        Raises:
            InputError: The server cannot be reached, refuses, or answers with something else.
        """
        message = {"role": "user", "content": f"{self.prompt}\n\n{document[:_MOST_CHARACTERS]}"}
        body = {"model": self.model, "messages": [message], "temperature": 0, "max_tokens": 64}
        return _first_line(self._content(self._asked(json.dumps(body).encode())))

    def _asked(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "jasper-rag"}
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        for number in range(self.tries):
            try:
                request = urllib.request.Request(self.url, body, headers)
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    said, code = f"it answered {error.code} {error.reason}", error.code
                if code not in _WORTH_ANOTHER_TRY:
                    raise self._fault(said) from error
            except ValueError as error:
                raise self._fault("it did not answer with JSON") from error
            except (OSError, http.client.HTTPException) as error:
                said = f"it cannot be reached ({error})"
            if number + 1 < self.tries:
                logger.info("%s: %s, trying again", self.url, said)
                time.sleep(min(self.pause * 2**number, _LONGEST_PAUSE))
        raise self._fault(f"{said}, {self.tries} times")

    def _content(self, answer: Any) -> str:
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise self._fault("its answer has no choices[0].message.content") from error
        return content if isinstance(content, str) else ""

    def _fault(self, said: str) -> InputError:
        keys = " or ".join(KEY_VARIABLES)
        return InputError(
            f"the generator {self.url}: {said}.",
            remedy=f"Check the address, the model's name ({self.model!r}) and the key in {keys}.",
            field="generator",
        )


def _endpoint(url: str) -> str:
    url = url.rstrip("/")
    if url.endswith("/chat/completions"):
        return url
    return f"{url}/chat/completions" if url.endswith("/v1") else f"{url}/v1/chat/completions"


def _first_line(content: str) -> str:
    lines = [line.strip().strip("\"'\u201c\u201d").strip() for line in content.splitlines()]
    return next((line for line in lines if line), "")
