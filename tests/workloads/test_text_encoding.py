from __future__ import annotations

import pytest

from ganno_bench.workloads.text_encoding import Tokenizer, Vocabulary, first_tokens, tokenize

TEXT = "Don't  panic:\n\u0130stanbul, caf\u00e9_2 \u65e5\u672c!"


def test_words_are_runs_of_letters_and_digits_and_punctuation_stands_alone() -> None:
    words = ["don", "'", "t", "panic", ":", "\u0130stanbul".lower(), ",", "caf\u00e9_2", "\u65e5\u672c", "!"]
    assert tokenize(TEXT, "word") == words
    assert "".join(tokenize(TEXT, "char")) == TEXT


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_the_first_tokens_of_a_text_are_a_text_with_those_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenize(TEXT, tokenizer)
    for n in range(1, len(tokens) + 3):
        beginning = first_tokens(TEXT, tokenizer, n)
        assert TEXT.startswith(beginning)
        assert tokenize(beginning, tokenizer) == tokens[:n]
    assert first_tokens(TEXT, tokenizer, None) == TEXT


def test_a_vocabulary_is_ranked_by_frequency_and_then_by_code_point() -> None:
    vocabulary = Vocabulary.count([["b", "a", "c"], ["c", "Z"]], max_size=None, n_reserved=2)
    assert vocabulary.ids == {"c": 2, "Z": 3, "a": 4, "b": 5}
    assert len(vocabulary) == 6
    assert vocabulary.encode(["c", "?", "b"]).tolist() == [2, 1, 5]


def test_a_cap_on_the_vocabulary_counts_the_reserved_ids() -> None:
    vocabulary = Vocabulary.count(["aaabbc"], max_size=3, n_reserved=1)
    assert vocabulary.ids == {"a": 1, "b": 2}
    assert len(vocabulary) == 3
    assert vocabulary.encode("abc").tolist() == [1, 2, 0]
