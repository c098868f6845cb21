from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ganno_bench.workloads.fingerprint import Rows, canonical_pixels, fingerprint, hash_row

TEXTS = [f"row {i}" for i in range(1000)]


def rows(texts: list[str]) -> Rows[str]:
    return Rows.of(texts, [len(text) for text in texts])


def test_rows_that_differ_in_anything_have_different_hashes() -> None:
    pixels = np.arange(6, dtype=np.uint8)
    contents = [
        pixels.reshape(2, 3),
        pixels.reshape(3, 2),
        pixels.reshape(1, 2, 3),
        "\x00\x01\x02\x03\x04\x05",
        "",
        "1",
    ]
    hashes = {hash_row(content, label) for content in contents for label in (None, 0, 1, 11)}
    assert len(hashes) == len(contents) * 4


def test_published_fingerprints_stay_valid() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    digest = fingerprint([hash_row("caf\u00e9", 1), hash_row("", 0)], [hash_row(image, 3)], [hash_row("text", None)])
    assert digest == "cc80810d53320eb46cd75a576ee725a2b89ee5e588e6a0186e0fcb424f55cbf8"


def test_a_fingerprint_depends_on_the_splits_but_not_on_the_order_within_them() -> None:
    a, b, c = (hash_row(text, 0) for text in "abc")
    assert fingerprint([a, b], [c]) == fingerprint([b, a], [c])
    assert (
        len({fingerprint([a, b], [c]), fingerprint([a], [b, c]), fingerprint([c], [a, b]), fingerprint([a, b, c])}) == 4
    )


def test_a_row_falls_on_the_same_side_whatever_other_rows_there_are() -> None:
    _, cut = rows(TEXTS).cut(0.2)
    _, cut_of_few = rows(TEXTS[:300]).cut(0.2)
    assert len(cut.inputs) == pytest.approx(200, abs=40)
    assert set(cut_of_few.inputs) == set(cut.inputs) & set(TEXTS[:300])


def test_a_larger_fraction_cuts_off_what_a_smaller_one_does_and_more() -> None:
    (_, small), (_, large) = rows(TEXTS).cut(0.1), rows(TEXTS).cut(0.3)
    assert set(small.inputs) < set(large.inputs)


def test_a_cap_is_not_biased_by_where_a_row_was_cut() -> None:
    everything = rows(TEXTS)
    kept = everything.cap(500)
    assert len(kept.inputs) == 500
    assert list(kept.hashes) == sorted(kept.hashes)
    assert len(kept.cut(0.2)[1].inputs) == pytest.approx(100, abs=30)
    assert set(everything.cap(100).inputs) < set(kept.inputs)
    assert everything.cap(None) is everything.cap(1000) is everything


def test_duplicates_are_kept_with_their_labels() -> None:
    doubled = Rows.of(["b", "a", "b", "a"], [1, 0, 1, 0])
    assert sorted(zip(doubled.inputs, doubled.labels, strict=True)) == [("a", 0), ("a", 0), ("b", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("1", (2, 3)), ("L", (2, 3)), ("LA", (2, 3)), ("P", (2, 3, 3)), ("RGBA", (2, 3, 3)), ("CMYK", (2, 3, 3))],
)
def test_images_become_gray_or_colour(mode: str, shape: tuple[int, ...]) -> None:
    pixels = canonical_pixels(Image.new(mode, (3, 2)))
    assert pixels.dtype == np.uint8
    assert pixels.shape == shape
