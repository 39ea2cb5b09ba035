"""Baselines: what all must hold, and each against an independent derivation with plain scikit-learn, torch or transformers."""

import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB

from ptune.backbone import Backbone, catalogue
from ptune.compare import baselines
from ptune.compare.baselines.linear_probe import embeddings
from ptune.compare.baselines.plain import plain_classifier, plain_language_model, text_ids, text_length
from ptune.compare.baselines.setfit import _sentence_encoder
from ptune.compare.baselines.word_vectors import BiLSTM, TextCNN, units
from ptune.compare.baselines.wording import wording_of
from ptune.compare.contender import MAX_TRIALS, Registry, Setup, look_of, rates
from ptune.data import Example
from ptune.errors import RecipeError, VerbalizerError
from tiny import example, tiny_backbone, tiny_model

SetupOn = Callable[..., Setup]
Rows = tuple[Example, ...]

LIGHT = ["majority", "tfidf-naive-bayes", "tfidf-svm", "tfidf-logistic", "bilstm", "textcnn"]
ON_BACKBONES = [
    "linear-probe",
    "head-fine-tuning",
    "fine-tuning",
    "peft-prompt-tuning",
    "peft-prefix-tuning",
    "peft-p-tuning",
    "lora",
]
CASES = [(name, None) for name in LIGHT] + [(name, kind) for name in ON_BACKBONES for kind in ("bert", "gpt2", "llama")]
PEFT_WARNS = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def test_every_baseline_is_listed_here() -> None:
    assert len(baselines.__all__) == 7
    assert {*LIGHT, *ON_BACKBONES, "setfit"} <= set(Registry.contenders)


@PEFT_WARNS
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_all_baselines_hold(name: str, kind: str | None, examples: Rows, setup_on: SetupOn) -> None:
    contender, setup = Registry.get(name), setup_on(kind)
    before = digest(setup.backbone)
    assert contender.refusal(setup) == ""
    trials = contender.trials(3)
    assert len({str(trial) for trial in trials}) == len(trials) == (1 if name == "majority" else 3)
    torch.manual_seed(1)
    fitted = contender.fit(setup, examples, examples, seed=2, settings=trials[0])
    found = fitted.predict(examples)
    assert found.shape == (12, 2) and np.allclose(found.sum(1), 1) and found.min() >= 0
    assert np.allclose(fitted.predict(examples[3:5]), found[3:5], atol=1e-5)  # whatever else is asked
    unlabelled = [Example(row.fields) for row in examples]
    assert np.array_equal(fitted.predict(unlabelled), found)
    assert fitted.num_bytes > 0 and (fitted.num_trained > 0) == (name != "majority")
    assert [point.step for point in fitted.curve] == (
        list(range(1, 13)) if contender.load_per_step or "vectors" in contender.paradigm else []
    )
    assert digest(setup.backbone) == before
    torch.manual_seed(9)
    again = contender.fit(setup, examples, examples, seed=2, settings=trials[0])
    assert np.array_equal(again.predict(examples), found)


@pytest.mark.parametrize("name", ["tfidf-naive-bayes", "tfidf-svm", "tfidf-logistic", "bilstm", "textcnn", "linear-probe"])
def test_baselines_learn_what_words_tell(name: str, examples: Rows, setup_on: SetupOn) -> None:
    contender, setup = Registry.get(name), setup_on("bert" if name == "linear-probe" else None)
    steady = Setup(setup.labels, setup.language, setup.recipe, setup.backbone, steps=lambda num_rows: 60, batch_size=4)
    fitted = contender.fit(steady, examples, examples, seed=1, settings=contender.trials(1)[0])
    accuracy, _ = look_of(fitted.predict(examples), setup.classes(examples))
    assert accuracy == 1.0


def test_the_best_look_is_put_back(examples: Rows, setup_on: SetupOn) -> None:
    setup = setup_on()
    fitted = Registry.get("textcnn").fit(setup, examples, examples, seed=3, settings={"learning_rate": 0.05})
    best = max(fitted.curve, key=lambda point: (point.accuracy, -point.loss))
    accuracy, loss = look_of(fitted.predict(examples), setup.classes(examples))
    assert (accuracy, loss) == pytest.approx((best.accuracy, best.loss))


def test_naive_bayes_is_scikit_learns(examples: Rows, setup_on: SetupOn) -> None:
    setup = setup_on()
    fitted = Registry.get("tfidf-naive-bayes").fit(setup, examples[1:], examples, seed=0, settings={"alpha": 0.1})
    texts = [str(row.fields["text"]) for row in examples]
    counts = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b").fit(texts[1:])
    by_hand = MultinomialNB(alpha=0.1).fit(counts.transform(texts[1:]), [0] * 5 + [1] * 6)
    assert np.allclose(fitted.predict(examples), by_hand.predict_proba(counts.transform(texts)))


def test_chinese_is_counted_by_characters(setup_on: SetupOn) -> None:
    rows = (example("这部电影很好", "yes"), example("服务很差", "no"))
    setup = setup_on()
    chinese = Setup(setup.labels, "zh", setup.recipe)
    fitted = Registry.get("tfidf-logistic").fit(chinese, rows, rows, seed=0, settings={"C": 1.0})
    assert {"很好", "差"} <= set(fitted.vectoriser.get_feature_names_out())  # type: ignore[attr-defined]
    assert units("很 好！", "zh") == ["很", "好", "！"] and units("It's GOOD", "en") == ["it", "'", "s", "good"]


@pytest.mark.parametrize("network", [BiLSTM, TextCNN])
def test_padding_changes_no_score(network: type[BiLSTM] | type[TextCNN]) -> None:
    torch.manual_seed(0)
    model, vectors = network(8, 3).eval(), torch.randn(2, 9, 8)
    mask = torch.tensor([[True] * 9, [True] * 4 + [False] * 5])
    together = model(vectors, mask)
    alone = model(vectors[1:, :4], mask[1:, :4])
    torch.testing.assert_close(together[1:], alone)


def test_word_vectors_read_unlabelled_texts(examples: Rows, setup_on: SetupOn) -> None:
    pool = (example("an entirely new sentence", None), examples[0])
    fitted = Registry.get("bilstm").fit(setup_on(unlabelled=pool), examples, examples, seed=0, settings={"learning_rate": 1e-3})
    assert fitted.facts["unlabelled_texts"] == 1 and "entirely" in fitted.vocabulary  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_embeddings_are_the_models_own(kind: str, examples: Rows, setup_on: SetupOn) -> None:
    setup, plain = setup_on(kind), tiny_model(kind)
    found = embeddings(setup, examples)
    for row, ids in enumerate(text_ids(setup, examples)):
        states = plain.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = states[-1] if kind == "gpt2" else states.mean(0)
        assert np.allclose(found[row], expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "gemma3", "qwen3"])
def test_plain_copies_compute_what_the_model_does(kind: str) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    copied = plain_language_model(tiny_backbone(kind)).eval()
    torch.testing.assert_close(copied(input_ids=ids).logits, tiny_model(kind)(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    classifier = plain_classifier(tiny_backbone(kind), 3, seed=0).eval()
    states = classifier.base_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(states, tiny_model(kind).base_model(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_rivals_read_the_tokens_that_ptune_reads(kind: str, examples: Rows, setup_on: SetupOn) -> None:
    """Label scores by a plain forward over the rival's rows are those of ptune's hard prompt."""
    wording = wording_of(setup_on(kind))
    plain = tiny_model(kind)
    for row, example_row in zip(wording.rows(examples), examples, strict=True):
        scores = wording.label_scores(plain(input_ids=torch.tensor([row.ids])).logits[:, row.at])
        own = wording.model.scores(wording.model.prepare([example_row]))
        torch.testing.assert_close(torch.softmax(scores, 1), torch.softmax(own, 1), rtol=1e-4, atol=1e-5)


def test_only_tokens_that_stand_in_the_row_shorten_the_text(setup_on: SetupOn) -> None:
    """Learned keys and values take positions of the model (64), as in ptune's own prefix tuning."""
    setup = setup_on("gpt2")
    asked = replace(setup, recipe={**setup.recipe, "max_length": 40})
    rooms = {"lora": (0, 0), "prefix": (20, 0), "prompt": (20, 20)}
    lengths = {name: wording_of(asked, *room).model.max_length for name, room in rooms.items()}
    assert lengths == {"lora": 40, "prefix": 40, "prompt": 20}
    assert wording_of(setup, 20).model.max_length == 44


@PEFT_WARNS
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_pefts_prompt_stands_in_front(kind: str, examples: Rows, setup_on: SetupOn) -> None:
    """Probabilities equal a plain forward over learned rows and token embeddings joined by hand."""
    setup, plain = setup_on(kind), tiny_model(kind)
    fitted = Registry.get("peft-prompt-tuning").fit(setup, examples, examples, seed=1, settings={"rate_factor": 1.0})
    learned = fitted.model.prompt_encoder["default"].embedding.weight.detach()  # type: ignore[attr-defined]
    wording = fitted.wording  # type: ignore[attr-defined]
    found = fitted.predict(examples)
    for number, row in enumerate(wording.rows(examples)):
        joined = torch.cat([learned, plain.get_input_embeddings()(torch.tensor(row.ids))])
        logits = plain(inputs_embeds=joined[None]).logits[:, len(learned) + row.at]
        expected = torch.softmax(wording.label_scores(logits), 1)[0].detach().numpy()
        assert np.allclose(found[number], expected, atol=1e-4)


def test_the_head_alone_learns_in_head_fine_tuning(examples: Rows, setup_on: SetupOn) -> None:
    setup = setup_on("gpt2")
    trained = {}
    for name in ("head-fine-tuning", "fine-tuning"):
        fitted = Registry.get(name).fit(setup, examples, examples, seed=0, settings={"learning_rate": 0.01})
        base, source = fitted.model.base_model.state_dict(), setup.model().model.base_model.state_dict()  # type: ignore[attr-defined]
        trained[name] = sum(not torch.equal(base[key], source[key]) for key in source)
    assert trained["head-fine-tuning"] == 0 and trained["fine-tuning"] > 10


@PEFT_WARNS
def test_words_that_begin_alike_make_rivals_classify(examples: Rows, setup_on: SetupOn) -> None:
    setup = setup_on("gpt2")
    alike = Setup(setup.labels, "en", {**setup.recipe, "labels": {"yes": ["very good"], "no": ["very bad"]}}, setup.backbone)
    with pytest.raises(VerbalizerError, match="begin with the same token"):
        wording_of(alike)
    fitted = Registry.get("lora").fit(alike, examples, examples, seed=0, settings={"rate_factor": 1.0})
    assert fitted.facts["readout"] == "classifier"


def test_one_limit_for_all_that_read_texts_alone(setup_on: SetupOn) -> None:
    """The recipe's, else 256 or the model's positions (64)."""
    setup = setup_on("bert")
    asked = replace(setup, recipe={**setup.recipe, "max_length": 12})
    long = (example("good " * 300, "yes"),)
    assert (text_length(setup), text_length(asked)) == (64, 12)
    assert [len(text_ids(one, long)[0]) for one in (setup, asked)] == [64, 12]


@pytest.mark.slow
def test_setfit_reads_as_many_tokens_as_the_recipe_says(setup_on: SetupOn) -> None:
    pytest.importorskip("setfit")
    setup = setup_on("bert")
    asked = replace(setup, recipe={**setup.recipe, "max_length": 12})
    assert [_sentence_encoder(one).max_seq_length for one in (setup, asked)] == [64, 12]


@pytest.mark.parametrize(("kind", "called"), [("gpt2", "decoder"), ("t5", "encoder-decoder")])
def test_setfit_says_what_it_needs(kind: str, called: str, setup_on: SetupOn) -> None:
    reason = Registry.get("setfit").refusal(setup_on(kind))
    wanted = f"tunes a sentence encoder, and tiny-{kind} is no encoder ({called}); add one to compare.backbones, minilm-l6 say"
    assert reason == f"SetFit {wanted}" and catalogue()["minilm-l6"].kind == "encoder"


@pytest.mark.slow
def test_setfit_runs_on_encoders_alone(examples: Rows, setup_on: SetupOn) -> None:
    pytest.importorskip("setfit")
    contender, setup = Registry.get("setfit"), setup_on("bert")
    assert contender.refusal(setup) == ""
    before = digest(setup.backbone)
    fitted = contender.fit(setup, examples, examples, seed=0, settings=contender.trials(1)[0])
    found = fitted.predict(examples)
    assert found.shape == (12, 2) and np.allclose(found.sum(1), 1) and fitted.facts["package"].startswith("setfit ")
    assert digest(setup.backbone) == before


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, examples: Rows, setup_on: SetupOn) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models.word2vec", None)
    with pytest.raises(RecipeError, match=r"this needs the package gensim \(pip install 'ptune\[compare\]', or leave"):
        Registry.get("bilstm").fit(setup_on(), examples, examples, seed=0, settings={"learning_rate": 1e-3})


def test_unknown_methods_are_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'textcnn'"):
        Registry.get("textcn")


def test_trials_are_a_default_and_its_neighbours() -> None:
    assert [trial["learning_rate"] for trial in rates(3e-3, MAX_TRIALS)] == [3e-3, 1e-3, 9e-3, 3e-4, 3e-2]


def digest(backbone: Backbone | None) -> str:
    """Of all weights and of the configuration; empty without a backbone."""
    if backbone is None:
        return ""
    whole = sha256(repr(backbone.model.config.to_dict()).encode() + backbone.model.config._attn_implementation.encode())
    for value in backbone.model.state_dict().values():
        whole.update(value.contiguous().numpy().tobytes())
    return whole.hexdigest()
