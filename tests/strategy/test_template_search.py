"""Searched templates: edits by hand, gradients and fillings against plain transformers, folds that do not leak."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ptune.backbone import Backbone
from ptune.cli import main
from ptune.data import Example
from ptune.decode.settings import Reason, Written
from ptune.errors import PtuneError
from ptune.model import GenerationModel, PromptModel
from ptune.readout import Verbalizer, log_prior
from ptune.recipe import Recipe
from ptune.strategy import TemplateSearchSettings, search_template, template_search
from ptune.strategy.infill import infill_templates
from ptune.strategy.label_search import vocabulary_words
from ptune.strategy.mined import mined_phrases, mined_templates
from ptune.strategy.paraphrase import paraphrase_templates
from ptune.strategy.template_edits import REWORDINGS, edit_templates, neighbours
from ptune.strategy.template_search import FoundTemplates
from ptune.strategy.trigger_tokens import trigger_templates, word_gradients
from ptune.template import FieldSegment, Template, TextSegment, learn_words
from tiny import tiny_backbone, tiny_model, tiny_tokenizer

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("The film was great", "a good story", "It was good", "wonderful cast"),
        "bad": ("It was bad", "the plot was bad", "a bad film", "terrible food"),
    }.items()
    for text in texts
]
EXAMPLES = [Example({"text": row["text"]}, row["label"]) for row in ROWS]
LABELS = {"good": ["great"], "bad": ["terrible"]}
WORDS = Verbalizer.parse({"good": ["good"], "bad": ["bad"]})


def recipe(kind: str = "gpt2", **keys: Any) -> Recipe:
    words = {
        "train": ROWS,
        "labels": LABELS,
        "method": "hard",
        "template": "{text} It was{mask}",
        "backbone": tiny_backbone(kind),
    }
    return Recipe.of({**words, **keys})


def few(**keys: Any) -> TemplateSearchSettings:
    return TemplateSearchSettings(**{"folds": 2, "rounds": 1, "tried": 3, "kept": 3, "longest": 1, "num_frequent": 30, **keys})


# -- edits -----------------------------------------------------------------------------------------------------------


def near(template: str, *removed: str) -> set[str]:
    return {str(one) for one, _ in neighbours(Template.parse(template), removed)}


def test_all_edits_of_a_short_template() -> None:
    assert near("{text} a b{mask}") == {"{text} b{mask}", "{text} a{mask}", "{text}{mask}", "{text} b a{mask}"}


def test_words_that_were_taken_out_go_back_elsewhere() -> None:
    assert {"{text} c a{mask}", "{text} a c{mask}"} <= near("{text} a{mask}", "c")


def test_rewordings_stand_for_each_other_as_whole_words() -> None:
    found = near("{text} It was{mask}")
    assert {f"{{text}} {other}{{mask}}" for other in REWORDINGS[0][1:]} <= found
    assert not any("This was" in one for one in near("{text} It wasp{mask}"))


def test_chinese_words_are_pieces_between_marks() -> None:
    assert {"{text}很好。总之，{mask}", "{text}总之，{mask}"} <= near("{text}总之，很好。{mask}")


def test_two_texts_never_run_together() -> None:
    assert "{first} {second} so{mask}" in near("{first} and {second} so{mask}")
    assert not any("{first}{second}" in one for one in near("{first} and {second} so{mask}"))


def test_the_best_edit_is_edited_again() -> None:
    """Worth is how short a template is: each round takes out as many words as one edit can."""
    given = Template.parse("{text} a b c d e{mask}")
    found = edit_templates(given, lambda one: (-len(str(one)), 0.0), rounds=3, tried=100, seed=0)
    assert min(map(str, found), key=len) == "{text}{mask}" and given not in found


# -- triggers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_gradients_are_those_of_plain_transformers(kind: str) -> None:
    """Of the cross-entropy over two words of one token each, on the embeddings of the template's words."""
    backbone, model, tokenizer = tiny_backbone(kind), tiny_model(kind), tiny_tokenizer(kind)
    ids, found = word_gradients(
        learn_words(Template.parse("{text} It was{mask}")), EXAMPLES[:3], WORDS, backbone, max_length=None
    )
    hard = PromptModel.build(backbone=backbone, template="{text} It was{mask}", labels=WORDS, method="hard")
    raw = hard.scores(hard.prepare(EXAMPLES[:3]))
    prior = log_prior(raw)
    assert hard.answers is not None
    columns = [word[0] for word in hard.answers.ids]
    expected = torch.zeros_like(found)
    for example in EXAMPLES[:3]:
        text = list(tokenizer(str(example.fields["text"]), add_special_tokens=False)["input_ids"])
        start, end = list(backbone.tokens.start_ids), list(backbone.tokens.end_ids)
        whole = [*start, *text, *ids] + ([tokenizer.mask_token_id, *end] if kind == "bert" else [])
        embedded = model.get_input_embeddings()(torch.tensor([whole])).detach().requires_grad_()
        at = whole.index(tokenizer.mask_token_id) if kind == "bert" else -1
        scores = model(inputs_embeds=embedded).logits[0, at].log_softmax(-1)[columns] - prior
        loss = torch.nn.functional.cross_entropy(scores[None], torch.tensor([WORDS.labels.index(str(example.label))]))
        (gradient,) = torch.autograd.grad(loss, embedded)
        first = len(start) + len(text)
        expected += gradient[0, first : first + len(ids)] / 3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_triggers_change_one_token_at_a_time() -> None:
    given = Template.parse("{text} It was{mask}")
    found = trigger_templates(
        given,
        lambda one: (0.0, 0.0),
        EXAMPLES,
        Verbalizer.parse(LABELS),
        tiny_backbone("gpt2"),
        max_length=None,
        rounds=2,
        tried=4,
        num_frequent=40,
    )
    assert found and given not in found and all(str(one).startswith("{text} ") for one in found)
    assert all(len({"It", "was"} & set(str(one).removesuffix("{mask}").split())) == 1 for one in found)


def test_without_words_there_is_nothing_to_exchange() -> None:
    given = Template.parse("{text}{mask}")
    keys = {"max_length": None, "rounds": 1, "tried": 2, "num_frequent": 20}
    words = Verbalizer.parse(LABELS)
    assert trigger_templates(given, lambda one: (0.0, 0.0), EXAMPLES, words, tiny_backbone("gpt2"), **keys) == []


# -- infilling -------------------------------------------------------------------------------------------------------


def test_a_masked_model_fills_the_gap_as_it_does_alone() -> None:
    backbone, model, tokenizer = tiny_backbone("bert"), tiny_model("bert"), tiny_tokenizer("bert")
    answers = {"good": "great", "bad": "terrible"}
    keys = {"max_length": None, "longest": 1, "beam": 3, "num_frequent": 20}
    found = infill_templates(Template.parse("{text} It was{mask} ."), EXAMPLES, answers, backbone, **keys)
    sums = torch.zeros(len(tokenizer))
    for example in EXAMPLES:
        ids = tokenizer(f"{example.fields['text']} [MASK] {answers[str(example.label)]} .", return_tensors="pt")["input_ids"]
        at = int((ids[0] == tokenizer.mask_token_id).nonzero())
        sums += model(input_ids=ids).logits[0, at].log_softmax(-1)
    words = [str(one).removeprefix("{text} ").removesuffix("{mask} .") for one in found]
    values = [float(sums[tokenizer.convert_tokens_to_ids(word)]) for word in words]
    assert len(words) == 3 and values == sorted(values, reverse=True)
    texts = [str(example.fields["text"]) for example in EXAMPLES]
    known = vocabulary_words(Template.parse("{text}{mask}"), backbone.tokens, 20, texts)
    assert sorted(known, key=lambda word: -float(sums[known[word]]))[:3] == words


def test_an_encoder_decoder_writes_longer_fillings() -> None:
    keys = {"max_length": None, "longest": 2, "beam": 2, "num_frequent": 20}
    answers = {"good": "great", "bad": "terrible"}
    found = infill_templates(Template.parse("{text} It was{mask}"), EXAMPLES, answers, tiny_backbone("t5"), **keys)
    sizes = [len(str(one).removeprefix("{text} ").removesuffix("{mask}").split()) for one in found]
    assert sizes == [1, 1, 2, 2]


# -- paraphrases -----------------------------------------------------------------------------------------------------


def roomy() -> Backbone:
    """A tiny model that reads long texts."""
    model = copy.deepcopy(tiny_model("llama"))
    model.config.max_position_embeddings = 512
    return Backbone(model, tiny_tokenizer("llama"), name="roomy")


def drawn(*texts: str) -> Any:
    """A model that writes these texts, the last of which does not come to an end."""
    ends: list[Reason] = [*(["stop"] * (len(texts) - 1)), "length"]
    return lambda *rest, **keys: [tuple(Written(text, (), 0.0, 0.0, end) for text, end in zip(texts, ends, strict=True))]


def test_words_in_front_of_the_answer_are_put_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = (" 'All in all, it was' ", "It was", "", "All in all, it was", "It {was}", "I found it", "It went on and")
    monkeypatch.setattr(GenerationModel, "write", drawn(*texts))
    found = paraphrase_templates(Template.parse("{text}\nIt was {mask} !"), roomy(), count=7, seed=1)
    assert [str(one) for one in found] == ["{text}\nAll in all, it was {mask} !", "{text}\nI found it {mask} !"]


@pytest.mark.parametrize("template", ["{text}{mask}", "{text} {mask} .", '{text}{hard:"It was"}{mask}'])
def test_without_words_there_is_nothing_to_put_anew(template: str) -> None:
    assert paraphrase_templates(Template.parse(template), roomy(), count=2, seed=1) == []


def test_causal_models_with_room_paraphrase_unasked() -> None:
    said: list[str] = []
    found = search_template(recipe(backbone=roomy(), template="{text} It was{mask}"), few(), say=said.append)
    assert found.num_judged and len(said) == 2
    with pytest.raises(PtuneError, match="reads 256 tokens"):
        search_template(recipe("gpt2"), few(ways=("paraphrases",)))


def test_the_model_reads_the_words_and_writes_to_the_end_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    write = GenerationModel.write

    def noted(self: GenerationModel, rows: Any, settings: Any) -> Any:
        segments = self.template.render(rows[0].fields)
        read.append("".join(one.text for one in segments if isinstance(one, TextSegment | FieldSegment)))
        assert settings.returns == 3 and settings.seed == 5
        return write(self, rows, settings)

    monkeypatch.setattr(GenerationModel, "write", noted)
    for words in ("总的来说", "It was"):
        given = Template.parse(f"{{text}} {words}{{mask}}")
        found = paraphrase_templates(given, roomy(), count=3, seed=5)
        assert all(str(one).startswith("{text} ") and str(one).endswith("{mask}") and one != given for one in found)
    assert read[0].endswith("原句：总的来说\n换句话说：") and read[1].endswith("Words: It was\nIn other words:")


# -- mined -----------------------------------------------------------------------------------------------------------


MINED = [
    "Slow. The food was great!",
    "the food was terrible",
    "We left: the Food was GREAT , the food was great",
    "It was not so much a great evening as one to forget",
    "Never a great\nIt's great; greatest of all it is",
    "A film that terrible people like",
    "bad and terrible",
    "Great. great",
]


def test_phrases_lead_from_the_beginning_of_a_clause_to_a_label_word() -> None:
    """Those in front of both labels' words first, then by how many texts say them; longer clauses, words in words: none."""
    words = {"good": ["great"], "bad": ["terrible", "bad"]}
    assert mined_phrases(MINED, words, longest=3) == ["The food was", "It's", "Never a", "A film that"]
    assert mined_phrases(MINED, words, longest=2) == ["It's", "Never a"]
    assert mined_phrases(MINED[:1], words, longest=3) == ["The food was"]


def test_chinese_phrases_are_counted_in_letters() -> None:
    texts = ["物流慢，质量很好。", "质量很差！质量很好", "我觉得这个质量真的很好", "总之差"]
    words = {"good": ["好"], "bad": ["差"]}
    assert mined_phrases(texts, words, longest=2) == ["质量很", "总之"]
    found = mined_templates(Template.parse("{text}感觉{mask}。"), texts, words, longest=1, count=3)
    assert [str(one) for one in found] == ["{text}总之{mask}。"]


def test_mined_phrases_stand_in_front_of_the_answer() -> None:
    found = mined_templates(Template.parse("{text} It was{mask} ."), MINED, {"good": ["great"]}, longest=3, count=2)
    assert [str(one) for one in found] == ["{text} The food was{mask} .", "{text} It's{mask} ."]
    (first,) = mined_templates(Template.parse("Mood:{mask} . {text}"), MINED, {"good": ["great"]}, longest=3, count=1)
    assert str(first) == "The food was{mask} . {text}"


def test_what_is_mined_is_searched_through_and_judged(tmp_path: Path) -> None:
    """Of the rows, those that judge are not mined; further texts are, from a file too."""
    path = tmp_path / "more.csv"
    path.write_text("text\nSo that is great\nSo that is terrible\n", encoding="utf-8")
    found = search_template(recipe(), few(ways=("mined",), unlabelled=str(path), longest=3))
    texts = {one.template: one for one in (found.best, *found.others)}
    assert texts["{text} So that is{mask}"].num_folds == 2 and texts["{text} So that is{mask}"].way == "mined"
    assert texts["{text} The film was{mask}"].num_folds == 1, "of ROWS[0], which judges in the first fold"
    assert found.num_judged == 2


@pytest.mark.parametrize(
    ("rows", "own", "fault"),
    [
        (ROWS[1:3] + ROWS[4:7], {}, "no text leads to a label word in 1 words"),
        (ROWS, {"unlabelled": "missing.csv"}, "missing.csv"),
        (ROWS, {"unlabelled": [{"title": "great"}]}, "text"),
    ],
)
def test_texts_that_cannot_be_mined_are_refused(
    rows: list[dict[str, str]], own: dict[str, Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_search, "load_backbone", lambda *rest, **keys: pytest.fail("a model was loaded"))
    with pytest.raises(PtuneError, match=fault):
        search_template(recipe(train=rows), few(ways=("mined",), **own))


# -- the search ------------------------------------------------------------------------------------------------------


def by_hand(kind: str, template: str, held: list[int], mine: list[int]) -> float:
    """Accuracy on held-out rows, the prior of the others taken out."""
    model = PromptModel.build(backbone=tiny_backbone(kind), template=template, labels=LABELS, method="hard")
    scores = model.scores(model.prepare(EXAMPLES))
    corrected = scores[held] - log_prior(scores[mine])
    true = torch.tensor([0 if EXAMPLES[at].label == "good" else 1 for at in held])
    return float((corrected.argmax(1) == true).float().mean())


@pytest.mark.parametrize("kind", ["gpt2", "bert", "t5"])
def test_figures_are_those_of_rows_that_did_not_propose(kind: str) -> None:
    found = search_template(recipe(kind), few())
    halves = [[0, 2, 4, 6], [1, 3, 5, 7]]
    given = [by_hand(kind, "{text} It was{mask}", halves[fold], halves[1 - fold]) for fold in (0, 1)]
    for one in (found.best, *found.others):
        own = [by_hand(kind, one.template, halves[fold], halves[1 - fold]) for fold in (0, 1)]
        if one.num_folds == 2:
            assert one.accuracy == pytest.approx(sum(own) / 2) and one.given_accuracy == pytest.approx(sum(given) / 2)
            assert one.gain == pytest.approx(sum(own) / 2 - sum(given) / 2)
        else:
            gains = [(mine - base) / 2 for mine, base in zip(own, given, strict=True)]
            assert any(one.gain == pytest.approx(gain) for gain in gains) and one.num_rows == 4


def test_what_proposes_never_sees_the_rows_that_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's text in the proposals of its own fold would be seen here: the gradient's rows are noted."""
    seen: list[set[str]] = []

    def noted(template: Template, value: Any, examples: list[Example], *rest: Any, **keys: Any) -> list[Template]:
        seen.append({str(example.fields["text"]) for example in examples})
        return []

    monkeypatch.setattr(template_search, "trigger_templates", noted)
    search_template(recipe(), few(ways=("triggers",)))
    texts = [row["text"] for row in ROWS]
    assert seen == [set(texts[1::2]), set(texts[0::2])]


def test_the_given_template_stays_where_nothing_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_search, "edit_templates", lambda *rest, **keys: [])
    found = search_template(recipe(), few(ways=("edits",)))
    assert (found.best.way, found.best.template, found.best.gain, found.others) == ("given", "{text} It was{mask}", 0.0, ())


def test_a_gain_of_rounding_errors_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three folds gain 0, -0.3 and +0.3, which adds up to 2e-17; the loss is worse."""
    other = Template.parse("{text} So{mask}")
    monkeypatch.setattr(template_search, "edit_templates", lambda *rest, **keys: [other])
    accuracies = iter([0.5, 0.2, 0.8])

    def worth(self: Any, template: Template, judged: list[int], proposing: list[int]) -> tuple[float, float]:
        return (0.5, 0.0) if template != other else (next(accuracies) if judged != proposing else 0.9, -1.0)

    monkeypatch.setattr(template_search._Judge, "worth", worth)
    found = search_template(recipe(), few(ways=("edits",), folds=3))
    assert found.best.way == "given" and found.others[0].template == str(other)


def test_words_of_several_tokens_are_filled_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Any] = []
    build = PromptModel.build

    def noted(cls: Any, **keys: Any) -> PromptModel:
        orders.append(keys.get("fill"))
        return build(**keys)

    monkeypatch.setattr(PromptModel, "build", classmethod(noted))
    search_template(recipe("bert", fill="chain"), few(ways=("edits", "triggers")))
    assert set(orders) == {"chain"}


def test_it_is_printed_as_a_template_to_paste() -> None:
    found = search_template(recipe(template="{text} It was:\n{mask}"), few())
    assert isinstance(found, FoundTemplates)
    pasted = yaml.safe_load(found.to_yaml())
    assert pasted == {"template": found.best.template} and str(Template.parse(pasted["template"])) == found.best.template
    assert found.to_yaml().count("# or, ") == len(found.others)


def test_the_same_seed_finds_the_same() -> None:
    assert search_template(recipe(), few()) == search_template(recipe(), few())


@pytest.mark.parametrize(
    ("keys", "own", "fault"),
    [
        ({}, {"ways": ("infill",)}, "is causal"),
        ({"backbone": tiny_backbone("bert")}, {"ways": ("paraphrases",)}, "no causal model"),
        ({}, {"folds": 5}, "label 'good' has 4 rows for 5 folds"),
        ({"template": "{demos}{text} It was{mask}"}, {}, "without demonstrations"),
        ({"labels": ["good", "bad"], "head": "linear"}, {}, "by label words"),
        ({"template": "{text} It was"}, {}, "no mask"),
        ({"max_length": 4}, {}, "do not fit"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], own: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        search_template(recipe(**keys), few(**own))


def test_the_command(tmp_path: Path, tiny_folder: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    words = {"train": ROWS, "labels": LABELS, "method": "hard", "template": "{text} It was{mask}"}
    section = {"folds": 2, "rounds": 1, "tried": 2, "ways": ["edits"]}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({**words, "backbone": tiny_folder("gpt2"), "search_template": section}), encoding="utf-8")
    assert main(["search", "template", str(path)]) == 0
    assert "{mask}" in yaml.safe_load(capsys.readouterr().out)["template"]
    assert main(["search", "template", str(path), "--json", "--set", "search_template.ways=[guess]"]) == 2
    assert "search_template.ways" in capsys.readouterr().err
