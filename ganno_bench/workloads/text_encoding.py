"""Encode texts as token ids: tokenizers, and vocabularies learned from training data only."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, repeat
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganno_bench.workloads.bpe import BytePairEncoder

__all__ = ["TextEncoder", "Tokenizer", "Vocabulary", "VocabularyEncoder", "first_tokens", "learn_encoder", "tokenize"]

Tokenizer = Literal["char", "word", "bpe"]

_WORD = re.compile(r"\w+|[^\w\s]")
"""A run of letters, digits and underscores, or any other single character except white space."""
_CHARACTERS_PER_TOKEN = 8
"""More than most texts have, including blanks. Texts with more are only read twice."""


def tokenize(text: str, tokenizer: Literal["char", "word"], n_tokens: int | None = None) -> Sequence[str]:
    """Return the tokens of a text: its characters, or its lower-cased words and punctuation marks.

    A word is a run of letters, digits and underscores. A punctuation mark is any other single character except white
    space, which separates tokens.

    Args:
        text: The text.
        tokenizer: Kind of tokens.
        n_tokens: Largest number of tokens, from the first on; None: all.
    """
    if tokenizer == "char":
        return text[:n_tokens]
    if n_tokens is not None:
        words = _words(text[: n_tokens * _CHARACTERS_PER_TOKEN])
        if len(words) > n_tokens:  # then the cut was behind the first n_tokens words
            return words[:n_tokens]
    return _words(text)[:n_tokens]


def first_tokens(text: str, tokenizer: Tokenizer, n_tokens: int | None) -> str:
    """Return the beginning of a text with its first `n_tokens` tokens; all of a shorter text.

    For `bpe`, `n_tokens` counts characters, because the tokens are learned later, from the result.
    """
    if n_tokens is None or tokenizer != "word":
        return text[:n_tokens]
    last = next(islice(_WORD.finditer(text), n_tokens - 1, None), None)
    return text if last is None else text[: last.end()]


@dataclass(frozen=True)
class Vocabulary:
    """Token -> id. The first ids are reserved; the last reserved id is for unknown tokens.

    Attributes:
        ids: The known tokens.
        n_reserved: 1: unknown tokens are 0. 2: padding is 0, unknown tokens are 1.
    """

    ids: dict[str, int]
    n_reserved: int

    @classmethod
    def count(cls, texts: Iterable[Sequence[str]], max_size: int | None, n_reserved: int) -> Vocabulary:
        """Return the vocabulary of tokenized texts, the most frequent token first, ties by code point.

        Args:
            texts: The training split.
            max_size: Largest number of ids, including reserved ids; rarer tokens become unknown.
            n_reserved: Number of reserved ids.
        """
        counts = Counter(chain.from_iterable(texts))
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = ranked if max_size is None else ranked[: max(0, max_size - n_reserved)]
        return cls({token: index for index, token in enumerate(kept, start=n_reserved)}, n_reserved)

    def __len__(self) -> int:
        """Return the number of ids, including reserved ids."""
        return len(self.ids) + self.n_reserved

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of tokens, shape (len(tokens),)."""
        if isinstance(tokens, str):
            return self._of_code_point[np.frombuffer(tokens.encode("utf-32-le", "surrogatepass"), np.uint32)]
        return np.fromiter(map(self.ids.get, tokens, repeat(self.n_reserved - 1)), np.int64, len(tokens))

    @cached_property
    def _of_code_point(self) -> NDArray[np.int64]:
        """Id of each character, for texts with characters as tokens."""
        table = np.full(sys.maxunicode + 1, self.n_reserved - 1)
        for token, index in self.ids.items():
            if len(token) == 1:
                table[ord(token)] = index
        return table


class TextEncoder(Protocol):
    """An encoder from texts to token ids."""

    def __len__(self) -> int:
        """Return the number of ids, including reserved ids."""

    def encode(self, text: str) -> Tensor:
        """Return the ids of a text's tokens, int64, shape (n_tokens,)."""

    def encode_padded(self, texts: Sequence[str], length: int) -> Tensor:
        """Return the ids of each text's first `length` tokens, padded with 0: int64, shape (len(texts), length)."""


@dataclass(frozen=True)
class VocabularyEncoder:
    """A `TextEncoder` that looks tokens up in a vocabulary."""

    tokenizer: Literal["char", "word"]
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:  # noqa: D102
        return torch.from_numpy(self.vocabulary.encode(tokenize(text, self.tokenizer)))

    def encode_padded(self, texts: Sequence[str], length: int) -> Tensor:  # noqa: D102
        encoded = np.zeros((len(texts), length), np.int64)
        for row, text in zip(encoded, texts, strict=True):
            ids = self.vocabulary.encode(tokenize(text, self.tokenizer, length))
            row[: len(ids)] = ids
        return torch.from_numpy(encoded)


def learn_encoder(
    texts: Iterable[str], tokenizer: Tokenizer, vocab_size: int | None, n_reserved: int, n_tokens: int | None = None
) -> TextEncoder:
    """Learn an encoder from texts.

    Args:
        texts: Texts of the training split.
        tokenizer: Kind of tokens.
        vocab_size: Largest number of ids; None: no limit, not allowed for `bpe`.
        n_reserved: Number of first ids that are not tokens.
        n_tokens: Number of tokens of each text that will be encoded; vocabularies count only these.
    """
    if tokenizer == "bpe":
        assert vocab_size is not None
        return BytePairEncoder.train(texts, vocab_size, n_reserved)
    tokens = (tokenize(text, tokenizer, n_tokens) for text in texts)
    return VocabularyEncoder(tokenizer, Vocabulary.count(tokens, vocab_size, n_reserved))


def _words(text: str) -> list[str]:
    # Lowering the whole text is faster but equal only for ASCII: the lower case of a Greek sigma depends on context.
    return _WORD.findall(text.lower()) if text.isascii() else [word.lower() for word in _WORD.findall(text)]
