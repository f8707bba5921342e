"""Two texts are the same, nearly the same, or share thirteen words in a row; others are not found."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prose import prose, text

from llara_eval.datasets.same_text import COMMON, GRAM, Index, Item, Kind, jaccard, normalised, words


def hits(test: str, *trained: str) -> list[tuple[int, Kind, float]]:
    index = Index([Item("query", "q", test, test)])
    return [(hit.text, hit.kind, hit.score) for hit in index.find(trained)]


def kinds(test: str, trained: str) -> set[Kind]:
    return {kind for _, kind, _ in hits(test, trained)}


@pytest.mark.parametrize(
    "variant",
    [
        "WHY, OF ALL THINGS, TIDES?",
        "why of all things tides",
        "  Why —\n\tof all “things”…\u00a0tides!!  ",
        "Why, of all things, ti\u00addes?",
        "\uff37\uff48\uff59, of all things, t\u200bides",
    ],
)
def test_case_punctuation_space_and_unicode_forms_make_no_difference(variant):
    assert kinds("Why, of all things, tides?", variant) >= {Kind.EXACT}


def test_composed_letters_ligatures_and_sharp_s_are_what_they_stand_for():
    assert words("Caf\u00e9 \ufb01n STRASSE x\u00b2") == words("CAFE\u0301 fin straße X2")
    assert words("don't re-read a_b") == ["don", "t", "re", "read", "a", "b"]
    assert words("हिन्दी") == ["हिन्दी"], "vowel signs are part of a word"
    assert words(" …\u200b!?\ud800") == []
    assert normalised("Why — of  ALL things,\ttides?") == "why of all things tides"


def test_other_words_or_another_order_are_not_exact():
    assert kinds("tides rise", "tides rose") == set()
    assert kinds("tides rise", "rise tides") == set()
    assert kinds("tides rise", "tidesrise") == set()


def replaced(count: int, length: int) -> tuple[str, str]:
    """Return two texts; in the second, ``count`` words are new, none of them next to another."""
    one = [f"w{number}" for number in range(length)]
    other = [f"new{i}" if i % 3 == 1 and i < 3 * count else word for i, word in enumerate(one)]
    return " ".join(one), " ".join(other)


@pytest.mark.parametrize(
    ("count", "length", "index", "near"),
    [(4, 101, 92 / 108, True), (7, 101, 86 / 114, False), (1, 19, 16 / 20, True), (1, 18, 15 / 19, False)],
)
def test_near_duplicates_are_those_at_jaccard_four_fifths(count, length, index, near):
    one, other = replaced(count, length)
    assert jaccard(words(one), words(other)) == pytest.approx(index)
    scores = [score for _, kind, score in hits(one, other) if kind == Kind.NEAR]
    assert scores == ([pytest.approx(index)] if near else [])


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not():
    test = prose(1, 40)
    for shared, expected in ((GRAM, {Kind.GRAM}), (GRAM - 1, set())):
        for start in (0, 11, 40 - shared):
            trained = [*prose(2, 50), *test[start : start + shared], *prose(3, 50)]
            assert kinds(" ".join(test), " ".join(trained)) == expected
    ((_, _, share),) = hits(" ".join(test), " ".join([*prose(4, 9), *test[:20], *prose(5, 30)]))
    assert share == pytest.approx(8 / 28)


def test_words_in_a_row_do_not_go_on_in_the_next_text():
    test = prose(1, 40)
    assert hits(" ".join(test), " ".join(test[:7]), " ".join(test[7:14])) == []


def test_a_short_text_is_found_only_whole():
    assert kinds("what causes tides", "we ask what causes tides and who knows") == set()
    assert kinds("what causes tides", "what causes tides") == {Kind.EXACT, Kind.NEAR}
    assert kinds("tides", "TIDES!") == {Kind.EXACT}
    assert kinds(" ".join(prose(1, 12)), " ".join([*prose(1, 12), *prose(2, 60)])) == set()


@pytest.mark.parametrize("nothing", ["", " \n", "\u200b"])
def test_an_empty_text_matches_nothing(nothing):
    assert normalised(nothing) == ""
    assert hits(nothing, nothing, "tides") == []
    assert hits("tides", nothing) == []


def test_a_text_without_words_is_its_symbols():
    assert kinds("?! …", "?!...") == {Kind.EXACT}
    assert kinds("?!", "!?") == kinds("?!", "tides?!") == kinds("tides?!", "?!") == set()


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_index_calls_exact_what_is_the_same_text(one, other):
    for trained in (one, other, f"«{one.swapcase().swapcase()}»", one.upper().lower()):
        same = normalised(one) == normalised(trained) != ""
        assert (Kind.EXACT in kinds(one, trained)) == same


@pytest.mark.parametrize(("copies", "expected"), [(COMMON, COMMON), (COMMON + 1, 0)])
def test_a_formula_that_many_test_texts_share_is_no_sign_of_anything(copies, expected):
    formula = prose(0, GRAM)
    index = Index(
        Item("judged", str(number), body, body)
        for number in range(copies)
        for body in [" ".join([*prose(100 + number, 40), *formula])]
    )
    assert len(list(index.find([" ".join([*formula, *prose(99, 40)])]))) == expected


def test_texts_on_the_same_subject_in_the_same_words_are_no_matches():
    index = Index(Item("other", str(seed), text(seed, 120), text(seed, 120)) for seed in range(200))
    assert list(index.find([text(1_000 + seed, 120) for seed in range(2_000)])) == []


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=30),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=30),
)
def test_the_index_finds_what_the_definitions_say(one, other):
    def grams(of: Sequence[str]) -> set[tuple[str, ...]]:
        return {tuple(of[start : start + GRAM]) for start in range(len(of) - GRAM + 1)}

    assume(one and other)
    expected = {}
    if one == other:
        expected[Kind.EXACT] = 1.0
    if jaccard(one, other) >= 0.8:
        expected[Kind.NEAR] = jaccard(one, other)
    if grams(one) & grams(other):
        expected[Kind.GRAM] = len(grams(one) & grams(other)) / len(grams(one))
    # The index misses one pair in 5,000 at the threshold; with so few word pairs, it misses none.
    assert {kind: score for _, kind, score in hits(" ".join(one), " ".join(other))} == pytest.approx(expected)


@given(st.text(max_size=40))
def test_words_do_not_depend_on_case_or_surroundings(value):
    folded = words(value)
    assert all(word and not word.isspace() for word in folded)
    assert words(f"({value})!") == folded
    assert words(" ".join(folded)) == folded
