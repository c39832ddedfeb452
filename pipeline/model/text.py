"""The text work of the pipeline: filling prompts, splitting claims, reading answers. No model, no state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MAX_WORDS = 400
"""Words of one mistake. The validator's rouge-l recurses over both texts; about 970 steps abort the whole contest."""

MAX_POINTS = 12
"""Mistakes of one answer that were written freely."""

_FIELD = re.compile(r"\{(\w+)\}")
_SCORE = re.compile(r"response\**\s*:[\s*]*(\d+(?:\.\d+)?|\.\d+)", re.IGNORECASE)
_WORD = re.compile(r"\w+")
# The subnet glues claims with one of: newline(s), tab, one or two spaces, "..." or nothing at all. Lone surrogates
# are a border too, because no answer that holds one can be sent.
_HARD_BORDER = re.compile(r"[\n\r\t\ud800-\udfff]+| {2,}|\.{3,}")
# No "?": a question belongs to the answer that follows it.
_SENTENCE_END = re.compile(r"[.!]+[\"'”’)\]]*(\s*)")
_ABBREVIATION = re.compile(r"(?:\b\w|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|No|Inc|Ltd|Co|Corp|e\.g|i\.e|U\.S))$")
_BULLET = re.compile(r"^\s*(?:[-*•–>]+|\(?\d{1,2}[.):])\s+")
_NOTHING = re.compile(
    r"^\W*(?:none|n/?a|nothing|no (?:missing|mistaken|mistakes?)\b.*|response\W*:.*)\W*$", re.IGNORECASE
)


def as_text(value: object) -> str:
    """`value` as a string; `None` is the empty string."""
    return "" if value is None else str(value)


def sendable(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced: what a tokenizer and UTF-8 accept."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Replaces `{name}` by `fields[name]` in one pass; what a field brings in is never looked at again."""
    return _FIELD.sub(lambda match: fields.get(match[1], match[0]), template)


def cut_middle(text: str, kept: int) -> str:
    """The first and the last half of `kept` characters of `text`, with a mark between; empty for `kept` below 1."""
    if kept < 1:
        return ""
    head = kept // 2
    return f"{text[:head]} [...] {text[len(text) - kept + head :]}"


def split_claims(text: str) -> list[str]:
    """The claims of `text` in order: verbatim pieces, each with a letter or digit and at most `MAX_WORDS` words."""
    pieces = (piece for block in _HARD_BORDER.split(text) for piece in _sentences(block))
    return [_first_words(piece) for piece in pieces if any(char.isalnum() for char in piece)]


def _sentences(block: str) -> list[str]:
    borders = [match.end() for match in _SENTENCE_END.finditer(block) if _ends_sentence(block, match)]
    starts = [0, *borders]
    return [block[start:end].strip() for start, end in zip(starts, [*borders, len(block)])]


def _ends_sentence(block: str, match: re.Match[str]) -> bool:
    """After white space anything but a lower-case letter opens a sentence, without it only a capital does."""
    following = block[match.end() : match.end() + 1]
    opens = not following.islower() if match[1] else following.isupper()
    return opens and not _ABBREVIATION.search(block[max(0, match.start() - 8) : match.start()])


def _first_words(piece: str) -> str:
    spans = list(re.finditer(r"\S+", piece))
    return piece if len(spans) <= MAX_WORDS else piece[: spans[MAX_WORDS - 1].end()]


def parse_score(text: str) -> float | None:
    """The first number after "Response:", brought into [0, 1]; `None` when there is none."""
    match = _SCORE.search(text)
    return None if match is None else min(float(match[1]), 1.0)


def points(lines: Iterable[str]) -> list[str]:
    """Freely written lines as separate points: no bullets, no repeats, no empty talk, one full stop at the end.

    The validator joins the points and splits them at full stops; without one they would count as a single sentence.
    """
    bare = (_BULLET.sub("", sendable(line)).strip() for line in lines)
    told = [line for line in bare if any(char.isalnum() for char in line) and not _NOTHING.match(line)]
    return [f"{_first_words(line).rstrip('.')}." for line in dict.fromkeys(told)][:MAX_POINTS]


def match_claims(lines: Iterable[str], claims: list[str]) -> list[str]:
    """The claims, verbatim and in order, that freely written lines point at: word overlap F1 of at least 0.6."""
    wanted = [_words(line) for line in lines]
    return [claim for claim in dict.fromkeys(claims) if any(_overlap(_words(claim), words) >= 0.6 for words in wanted)]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / max(1, len(one) + len(other))
