"""Words of a text: what is the same word, in any script, and what a unit is indexed by."""

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.services.memory.index import analysis
from freehold.services.memory.index.analysis import terms
from freehold.services.memory.ports import Unit


def unit(text: str, speaker: str = "Ana") -> Unit:
    at = datetime(2024, 1, 10, 9, tzinfo=UTC)
    return Unit(id="1", namespaces=("/a/",), strategy_id="turns", text=text, at=at, speaker=speaker)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Boats", "boat"),
        ("did she go", "I went there"),
        ("planning", "planned"),
        ("baking a loaf", "baked loaves"),
        ("carried", "carries"),
        ("studies", "study"),
        ("calling", "called"),
        ("which teeth", "a tooth"),
        ("WON", "win"),
        ("café", "cafe"),
        ("Straße", "STRASSE"),
        ("\ufb01ve \uff11\uff12", "five 12"),
        ("Ana's", "ana"),
        ("don\u2019t sing", "do not sing"),
        ("won't sing", "will sing"),
        ("won\u2019t sing", "do not sing"),
        ("Müller", "Muller"),
    ],
)
def test_two_forms_of_a_word_are_one_term(one: str, other: str) -> None:
    assert set(terms(one)) & set(terms(other)) == set(terms(one)) - {"not"}


@pytest.mark.parametrize("word", ["sing", "thing", "bus", "glass", "red", "need"])
def test_what_only_looks_like_an_ending_stays(word: str) -> None:
    assert terms(word) == [word]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("昨日は東京タワーへ行った", "東京タワー"),
        ("我的猫叫小白", "小白"),
        ("어제 서울에 갔어요", "서울"),
        ("ผมชอบกินข้าวผัด", "ข้าว"),
        ("Она живёт в Москве", "москве"),
        ("मुझे हिन्दी पसंद है", "हिन्दी"),
        ("أحب القهوة كثيرا", "القهوة"),
        ("see you 🎉 there 👍🏽", "🎉"),
    ],
)
def test_every_script_is_found_by_a_part_of_what_was_said(text: str, part: str) -> None:
    assert terms(part)
    assert set(terms(part)) <= set(terms(text))


def test_stop_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert terms("What is the name of your dog?") == ["nam", "dog"]
    assert terms("Who are you?") == ["who", "are", "you"]


@given(st.text(max_size=300))
def test_any_text_has_the_terms_of_its_equals(text: str) -> None:
    found = terms(text)
    assert all(term and len(term) <= 64 for term in found)
    assert terms(text) == found
    decomposed = unicodedata.normalize("NFD", text)
    assert terms(unicodedata.normalize("NFC", decomposed)) == terms(decomposed)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=50))
def test_whatever_has_a_letter_has_a_term(text: str) -> None:
    if any(character.isalnum() for character in text):
        assert terms(text)


def test_a_long_text_is_bounded() -> None:
    assert len(terms("語" * 100_000)) == analysis.TERMS_MAX
    assert terms("a" * 10_000) == ["a" * 64]


def test_a_unit_is_indexed_by_its_words_who_said_it_and_when() -> None:
    found = analysis.unit_terms(unit("We sailed yesterday"))
    assert found[:2] == ["sail", "yesterday"]
    assert {"ana", "@2024-01-10", "@2024-01-09", "january", "2024", "@when"} <= set(found)


def test_a_speaker_that_is_an_id_is_not_embedded() -> None:
    assert analysis.embedded_text("Ana Lima", "Hello") == "Ana Lima: Hello"
    assert analysis.embedded_text("assistant", "Hello") == "assistant: Hello"
    assert analysis.embedded_text("user-4711", "Hello") == "Hello"
    assert analysis.embedded_text("", "Hello") == "Hello"
