"""Canonical rows, which do not depend on file formats; their hashes, cuts and fingerprint.

A row is an image or a text with its label. Its hash depends on decoded pixels or normalised text, and on the label. The
hash decides whether the row goes to the validation split, whether a cap keeps it, and its position. So neither the file
format nor the order of the rows can affect a result. (Lossy image formats such as JPEG are only as reproducible as
their decoder.)
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganno_bench.core.errors import DatasetError

__all__ = ["Pixels", "Rows", "canonical_pixels", "canonical_text", "fingerprint", "hash_row"]

Pixels: TypeAlias = NDArray[np.uint8]
"""Shape (height, width) for mode L, (height, width, 3) for mode RGB."""
C = TypeVar("C", NDArray[np.uint8], str)


def canonical_pixels(image: Image.Image) -> Pixels:
    """Return the pixels of an image: mode L for gray images, RGB for all others; transparency is dropped.

    Raises:
        DatasetError: The image has more than 8 bits per channel.
    """
    if image.mode.startswith(("I", "F")):
        raise DatasetError(f"has images of mode {image.mode!r}; only 8 bits per channel are supported")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def canonical_text(text: str) -> str:
    """Return a text in Unicode normal form C."""
    return unicodedata.normalize("NFC", text)


def hash_row(content: Pixels | str, label: int | None) -> bytes:
    """Return the SHA-256 of a row.

    The hash covers the kind of content, its shape, its bytes and the label. Each part follows its own length, so that
    no two different rows give the same bytes.

    Args:
        content: Canonical pixels or text.
        label: Class index; None for language modelling.
    """
    if isinstance(content, str):
        parts = [b"text", b"", content.encode("utf-8", "surrogatepass")]
    else:
        parts = [b"uint8", str(content.shape).encode(), content.tobytes()]
    parts.append(b"" if label is None else str(label).encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


def fingerprint(*splits: Sequence[bytes]) -> str:
    """Return the fingerprint of splits from the hashes of their rows, in any order: 64 hexadecimal digits."""
    digest = hashlib.sha256(b"ganno-bench dataset 1")
    for hashes in splits:
        digest.update(len(hashes).to_bytes(8, "big") + b"".join(sorted(hashes)))
    return digest.hexdigest()


@dataclass(frozen=True)
class Rows(Generic[C]):
    """Rows of one split, sorted by their hashes. Duplicates are kept.

    Attributes:
        inputs: Canonical pixels or texts.
        labels: Class index of each row.
        hashes: Hash of each row.
    """

    inputs: Sequence[C]
    labels: Sequence[int]
    hashes: Sequence[bytes]

    @classmethod
    def of(cls, inputs: Sequence[C], labels: Sequence[int]) -> Rows[C]:
        """Return rows from their canonical contents, in any order."""
        hashes = [hash_row(content, label) for content, label in zip(inputs, labels, strict=True)]
        return cls(inputs, labels, hashes).take(sorted(range(len(hashes)), key=hashes.__getitem__))

    def take(self, index: Sequence[int]) -> Rows[C]:
        """Return the rows at some positions, in the given order."""
        return Rows([self.inputs[i] for i in index], [self.labels[i] for i in index], [self.hashes[i] for i in index])

    def cut(self, fraction: float) -> tuple[Rows[C], Rows[C]]:
        """Return the rows that stay and the rows that are cut off.

        A row is cut off if its hash, as a fraction of 2^256, is below `fraction`. So the decision depends on no other
        row, and duplicates stay together.
        """
        is_cut = [_as_fraction(digest) < fraction for digest in self.hashes]
        index = range(len(is_cut))
        return self.take([i for i in index if not is_cut[i]]), self.take([i for i in index if is_cut[i]])

    def cap(self, n_rows: int | None) -> Rows[C]:
        """Return at most `n_rows` rows, chosen by a second hash that is independent of cuts."""
        if n_rows is None or n_rows >= len(self.hashes):
            return self
        chosen = sorted(range(len(self.hashes)), key=lambda i: hashlib.sha256(b"cap" + self.hashes[i]).digest())
        return self.take(sorted(chosen[:n_rows]))


def _as_fraction(digest: bytes) -> float:
    return int.from_bytes(digest, "big") / 2**256
