from __future__ import annotations

from typing import Literal

import pytest
import torch

from ganno_bench.workloads.text_encoding import Vocabulary, VocabularyEncoder, first_tokens, learn_encoder, tokenize

TEXT = "Don't  panic:\n\u0130stanbul, caf\u00e9_2 \u65e5\u672c!"


def test_words_are_runs_of_letters_and_digits_and_punctuation_stands_alone() -> None:
    words = ["don", "'", "t", "panic", ":", "\u0130stanbul".lower(), ",", "caf\u00e9_2", "\u65e5\u672c", "!"]
    assert tokenize(TEXT, "word") == words
    assert "".join(tokenize(TEXT, "char")) == TEXT


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_the_first_tokens_of_a_text_are_a_text_with_those_tokens(tokenizer: Literal["char", "word"]) -> None:
    tokens = tokenize(TEXT, tokenizer)
    for n in range(1, len(tokens) + 3):
        beginning = first_tokens(TEXT, tokenizer, n)
        assert TEXT.startswith(beginning)
        assert tokenize(beginning, tokenizer) == tokenize(TEXT, tokenizer, n) == tokens[:n]
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


def test_the_first_tokens_of_a_text_are_the_same_however_long_its_words_and_blanks_are() -> None:
    text = f"{'a' * 40} b{' ' * 60}C, {'d' * 40} \u03a3\u03a5\u03a3 e"
    tokens = tokenize(text, "word")
    assert tokens == ["a" * 40, "b", "c", ",", "d" * 40, "\u03c3\u03c5\u03c2", "e"]
    for n in range(1, 9):
        assert tokenize(text, "word", n) == tokens[:n]


def test_each_word_is_lowered_by_itself_whatever_else_the_text_has() -> None:
    # The lower case of a Greek sigma depends on the end of the word, which the tokenizer determines.
    assert tokenize("\u039f\u03a3'\u0391 ABC", "word") == ["\u03bf\u03c2", "'", "\u03b1", "abc"]


@pytest.mark.parametrize("n_reserved", [1, 2])
def test_characters_and_their_list_have_the_same_ids(n_reserved: int) -> None:
    vocabulary = Vocabulary.count([TEXT], max_size=None, n_reserved=n_reserved)
    text = TEXT + "?\U0001f600\ud800"
    assert vocabulary.encode(text).tolist() == vocabulary.encode(list(text)).tolist()
    assert vocabulary.encode(text)[-3:].tolist() == [n_reserved - 1] * 3
    assert vocabulary.encode("").tolist() == []


def test_a_vocabulary_is_counted_on_what_will_be_encoded() -> None:
    encoder = learn_encoder(["a b c", "a B d"], "word", None, n_reserved=2, n_tokens=2)
    assert isinstance(encoder, VocabularyEncoder)
    assert encoder.vocabulary.ids == {"a": 2, "b": 3}
    padded = encoder.encode_padded(["b", "a c b"], 2)
    assert padded.dtype == torch.int64
    assert padded.tolist() == [[3, 0], [2, 1]]
    assert encoder.encode("a c b").tolist() == [2, 1, 3]
