"""From rendered rows to tokens: what belongs to which field, what is shortened, and what never is."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ptune.errors import BackboneError, TemplateError
from ptune.inputs import Encoded, Tokens, encode, soft_layout
from ptune.model import PromptModel
from ptune.template import Template
from tiny import DECODERS, ENCODERS, KINDS, example, tiny_backbone, tiny_tokenizer

LABELS = {"yes": "great", "no": "bad"}


def encoded(
    kind: str, template: str, max_length: int = 64, num_answer_tokens: int = 1, lead: int = 0, **fields: Any
) -> Encoded:
    parsed, tokens = Template.parse(template), tiny_backbone(kind).tokens
    layout = soft_layout(parsed, tokens)
    return encode(parsed.render(fields), tokens, layout, max_length=max_length, num_answer_tokens=num_answer_tokens, lead=lead)


def words_of(kind: str, row: Encoded, owner: str) -> str:
    return tiny_tokenizer(kind).decode([index for index, name in zip(row.ids, row.owner, strict=True) if name == owner])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_tokenised_as_one_text(kind: str) -> None:
    """Where a template is cut into pieces never changes its tokens, and special tokens frame it as the tokenizer does."""
    tokens = tiny_backbone(kind).tokens
    row = encoded(kind, "{a} and{b} . {c}{mask}", a="The film", b=" terrible", c="这部电影很好")
    text = "The film andterrible . 这部电影很好"
    middle = tokens.ids(text)
    assert row.ids == (*tokens.start_ids, *middle, *tokens.end_ids)
    assert row.slot == len(tokens.start_ids) + len(middle)
    assert not row.num_cut and all(soft == -1 for soft in row.soft)
    whole = tiny_tokenizer(kind)(text)["input_ids"]
    expected = (0, *whole) if kind == "gpt2" else tuple(whole)  # a causal text needs a first token to read
    assert row.ids == expected


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_dealt_to_fields_by_their_characters(kind: str) -> None:
    row = encoded(kind, "Topic : {first} news {second} is{mask}", first="very good", second="这部")
    squeezed = {owner: words_of(kind, row, owner).replace(" ", "").lower() for owner in ("first", "second", "")}
    assert squeezed["first"] == "verygood"
    assert "这部" in squeezed["second"] and len(squeezed["second"]) <= 2
    assert squeezed[""] == "topic:newsis"


@pytest.mark.parametrize("kind", KINDS)
def test_the_short_field_of_a_pair_keeps_its_tokens(kind: str) -> None:
    row = encoded(kind, "{a} and {b} .{mask}", max_length=20, a="good " * 30, b="bad day")
    assert len(row) + 1 == 20 and row.num_cut > 0
    assert words_of(kind, row, "b").strip() == "bad day"
    assert words_of(kind, row, "").replace(" ", "") == "and."


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["tail", "head"])
def test_trim_names_the_end_that_goes(kind: str, side: str) -> None:
    text = "great " + "good " * 30 + "bad"
    row = encoded(kind, f"{{text trim={side}}} It was{{mask}}", max_length=16, text=text)
    kept = words_of(kind, row, "text").split()
    assert (kept[0], kept[-1]) == (("great", "good") if side == "tail" else ("good", "bad"))
    limited = encoded(kind, f"{{text max=3 trim={side}}} It was{{mask}}", text=text)
    assert limited.owner.count("text") == 3 and limited.num_cut == 0
    assert ("great" in words_of(kind, limited, "text")) == (side == "tail")


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_shortened_is_an_error_with_the_lengths(kind: str) -> None:
    with pytest.raises(TemplateError, match=r"9 learned and \d+ other fixed tokens do not fit into 12 positions"):
        encoded(kind, "{soft:4} It was{soft:5} good and bad{mask}", max_length=12)
    with pytest.raises(TemplateError) as caught:
        PromptModel.build(backbone=tiny_backbone(kind), template="{soft:60} {text}{mask}", labels=LABELS, max_length=16).encode(
            example("good")
        )
    assert "60 learned" in str(caught.value) and "16 positions" in str(caught.value)


def test_the_row_is_named_in_the_error() -> None:
    model = PromptModel.build(backbone=tiny_backbone("bert"), template="{text}{soft:9}{mask}", labels=LABELS, max_length=8)
    row = example("good")
    object.__setattr__(row, "where", "train.jsonl:12")
    with pytest.raises(TemplateError, match=r"^train\.jsonl:12, template: 9 learned"):
        model.encode(row)


@settings(max_examples=60, deadline=None, derandomize=True)
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "gemma3", "t5"])
@given(
    text=st.text(alphabet="goatbd rei好喜欢，.🙂\n", max_size=120),
    other=st.text(alphabet="great bad差", max_size=60),
    max_length=st.integers(min_value=8, max_value=40),
    template=st.sampled_from(
        [
            "{text}{soft:2} It was{mask}",
            "{mask}{soft:3} {text} . {other}",
            "{soft:1 id=a} {text trim=head}{soft:1 id=a}{other}{mask} .",
            "{soft:2} {text max=5} and {other}{mask}{soft:1}",
        ]
    ),
    num_answer_tokens=st.integers(min_value=1, max_value=4),
)
def test_shortening_never_drops_the_answer_or_learned_tokens(
    kind: str, text: str, other: str, max_length: int, template: str, num_answer_tokens: int
) -> None:
    tokens = tiny_backbone(kind).tokens
    parsed = Template.parse(template)
    assume(not (kind in DECODERS and template.startswith("{mask}") and not tokens.start_ids))
    layout = soft_layout(parsed, tokens)
    whole = encode(parsed.render({"text": text, "other": other}), tokens, layout, max_length=10_000)
    try:
        row = encoded(kind, template, max_length, num_answer_tokens, text=text, other=other)
    except TemplateError as error:
        assert "do not fit" in str(error)
        fixed = sum(owner not in ("text", "other") for owner in whole.owner)
        assert fixed + num_answer_tokens > max_length, "an error only where the fixed part alone is too long"
        return
    assert len(row) + num_answer_tokens <= max_length
    assert len(row.ids) == len(row.soft) == len(row.owner)
    assert [soft for soft in row.soft if soft >= 0] == [soft for soft in whole.soft if soft >= 0]
    fixed_part = [(i, o) for i, o in zip(row.ids, row.owner, strict=True) if o not in ("text", "other")]
    assert fixed_part == [(i, o) for i, o in zip(whole.ids, whole.owner, strict=True) if o not in ("text", "other")]
    assert row.slot is not None and row.num_cut == max(0, len(whole) + num_answer_tokens - max_length)
    before = [owner for owner in row.owner[: row.slot] if owner not in ("text", "other")]
    assert before == [owner for owner in whole.owner[: whole.slot] if owner not in ("text", "other")]
    for name in ("text", "other"):
        mine, all_of_it = ([i for i, o in zip(r.ids, r.owner, strict=True) if o == name] for r in (row, whole))
        from_head = all_of_it[len(all_of_it) - len(mine) :]
        assert mine == (from_head if name == "text" and "trim=head" in template else all_of_it[: len(mine)])


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_users_text_stay_plain(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    special = set(tokens.tokenizer.all_special_ids) - {tokens.tokenizer.unk_token_id}
    text = "good " + " ".join(map(str, tokens.tokenizer.all_special_tokens)) + " bad"
    row = encoded(kind, "{text} It was{mask}", max_length=500, text=text)
    from_text = [index for index, owner in zip(row.ids, row.owner, strict=True) if owner == "text"]
    if kind == "gpt2":  # its unknown token is <|endoftext|> too
        special = {0}
    assert not special & set(from_text)
    assert not special & set(tokens.ids(text))
    squeezed = tokens.tokenizer.decode(from_text, skip_special_tokens=False).replace(" ", "")
    assert squeezed.startswith("good") and squeezed.endswith("bad")


@pytest.mark.parametrize(("placement", "expected"), [("front", [0, 1, 2]), ("after-bos", [1, 2, 3])])
@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_the_two_placements_of_prompt_tuning(kind: str, placement: str, expected: list[int]) -> None:
    model = PromptModel.build(
        backbone=tiny_backbone(kind),
        template="{text} It was{mask}",
        labels=LABELS,
        method={"name": "prompt-tuning", "num_tokens": 3, "placement": placement},
    )
    row = model.encode(example("good"))
    assert [at for at, soft in enumerate(row.soft) if soft >= 0] == expected
    hard = [index for index, soft in zip(row.ids, row.soft, strict=True) if soft < 0]
    assert tuple(hard[:1]) == model.backbone.tokens.start_ids


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_separators_and_special_tokens_by_role(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    row = encoded(kind, "{a}{sep}{b}{mask}", a="good", b="bad")
    separator = tiny_tokenizer(kind).sep_token_id if kind != "t5" else tiny_tokenizer(kind).eos_token_id
    assert row.ids.count(separator) == 2 and tokens.special("<sep>") == (separator,)
    with pytest.raises(TemplateError, match=r"no special token '<nothing>' \(it knows"):
        encoded(kind, '{a}{special:"<nothing>"}{mask}', a="good")


def test_a_causal_row_with_nothing_to_read_is_an_error() -> None:
    """A tokenizer without any start token, and an empty text in front of the answer."""
    source = tiny_tokenizer("llama").backend_tokenizer
    bare = type(source).from_str(source.to_str())
    bare.post_processor = None
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=bare), "decoder")
    assert tokens.start_ids == ()
    parsed = Template.parse("{text}{mask} .")
    layout = soft_layout(parsed, tokens)
    assert encode(parsed.render({"text": "good"}), tokens, layout, max_length=9).slot == len(tokens.ids("good"))
    with pytest.raises(TemplateError, match="no token stands in front of the answer"):
        encode(parsed.render({"text": " "}), tokens, layout, max_length=9)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"not a fast one"):
        Tokens(object(), "decoder")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_one_field_do_not_move_the_next(kind: str) -> None:
    special = str(tiny_tokenizer(kind).all_special_tokens[-1])
    row = encoded(kind, "{a} and {b}{mask}", max_length=200, a=f"good {special} {special}", b="bad day")
    assert words_of(kind, row, "b").strip() == "bad day"
    assert words_of(kind, row, "").strip() == "and"
