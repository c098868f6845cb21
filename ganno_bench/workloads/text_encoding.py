"""Texts -> token ids: two tokenizers, and a vocabulary that is counted on training data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Tokenizer", "Vocabulary", "first_tokens", "tokenize"]

Tokenizer = Literal["char", "word"]

_WORD = re.compile(r"\w+|[^\w\s]")
"""A run of letters, digits and underscores, or any other single character that is no white space."""


def tokenize(text: str, tokenizer: Tokenizer) -> Sequence[str]:
    """Return a text's tokens: its characters, or its lower-cased words and punctuation marks.

    A word is a run of letters, digits and underscores; a punctuation mark is any other single character but white
    space, which separates tokens and is none.
    """
    return text if tokenizer == "char" else [word.lower() for word in _WORD.findall(text)]


def first_tokens(text: str, tokenizer: Tokenizer, n_tokens: int | None) -> str:
    """Return the beginning of a text that has its first `n_tokens` tokens, or all of it where it has no more."""
    if n_tokens is None or tokenizer == "char":
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
        counts: Counter[str] = Counter()
        for tokens in texts:
            counts.update(tokens)
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = ranked if max_size is None else ranked[: max(0, max_size - n_reserved)]
        return cls({token: index for index, token in enumerate(kept, start=n_reserved)}, n_reserved)

    def __len__(self) -> int:
        """Return the number of ids, the reserved ones included."""
        return len(self.ids) + self.n_reserved

    def encode(self, tokens: Sequence[str]) -> Tensor:
        """Return the ids of tokens, int64, shape (len(tokens),)."""
        unknown = self.n_reserved - 1
        return torch.tensor([self.ids.get(token, unknown) for token in tokens], dtype=torch.int64)

    def encode_padded(self, texts: Sequence[Sequence[str]], length: int) -> Tensor:
        """Return the ids of texts of at most `length` tokens, then 0: int64, shape (len(texts), length)."""
        encoded = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, tokens in zip(encoded, texts, strict=True):
            row[: len(tokens)] = self.encode(tokens)
        return encoded
