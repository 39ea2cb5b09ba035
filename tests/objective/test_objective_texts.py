"""Figures of generated texts against the libraries' own ways, counts by hand, and formulas written down a second time."""

import json
import math
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from ptune.errors import DataError
from ptune.objective import check_text_metrics, text_report, text_units

ascii_text = st.text(st.characters(max_codepoint=126, min_codepoint=9), max_size=40)
english = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "slept"]), min_size=1, max_size=9).map(
    " ".join
)
chinese = st.text(st.sampled_from("今天气很好我们去公园"), min_size=1, max_size=9)


def longest_common(left, right):
    """Length of the longest common subsequence, by recursion on the two ends."""
    if not left or not right:
        return 0
    if left[-1] == right[-1]:
        return 1 + longest_common(left[:-1], right[:-1])
    return max(longest_common(left[:-1], right), longest_common(left, right[:-1]))


def rouge_n(guess, right, size):
    pieces = [Counter(zip(*(units[start:] for start in range(size)), strict=False)) for units in (guess, right)]
    shared = (pieces[0] & pieces[1]).total()
    return 2 * shared / (pieces[0].total() + pieces[1].total()) if shared else 0.0


@given(ascii_text)
def test_units_of_ascii_are_those_of_rouge_score(text):
    from rouge_score.tokenize import tokenize

    assert text_units(text) == tokenize(text, None)


def test_units_of_other_scripts():
    assert text_units("今天GPT-2很好，Café！") == ["今", "天", "gpt", "2", "很", "好", "café"]
    assert text_units("Это — кот.") == ["это", "кот"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(english, st.lists(english, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_rouge_of_english_is_that_of_the_library_alone(rows):
    generated, references = zip(*rows, strict=True)
    report = text_report(generated, references)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    best = [scorer.score_multi(texts, text) for text, texts in rows]
    for kind, figure in (("rouge1", report.rouge_1), ("rouge2", report.rouge_2), ("rougeL", report.score)):
        assert figure == pytest.approx(sum(row[kind].fmeasure for row in best) / len(rows)), kind
    assert report.bleu_tokens == "13a"


@settings(deadline=None, max_examples=40)
@given(chinese, chinese)
def test_rouge_of_chinese_counts_characters(guess, right):
    report = text_report([guess], [[right]])
    assert report.rouge_1 == pytest.approx(rouge_n(guess, right, 1))
    assert report.rouge_2 == pytest.approx(rouge_n(guess, right, 2))
    assert report.score == pytest.approx(2 * longest_common(guess, right) / (len(guess) + len(right)))
    assert report.bleu_tokens == "zh"


def test_bleu_by_hand():
    """7 words against 6: n-grams shared 5/7, 4/6, 3/5, 2/4, nothing for brevity (Papineni et al. 2002)."""
    report = text_report(["the small cat sat on the mat"], [["a cat sat on the mat"]])
    assert report.bleu == pytest.approx(math.exp(sum(map(math.log, (5 / 7, 4 / 6, 3 / 5, 2 / 4))) / 4))
    assert report.exact == 0.0
    short = text_report(["the cat sat on"], [["the cat sat on the mat"]])
    assert short.bleu == pytest.approx(math.exp(1 - 6 / 4))


def test_bleu_of_chinese_cuts_characters():
    """天气很好: 4 of 4 characters, 3 of 3 pairs, ... in a reference of 6, so only brevity counts."""
    report = text_report(["天气很好"], [["今天天气很好"]])
    assert report.bleu == pytest.approx(math.exp(1 - 6 / 4)) and report.bleu_tokens == "zh"
    assert text_report(["ねこがすき"], [["ねこがすき"]]).bleu_tokens == "char"


def test_chrf_by_hand():
    """Popović 2015: characters without spaces, n = 1 to 6, F with recall twice as heavy; `abc` has n up to 3."""
    report = text_report(["abc"], [["abd"]])
    shares = [2 / 3, 1 / 2, 0.0]  # precision and recall are equal, so F is the same
    assert report.chrf == pytest.approx(sum(shares) / 3, abs=1e-6)


def test_the_best_reference_counts_and_rows_may_have_different_numbers():
    report = text_report(["a red cat", "one dog"], [["blue", "a red cat", "a cat"], ["one dog"]])
    assert (report.score, report.exact, report.chrf) == (1.0, 1.0, pytest.approx(1.0))
    again = text_report(["one dog", "a red cat"], [["one dog"], ["a cat", "a red cat", "blue"]])
    assert again.to_dict() == report.to_dict()
    assert report.reference_length == pytest.approx((1 + 3 + 2 + 2) / 4)


def test_distinct_by_hand():
    """7 words, 4 different; 5 pairs, 3 different."""
    report = text_report(["the cat sat", "the cat the cat"], [["x"], ["x"]])
    assert (report.distinct_1, report.distinct_2) == (pytest.approx(3 / 7), pytest.approx(3 / 5))
    assert report.mean_length == 3.5


def test_text_and_json():
    report = text_report(["the cat", ""], [["the cat"], ["a dog"]])
    assert (report.metric, report.score) == ("rouge_l", 0.5)
    assert report.lines()[0].startswith("ROUGE-L 0.500 (ROUGE-1 0.500, ROUGE-2 0.500), BLEU ")
    assert report.lines()[1] == "  distinct-1 1.000, distinct-2 1.000, exact 0.500, length 1.0 (references 2.0)"
    assert str(report) == "\n".join(report.lines())
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    empty = text_report([], [])
    assert (empty.score, empty.bleu, empty.distinct_1, empty.num_rows) == (0.0, 0.0, 0.0, 0)


def test_what_cannot_be_judged(monkeypatch):
    with pytest.raises(DataError, match="1 generated texts for 2 rows"):
        text_report(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="row 2: there is no reference to compare with"):
        text_report(["a", "b"], [["a"], [" "]])
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(DataError, match=r'needs the packages rouge-score and sacrebleu .*\(pip install "ptune\[metrics\]"\)'):
        check_text_metrics()
