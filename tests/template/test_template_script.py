"""Scripts with and without spaces, and the white space in front of a label word."""

import pytest

from ptune.errors import TemplateError
from ptune.template import Template, dominant_script, leading_space, written_with_spaces


@pytest.mark.parametrize("char", list("aZéßжΩ한אह"))
def test_letters_of_scripts_with_spaces(char: str) -> None:
    assert written_with_spaces(char) is True


@pytest.mark.parametrize("char", list("情あカー々ไກខမཀ。，：「Ａ𠀀"))
def test_letters_and_marks_of_scripts_without_spaces(char: str) -> None:
    assert written_with_spaces(char) is False


@pytest.mark.parametrize("char", list(" \n\u30001٣.,:;!?-\"'()“”…+$😀"))
def test_neutral_characters(char: str) -> None:
    assert written_with_spaces(char) is None


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("It was great", "spaced"),
        ("это хорошо", "spaced"),
        ("정말 좋았다", "spaced"),
        ("很好", "unspaced"),
        ("我买了iPhone手机", "unspaced"),
        ("The film 情 was good", "spaced"),
        ("ดีมาก", "unspaced"),
        ("123 ...！", "none"),
        ("", "none"),
    ],
)
def test_dominant_script(text: str, script: str) -> None:
    assert dominant_script(text) == script


@pytest.mark.parametrize(
    ("source", "word", "space"),
    [
        ("{text} It was {mask}.", "great", " "),
        ("{text} It was{mask}.", "great", " "),
        ("{text} It was: {mask}.", "great", " "),
        ("{text} It was {mask}.", "好", ""),
        ("{text} 总之很{mask}。", "好", ""),
        ("{text} 总之很 {mask}。", "好", ""),
        ("{text} 总之很{mask}。", "good", ""),
        ("{text}情感：{mask}", "积极", ""),
        ("Review: {text}{mask}", "great", " "),
        ("Это было {mask}", "хорошо", " "),
        ("이 영화는 {mask}", "좋다", " "),
        ("Answer:\n{mask}", "yes", ""),
        ("Answer:\n  {mask}", "yes", ""),
        ('It was "{mask}"', "yes", ""),
        ("It was ({mask})", "yes", ""),
        ("他说“{mask}”", "好", ""),
        ("It was “{mask}”", "yes", ""),
        ("Stars: {mask}", "5", " "),
        ("星级：{mask}", "5", ""),
        ("Rate 1-5: {mask}", "5", " "),
        ("It is {mask}", "'s", " "),
        ("{mask} news", "Sports", ""),
        ("{text}{mask}", "great", " "),
        ("{text}{mask}", "好", ""),
        ("{text}{mask}", "5", ""),
        ("{text} {mask}", "5", " "),
        ("{text} {mask}", "好", ""),
        ("{text}{soft:3}{mask}", "great", " "),
        ("{soft:3}{mask}", "great", " "),
        ("{soft:3}{mask}", "好", ""),
        ('{text}{soft:"It was"}{mask}', "great", " "),
        ('{text}{soft:"情感是"}{mask}', "great", ""),
        ("(\n{text}{mask}", "great", " "),
        ("It was {text}{sep}{mask}", "great", ""),
        ("{text}{sep} {mask}", "great", " "),
        ("It was {mask raw}", "好", " "),
        ("It was{mask raw}", "great", ""),
        ("It was\n {mask raw}", "great", " "),
        ("{text}{mask raw}", "great", ""),
        ("{mask raw}", "great", ""),
    ],
)
def test_white_space_in_front_of_a_label_word(source: str, word: str, space: str) -> None:
    assert Template.parse(source).word_prefix(word) == space


def test_leading_space_by_itself() -> None:
    assert leading_space("", "great", left_is_open=False) == ""
    assert leading_space("", "great", left_is_open=True) == " "
    assert leading_space(" ", "great", left_is_open=False) == " "


def test_no_mask_no_word() -> None:
    with pytest.raises(TemplateError, match="no mask"):
        Template.parse("{text}").word_prefix("great")


@pytest.mark.parametrize("source", ["{text} It was {mask}", "Answer:\n{mask}", "{text}{mask raw}", "A \n  {mask raw}"])
def test_hard_text_and_word_make_up_the_prompt_as_written(source: str) -> None:
    template = Template.parse(source)
    hard = "".join(getattr(segment, "text", "") for segment in template.render({"text": "x"}))
    written = source.replace("{text}", "x").replace("{mask raw}", "w").replace("{mask}", "w")
    assert hard + template.word_prefix("w") + "w" == written
