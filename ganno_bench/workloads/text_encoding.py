"""Texts -> token ids: tokenizers, and what is learned for them from training data alone."""

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
"""A run of letters, digits and underscores, or any other single character that is no white space."""
_CHARACTERS_PER_TOKEN = 8
"""More than most texts have, blanks included; that others are read twice is all that hangs on it."""


def tokenize(text: str, tokenizer: Literal["char", "word"], n_tokens: int | None = None) -> Sequence[str]:
    """Return a text's tokens: its characters, or its lower-cased words and punctuation marks.

    A word is a run of letters, digits and underscores; a punctuation mark is any other single character but white
    space, which separates tokens and is none.

    Args:
        text: The text.
        tokenizer: Which tokens.
        n_tokens: Return the first ones, at most so many; None: all.
    """
    if tokenizer == "char":
        return text[:n_tokens]
    if n_tokens is not None:
        words = _words(text[: n_tokens * _CHARACTERS_PER_TOKEN])
        if len(words) > n_tokens:  # then only a word behind them can have been cut
            return words[:n_tokens]
    return _words(text)[:n_tokens]


def first_tokens(text: str, tokenizer: Tokenizer, n_tokens: int | None) -> str:
    """Return the beginning of a text that has its first `n_tokens` tokens, or all of it where it has no more.

    For `bpe`, whose tokens are learned from what is left, it is that many characters.
    """
    if n_tokens is None or tokenizer != "word":
        return text[:n_tokens]
    last = next(islice(_WORD.finditer(text), n_tokens - 1, None), None)
    return text if last is None else text[: last.end()]


@dataclass(frozen=True)
class Vocabulary:
    """Token -> id. The first ids are reserved, the last reserved one for unknown tokens.

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
            max_size: Largest number of ids, the reserved ones included; rarer tokens become unknown.
            n_reserved: How many ids stand for no token of their own.
        """
        counts = Counter(chain.from_iterable(texts))
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = ranked if max_size is None else ranked[: max(0, max_size - n_reserved)]
        return cls({token: index for index, token in enumerate(kept, start=n_reserved)}, n_reserved)

    def __len__(self) -> int:
        """Return the number of ids, the reserved ones included."""
        return len(self.ids) + self.n_reserved

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of tokens, shape (len(tokens),)."""
        if isinstance(tokens, str):
            return self._of_code_point[np.frombuffer(tokens.encode("utf-32-le", "surrogatepass"), np.uint32)]
        return np.fromiter(map(self.ids.get, tokens, repeat(self.n_reserved - 1)), np.int64, len(tokens))

    @cached_property
    def _of_code_point(self) -> NDArray[np.int64]:
        """Id of each character, for texts whose tokens are characters."""
        table = np.full(sys.maxunicode + 1, self.n_reserved - 1)
        for token, index in self.ids.items():
            if len(token) == 1:
                table[ord(token)] = index
        return table


class TextEncoder(Protocol):
    """What turns texts into token ids."""

    def __len__(self) -> int:
        """Return the number of ids, the reserved ones included."""

    def encode(self, text: str) -> Tensor:
        """Return the ids of a text's tokens, int64, shape (n_tokens,)."""

    def encode_padded(self, texts: Sequence[str], length: int) -> Tensor:
        """Return the ids of each text's first `length` tokens, then 0: int64, shape (len(texts), length)."""


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
    """Return an encoder that knows the tokens of texts.

    Args:
        texts: The training split.
        tokenizer: Which tokens.
        vocab_size: Largest number of ids; None, except for `bpe`: as many as there are tokens.
        n_reserved: How many of the first ids stand for no token of their own.
        n_tokens: How many tokens of each text will be encoded; a vocabulary is counted on those.
    """
    if tokenizer == "bpe":
        assert vocab_size is not None
        return BytePairEncoder.train(texts, vocab_size, n_reserved)
    tokens = (tokenize(text, tokenizer, n_tokens) for text in texts)
    return VocabularyEncoder(tokenizer, Vocabulary.count(tokens, vocab_size, n_reserved))


def _words(text: str) -> list[str]:
    # To lower a whole text is faster, but the same in ASCII alone: a Greek sigma looks at its neighbours.
    return _WORD.findall(text.lower()) if text.isascii() else [word.lower() for word in _WORD.findall(text)]
