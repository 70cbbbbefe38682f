"""A question made of a statement: "Copper is a soft metal." -> "What is copper?".

A statement that no rule fits gives a question about its rarest words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_STATEMENT = re.compile(
    r"(?P<subject>[^,;:()\"]{2,60}?)\s+(?P<verb>is|are|was|were|can|could|must|should|may|might|will)\s+(?P<rest>\S.*)",
    re.DOTALL,
)
_NAMING = re.compile(r"(?:a|an|the|one)\b", re.IGNORECASE)
_DONE = re.compile(
    r"(?P<how>[a-z]+(?:ed|wn|lt)|made|built|found|kept|held|bound|bred|cut|fed|laid|lit|sold|spun|taken|given|written)\s+"
    r"(?:about|across|after|along|as|at|because|before|between|by|for|from|in|into|mainly|of|on|so|to|under|when|with)\b"
)
_ACTION = re.compile(r"[a-z]{3,}")
_PRONOUNS = """
    it its they their this these that those there he she we you i his her our your my what which who when where why how
    if while although because since unless as after before then however but and or so both each such in on at for from
    with by to of during another others
"""
_NOT_SUBJECTS = frozenset(_PRONOUNS.split())
_ADVERBS = "not also only still even often never always then thus have therefore both just"
_NOT_ACTIONS = frozenset(_ADVERBS.split())
_LEADING = """
    a an the this these its their his her of by in into on onto from for with without between under over through to at
    as against around and or
"""
_BEFORE_NAMES = frozenset(_LEADING.split())
_MOST_WORDS = 6
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*[^\W_]")
_TOKEN = re.compile(r"[\w'\u2019-]+|[^\w\s]")
_LONGEST_NAME = 2
_TEMPLATES = (
    "How are {0} and {1} related?",
    "What is the link between {0} and {1}?",
    "What connects {0} with {1}?",
    "How do {0} and {1} go together?",
)


def question_of(sentence: str, context: str, common: Collection[str], counts: Mapping[str, int], draw: int) -> str:
    """A question that the sentence answers, or "" where it says too little.

    Args:
        sentence: One statement.
        context: Its document: a word that is written small in it is no name.
        common: Lower-case words that say nothing of the subject.
        counts: Lower-case word -> number of documents that have it.
        draw: Any number; chooses among the templates.
    """
    text = " ".join(sentence.split()).rstrip(".!?\u2026 ")
    return _rewritten(text, context, common) or _about_words(text, common, counts, draw)


def _rewritten(text: str, context: str, common: Collection[str]) -> str:
    found = _STATEMENT.match(text)
    if found is None:
        return ""
    words, verb, rest = found["subject"].split(), found["verb"], found["rest"]
    if len(words) > _MOST_WORDS or words[0].lower() in _NOT_SUBJECTS or not _says(words, common):
        return ""
    if words[0].lower() in common or f" {words[0].lower()}" in context or not _is_name(words[0], context):
        words[0] = words[0] if words[0].isupper() and len(words[0]) > 1 else words[0][0].lower() + words[0][1:]
    subject = " ".join(words)
    if verb in ("is", "are", "was", "were"):
        if _NAMING.match(rest):
            return f"What {verb} {subject}?"
        done = _DONE.match(rest)
        return f"How {verb} {subject} {done['how']}?" if done else ""
    action = _ACTION.match(rest)
    if action is None or action.group() in _NOT_ACTIONS:
        return ""
    return f"What {verb} {subject} {action.group()}?"


def _says(words: list[str], common: Collection[str]) -> bool:
    return any(word.lower() not in common and len(word) > 2 for word in words)


def _is_name(word: str, context: str) -> bool:
    """Say whether the word stands with a capital inside a sentence, too."""
    return re.search(rf"[a-z,;] {re.escape(word)}\b", context) is not None


def _about_words(text: str, common: Collection[str], counts: Mapping[str, int], draw: int) -> str:
    """Ask for what two things of the sentence have to do with each other: the ones with the rarest words."""
    things = _things(text, common)
    rarest = sorted(things, key=lambda thing: (min(counts.get(word, 0) for word in thing.split()), thing))[:2]
    if len(rarest) < 2:
        return ""
    first, second = (thing for thing in things if thing in rarest)
    return _TEMPLATES[draw % len(_TEMPLATES)].format(first, second)


def _things(text: str, common: Collection[str]) -> list[str]:
    """What is probably named, lower case: one or two words at the beginning, or after an article or preposition."""
    things: dict[str, None] = {}
    before = "the"
    name: list[str] = []
    for token in [*_TOKEN.findall(text.lower()), "."]:
        named = _WORD.fullmatch(token) is not None and token not in common and not token.endswith("ly")
        if named and (name or before in _BEFORE_NAMES) and len(name) < _LONGEST_NAME:
            name.append(token)
        elif name:
            things.setdefault(" ".join(name))
            name = []
        before = token
    return list(things)
