"""Byte-pair encoding, learned from the training split by the library `tokenizers`.

Tokens are bytes and merged bytes (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; on bytes as in GPT-2, Radford
et al. 2019). So every text can be encoded and no token is unknown. Merges stay within GPT-2's words: a run of letters,
of digits or of other characters, with the blank before it. Case is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BytePairEncoder"]

_BATCH = 1024
"""Lines that are encoded at a time; the library needs about 100 bytes for each of their tokens."""


@dataclass(frozen=True)
class BytePairEncoder:
    """A `TextEncoder` of bytes and merges.

    Attributes:
        tokenizer: A `tokenizers.Tokenizer`.
        n_reserved: Number of first ids that are not tokens; the next 256 ids are the bytes.
    """

    tokenizer: Any
    n_reserved: int

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, n_reserved: int) -> BytePairEncoder:
        """Learn merges, most frequent pair first, until there are `vocab_size` ids or no pair occurs twice.

        Args:
            texts: Texts of the training split, in any order.
            vocab_size: Largest number of ids, including `n_reserved` and the 256 bytes.
            n_reserved: Number of first ids that are not tokens.
        """
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - n_reserved,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(chain.from_iterable(map(_lines, texts)), trainer)
        return cls(tokenizer, n_reserved)

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size()) + self.n_reserved

    def encode(self, text: str) -> Tensor:  # noqa: D102
        return torch.from_numpy(_join(self._ids(_lines(text))))

    def encode_padded(self, texts: Sequence[str], length: int) -> Tensor:  # noqa: D102
        encoded = np.zeros((len(texts), length), np.int64)
        ids = self._ids(line for text in texts for line in _lines(text))
        for row, text in zip(encoded, texts, strict=True):
            own = _join(islice(ids, len(_lines(text))))[:length]
            row[: len(own)] = own
        return torch.from_numpy(encoded)

    def _ids(self, lines: Iterable[str]) -> Iterator[NDArray[np.int64]]:
        """Yield the ids of each line."""
        rest = iter(lines)
        while batch := list(islice(rest, _BATCH)):
            for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoding.ids, np.int64) + self.n_reserved


def _lines(text: str) -> list[str]:
    """Split a text into lines, with line ends. Any text is learned and encoded line by line."""
    return text.splitlines(keepends=True)


def _join(pieces: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *pieces])
