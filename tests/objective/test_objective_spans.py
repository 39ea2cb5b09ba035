"""Exact match and F1 of answers: values worked out by hand, properties, and both rules derived a second time by brute force."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.errors import DataError
from ptune.objective import answer_scores, span_report, span_rule

words = st.lists(st.sampled_from(["the", "Tower", "of", "a", "London,", "1,000", "an", "tall!", "Anna"]), max_size=6).map(
    " ".join
)
chinese = st.text(st.sampled_from("北京大学，。天 1a"), max_size=7)


def squad_by_the_paper(predicted, answers):
    """Rajpurkar et al. 2016, section 6.1, and 2018 for no answer; without a Counter: shared words are struck off one by one."""

    def bag(text):
        kept = [char for char in text.lower() if not re.match(r"[!-/:-@\[-`{-~]", char)]
        return [word for word in "".join(kept).split() if word not in ("a", "an", "the")]

    answers = [answer for answer in answers if bag(answer)] or [""]
    scores = []
    for answer in answers:
        right, guess = bag(answer), bag(predicted)
        left, shared = list(right), 0
        for word in guess:
            if word in left:
                left.remove(word)
                shared += 1
        if not right or not guess:
            scores.append((right == guess, float(right == guess)))
        elif shared == 0:
            scores.append((False, 0.0))
        else:
            precision, recall = shared / len(guess), shared / len(right)
            scores.append((right == guess, 2 * precision * recall / (precision + recall)))
    return max(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def cmrc_by_brute_force(predicted, answers):
    """Every piece of one list of units looked for in the other; the longest that is found counts."""

    def units(text):
        bare = re.sub(r"[-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』]", "", text.lower().strip())
        return bare, re.findall(r"[一-龥]|[a-z0-9]+", bare)

    answers = [answer for answer in answers if units(answer)[0]] or [""]
    exacts, scores = [], []
    for answer in answers:
        (bare, right), (guess_bare, guess) = units(answer), units(predicted)
        exacts.append(bare == guess_bare)
        pieces = [guess[i:j] for i in range(len(guess)) for j in range(i + 1, len(guess) + 1)]
        found = [piece for piece in pieces if any(right[k : k + len(piece)] == piece for k in range(len(right)))]
        longest = max(map(len, found), default=0)
        if not right or not guess:
            scores.append(float(right == guess))
        else:
            precision, recall = longest / len(guess), longest / len(right)
            scores.append(2 * precision * recall / (precision + recall) if longest else 0.0)
    return max(exacts), max(scores)


@given(words, st.lists(words, max_size=3))
def test_squad_twice_derived(predicted, answers):
    exact, f1 = answer_scores(predicted, answers, rule="squad")
    assert (exact, pytest.approx(f1)) == squad_by_the_paper(predicted, answers)


@given(chinese, st.lists(chinese, max_size=3))
def test_cmrc_twice_derived(predicted, answers):
    exact, f1 = answer_scores(predicted, answers, rule="cmrc")
    assert (exact, pytest.approx(f1)) == cmrc_by_brute_force(predicted, answers)


@given(words | chinese, st.lists(words | chinese, max_size=3), words | chinese, st.sampled_from(["squad", "cmrc"]))
def test_what_holds_for_both(predicted, answers, other, rule):
    exact, f1 = answer_scores(predicted, answers, rule=rule)
    assert 0 <= f1 <= 1 and not (exact and f1 < 1)
    assert answer_scores(predicted, [*answers, predicted], rule=rule)[1] == 1 or answer_scores(predicted, [""], rule=rule)[0]
    assert answer_scores(predicted, answers[::-1], rule=rule) == (exact, f1)
    if answer_scores("", answers, rule=rule)[0] is False:  # there is an answer: another right one never takes away
        more = answer_scores(predicted, [*answers, other], rule=rule)
        assert more[0] >= exact and more[1] >= f1


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("the Tower of London", ["Tower of London!"], True, 1.0),
        ("Tower", ["the Tower of London"], False, 2 * 1 * (1 / 3) / (1 + 1 / 3)),
        ("London, the tower", ["Tower of London"], False, 2 * (2 / 2) * (2 / 3) / (1 + 2 / 3)),
        ("in 1066", ["1066", "the year 1066"], False, 2 / 3),
        ("anthem", ["an anthem"], True, 1.0),
        ("Paris", ["London"], False, 0.0),
        ("London London", ["London"], False, 2 * 0.5 * 1 / 1.5),
        ("", [], True, 1.0),
        ("London", [], False, 0.0),
        ("", ["London"], False, 0.0),
        ("the", [], True, 1.0),
        ("", ["the"], True, 1.0),
        ("U.S.", ["us"], True, 1.0),
    ],
)
def test_squad_by_hand(predicted, answers, exact, f1):
    assert answer_scores(predicted, answers, rule="squad") == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("《天眼》", ["天眼"], True, 1.0),
        ("北京大学", ["大学"], False, 2 * (2 / 4) * (2 / 2) / 1.5),
        ("大北京学", ["北京大学"], False, 2 * (2 / 4) * (2 / 4) / 1.0),  # 北京 in one piece, although all four are shared
        ("1984年3月", ["1984年"], False, 2 * (2 / 4) * 1 / 1.5),  # 1984 is one unit, as are 年, 3 and 月
        ("Windows 95系统", ["windows 95"], False, 2 * (2 / 4) * 1 / 1.5),
        ("3.5米", ["3.5 米"], False, 1.0),  # the space counts for the exact match, not for F1
        ("上海", ["北京", "上海市"], False, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("", [], True, 1.0),
        ("北京", [], False, 0.0),
        ("", ["北京"], False, 0.0),
        ("カナ", ["カ"], False, 2 / 3),
    ],
)
def test_cmrc_by_hand(predicted, answers, exact, f1):
    assert answer_scores(predicted, answers, rule="cmrc") == (exact, pytest.approx(f1))


def test_the_script_picks_the_rule():
    assert span_rule([["北京"], ["the Tower"], ["上海 2"]]) == "cmrc"
    assert span_rule([["the Tower"], [], ["1066"]]) == "squad"
    assert span_report(["北京大"], [["北京"]]).rule == "cmrc"
    assert span_report(["北京大"], [["北京"]], rule="squad").score == 0.0


def test_a_report_by_hand():
    """F1 1, 2/3, 1 (no answer, none given) and 0: mean 2/3; exact 2 of 4."""
    report = span_report(["the Tower", "in 1066", "", "London"], [["Tower"], ["1066"], [], []])
    assert (report.metric, report.rule, report.score) == ("f1", "squad", pytest.approx(2 / 3))
    assert (report.exact, report.num_rows, report.num_answerable) == (0.5, 4, 2)
    assert report.answerable_f1 == pytest.approx(5 / 6) and report.unanswerable_exact == 0.5
    assert report.interval[0] < 0.5 < report.interval[1]
    assert report.lines() == [
        "F1 0.667, exact 0.500 (95 % interval 0.150 to 0.850), 4 rows, by the rules of SQuAD",
        "  with an answer: F1 0.833, 2 rows; without: right 0.500, 2 rows",
    ]
    assert str(report) == "\n".join(report.lines())
    plain = report.to_dict()
    assert json.loads(json.dumps(plain))["metric"] == "f1" and plain["unanswerable_exact"] == 0.5
    always = span_report(["北京"], [["北京"]])
    assert len(always.lines()) == 1 and always.lines()[0].endswith("by the rules of CMRC 2018")
    assert always.unanswerable_exact is None
    empty = span_report([], [])
    assert (empty.score, empty.exact, empty.answerable_f1) == (0.0, 0.0, None)


def test_rows_that_do_not_fit():
    with pytest.raises(DataError, match="1 predicted answers for 2 rows"):
        span_report(["a"], [["a"], ["b"]])
