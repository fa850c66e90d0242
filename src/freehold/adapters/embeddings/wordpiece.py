"""Words into the pieces that BERT-like models read: the uncased WordPiece of BERT.

The tests check it against the `tokenizers` library, which would bring a client of the model hub
with it.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_WORD_CHARACTERS_MAX = 100
"""As BERT has it: a longer word is [UNK]."""
_KNOWN_WORDS_MAX = 50_000
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    def __init__(self, vocabulary: Path, *, tokens_max: int = 256) -> None:
        """`vocabulary` has one piece on each line; `tokens_max` includes [CLS] and [SEP]."""
        pieces = vocabulary.read_text(encoding="utf-8").splitlines()
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._unknown = self._ids["[UNK]"]
        self._begin, self._end = self._ids["[CLS]"], self._ids["[SEP]"]
        self._tokens_max = tokens_max
        self._known: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str) -> list[int]:
        """With [CLS] and [SEP], cut to `tokens_max`."""
        room = self._tokens_max - 2
        found: list[int] = []
        for word in _words(text):
            found.extend(self._known.get(word) or self._learn(word))
            if len(found) >= room:
                break
        return [self._begin, *found[:room], self._end]

    def _learn(self, word: str) -> tuple[int, ...]:
        pieces = self._split(word)
        if len(self._known) >= _KNOWN_WORDS_MAX:
            self._known.clear()
        self._known[word] = pieces
        return pieces

    def _split(self, word: str) -> tuple[int, ...]:
        """The longest known piece from the left, again and again."""
        if len(word) > _WORD_CHARACTERS_MAX:
            return (self._unknown,)
        found = []
        start = 0
        while start < len(word):
            lead = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self._ids.get(lead + word[start:end])
                if piece is not None:
                    break
            else:
                return (self._unknown,)
            found.append(piece)
            start = end
        return tuple(found)


def _words(text: str) -> Iterator[str]:
    if text.isascii():
        yield from _ASCII_WORDS.findall(_ASCII_CONTROL.sub("", text).lower())
        return
    plain = unicodedata.normalize("NFD", "".join(map(_cleaned, text)))
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn").lower()
    for run in plain.split():
        start = 0
        for at, character in enumerate(run):
            if _is_punctuation(character):
                if at > start:
                    yield run[start:at]
                yield character
                start = at + 1
        if start < len(run):
            yield run[start:]


def _cleaned(character: str) -> str:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category[0] == "C" or character == "\ufffd":
        return ""
    if category == "Zs":
        return " "
    code = ord(character)
    if any(low <= code <= high for low, high in _IDEOGRAPHS):
        return f" {character} "
    return character


def _is_punctuation(character: str) -> bool:
    # BERT takes all of ASCII that is neither letter, digit nor space; `$` and `^` too.
    if character.isascii():
        return not character.isalnum()
    return unicodedata.category(character)[0] == "P"
