"""What goes wrong in PEFT 0.21.2 with learned prompts, one test each: PEFT's side as it is, and ptune's on the same weights.

The first half of a test shows the fault (so that the claim is not hearsay), the second that ptune is right.
"""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2ForSequenceClassification,
    RobertaForQuestionAnswering,
)

import ptune
from peers import LABELS, QUIET, TEMPLATE, base, opened, task
from ptune.bundle import export_peft
from ptune.data import read_examples
from ptune.errors import TemplateError
from ptune.inputs import lay_out_pooled, lay_out_words
from ptune.model import PromptModel
from ptune.model.qa import QaModel
from ptune.model.tagging import TagModel
from ptune.prompt import CandidatePrompts
from ptune.task import Task
from ptune.train import TrainEvent
from tiny import EXAMPLES, POSITIONS, build_backbone, example, tiny_backbone

pytestmark = [
    pytest.mark.filterwarnings(QUIET),
    pytest.mark.filterwarnings("ignore:.*will not detect padding tokens in `inputs_embeds`"),
]

FRONT = {"name": "prompt-tuning", "num_tokens": 3, "placement": "front", "init": "random"}
CAUSAL = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)


def padded(rows: list[list[int]], pad: int, side: str) -> tuple[Tensor, Tensor]:
    """Token ids and mask of rows of unequal length."""
    longest = max(map(len, rows))
    fill = [[pad] * (longest - len(row)) for row in rows]
    ids = [[*more, *row] if side == "left" else [*row, *more] for row, more in zip(rows, fill, strict=True)]
    mask = [
        [0] * len(more) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(more)
        for row, more in zip(rows, fill, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


def text_rows(model: PromptModel, num_front: int) -> list[list[int]]:
    """The examples' tokens behind the virtual ones."""
    return [list(row.ids[num_front:]) for row in model.prepare(EXAMPLES).encoded]


@torch.no_grad()
def test_left_padding(tmp_path: Path) -> None:
    """PEFT puts the prompt in front of the padding and drops position ids: a row's answer depends on its neighbours."""
    model = task("gpt2", FRONT)
    export_peft(model, tmp_path / "adapter")
    rival, rows = opened(tmp_path / "adapter", "gpt2"), text_rows(model, 3)
    ids, mask = padded(rows, 0, "left")
    together = rival(input_ids=ids, attention_mask=mask).logits[:, -1]
    alone = torch.cat([rival(input_ids=torch.tensor([row])).logits[:, -1] for row in rows])
    assert (together - alone).abs().max() > 0.1 * alone.abs().max()

    prepared, tokens = model.prepare(EXAMPLES), model.backbone.tokens
    settings: dict[str, Any] = {"labels": [-1] * 5, "index": range(5)}
    left = lay_out_words(prepared.encoded, model.answers, tokens, padding_side="left", **settings)
    scores = model(left).scores
    for number in range(5):
        torch.testing.assert_close(scores[number], model(model.batch(prepared, [number])).scores[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_pooled_token_of_padded_causal_models() -> None:
    """PEFT hands embeddings over, so that transformers cannot see the padding and classifies a padding token's state."""
    plain = base("gpt2")
    plain.config.num_labels, plain.config.pad_token_id = 2, 0
    torch.manual_seed(1)
    rival = get_peft_model(
        GPT2ForSequenceClassification(plain.config).eval(), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    ).eval()
    rows = [[5, 6, 7, 8, 9, 10], [11, 12]]
    ids, mask = padded(rows, 0, "right")
    together = rival(input_ids=ids, attention_mask=mask).logits
    alone = torch.cat([rival(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits for row in rows])
    assert (together[1] - alone[1]).abs().max() > 0.1 * alone.abs().max()

    model = PromptModel.build(
        backbone=tiny_backbone("gpt2"), template="{text}", labels=["yes", "no"], method=FRONT, pool="last"
    )
    prepared, scores = model.prepare(EXAMPLES), {}
    for side in ("left", "right"):
        batch = lay_out_pooled(
            prepared.encoded, "last", model.backbone.tokens, labels=[-1] * 5, index=range(5), padding_side=side
        )
        scores[side] = model(batch).scores
    for number in range(5):
        single = model(model.batch(prepared, [number])).scores[0]
        for side in ("left", "right"):
            torch.testing.assert_close(scores[side][number], single, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_cls_is_a_virtual_token() -> None:
    """BERT's pooler reads place 0, where PEFT's first virtual token stands; ptune's head reads [CLS] behind it."""
    config = base("bert").config
    config.num_labels = 2
    rival = get_peft_model(
        BertForSequenceClassification(config).eval(), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    ).eval()
    read: list[Tensor] = []
    rival.base_model.bert.pooler.register_forward_hook(lambda module, args, out: read.append(args[0][:, 0]))
    states = rival(input_ids=torch.tensor([[2, 50, 60, 3]]), output_hidden_states=True).hidden_states[-1]
    assert states.shape[1] == 3 + 4 and torch.equal(read[0], states[:, 0])  # of seven places, [CLS] is number 3

    model = PromptModel.build(backbone=tiny_backbone("bert"), template="{text}", labels=["yes", "no"], method=FRONT, pool="cls")
    prepared = model.prepare(EXAMPLES)
    batch = model.batch(prepared, range(5))
    assert batch.live.ids[:, 3].eq(2).all() and batch.reads.position.eq(3).all()
    hidden = model.backbone.hidden(batch.live, model.prompt())
    torch.testing.assert_close(model(batch).scores, model.head.score(hidden[:, 3]), rtol=1e-5, atol=1e-5)


def test_checkpointing_and_prefixes() -> None:
    """Switched on behind PEFT's back (as training arguments do), BERT's prefix silently gets no gradient."""
    plain = base("bert", is_bare=True)
    rival = get_peft_model(plain, PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=3)).train()
    ids = torch.tensor([[2, 50, 60, 3]])
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    weight = rival.prompt_encoder["default"].embedding.weight
    rival(**arguments).last_hidden_state.square().sum().backward()
    assert weight.grad.abs().sum() > 0
    weight.grad = None
    rival.base_model.activation_checkpointing_enable()
    rival(**arguments).last_hidden_state.square().sum().backward()
    assert weight.grad is None

    gradients = []
    for enabled in (False, True):
        backbone = build_backbone("bert")
        backbone.checkpoint(enabled)
        model = PromptModel.build(
            backbone=backbone, template=TEMPLATE, labels=LABELS, method={"name": "p-tuning-v2", "num_tokens": 3}
        )
        loss = model(model.batch(model.prepare(EXAMPLES), range(5))).loss
        loss.backward()
        gradients.append(next(model.prompt.parameters()).grad)
    assert gradients[0].abs().flatten(3).sum(-1).gt(0).all()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_training_goes_on(tmp_path: Path) -> None:
    """PEFT throws the prompt encoder away and refuses to train a loaded prompt; ptune's run folder keeps all of it."""
    rival = get_peft_model(
        base("gpt2"), PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8)
    )
    rival.save_pretrained(tmp_path / "theirs")
    with pytest.raises(ValueError, match="Cannot set a prompt learning adapter to trainable"):
        PeftModel.from_pretrained(base("gpt2"), str(tmp_path / "theirs"), is_trainable=True)

    rows = [{"text": one.fields["text"], "label": one.label} for one in EXAMPLES]
    words: dict[str, Any] = {
        "backbone": tiny_backbone("gpt2"),
        "train": rows,
        "template": "{text}{soft:3} It was{mask}",
        "labels": LABELS,
        "method": {"name": "p-tuning", "encoder": "lstm"},
        "steps": 6,
        "save_every": 3,
        "out": tmp_path / "run",
    }
    traces: dict[str, list[tuple[int, float]]] = {"whole": [], "broken": []}

    def listen(name: str, last: int) -> Any:
        def heard(event: TrainEvent) -> None:
            if event.kind == "step":
                traces[name].append((event.step, event.loss))
                if event.step == last:
                    raise KeyboardInterrupt

        return [heard]

    with pytest.raises(KeyboardInterrupt):
        ptune.fit(**words, listeners=listen("broken", 4))
    resumed = ptune.fit(**words, listeners=listen("broken", 99), resume=True)
    whole = ptune.fit(**{**words, "out": tmp_path / "whole"}, listeners=listen("whole", 99))
    assert dict(traces["broken"]) == dict(traces["whole"]) and len(traces["whole"]) == 6
    assert [step for step, _ in traces["broken"]] == [1, 2, 3, 4, 4, 5, 6]
    assert torch.equal(resumed.model.prompt().rows, whole.model.prompt().rows)


def test_rows_of_several_tasks() -> None:
    """PEFT ignores `adapter_names` for prompts: every row is read with the active one. ptune gives each row its own."""
    rival = get_peft_model(base("gpt2"), CAUSAL, adapter_name="first").eval()
    torch.manual_seed(3)
    rival.add_adapter("second", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    with torch.no_grad():
        mixed = rival(input_ids=ids, adapter_names=["first", "second"]).logits
        rival.set_adapter("second")
        second = rival(input_ids=ids[:1]).logits
    assert torch.equal(mixed[0], mixed[1]) and not torch.allclose(mixed[1], second[0])

    methods: list[Any] = [FRONT, {"name": "p-tuning-v2", "num_tokens": 2}, {"name": "prefix-tuning", "num_tokens": 5}, "hard"]
    tasks = [Task(task("gpt2", method, seed=number)) for number, method in enumerate(methods)]
    requests = [(one, text.fields["text"]) for text, one in itertools.product(EXAMPLES, tasks)]
    together = ptune.predict_mixed(requests)
    for (one, text), prediction in zip(requests, together, strict=True):
        (alone,) = one.predict([text])
        assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert len({round(prediction.probabilities["yes"], 6) for prediction in together[:4]}) == 4


def test_every_layer_of_an_encoder_decoder_learns() -> None:
    """Of two layers, PEFT's decoder reads the first pair twice and the second never; its encoder gets nothing."""
    rival = get_peft_model(base("t5"), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    ids = torch.tensor([[5, 6, 7]])
    rival(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    gradient = rival.prompt_encoder["default"].embedding.weight.grad.view(3, 2, 2, 32)
    assert gradient[:, 0].abs().sum() > 0 and gradient[:, 1].abs().sum() == 0

    model = task("t5", {"name": "p-tuning-v2", "num_tokens": 3})
    model(model.batch(model.prepare(EXAMPLES), range(5))).loss.backward()
    for place in ("text", "decoder", "cross"):
        assert model.prompt.numbers[place].grad.abs().flatten(2).sum(-1).gt(0).all(), place


def test_a_text_that_fills_the_positions() -> None:
    """Virtual tokens use positions up: PEFT fails deep inside the model. ptune shortens the text or says what does not fit."""
    ids = torch.randint(5, 100, (1, POSITIONS), generator=torch.Generator().manual_seed(1))
    with pytest.raises(IndexError):
        get_peft_model(base("gpt2"), CAUSAL)(input_ids=ids)

    long = example("good " * 200)
    model = task("gpt2", FRONT)
    prepared = model.prepare([long])
    assert len(prepared.encoded[0]) == POSITIONS - 1 and prepared.encoded[0].num_cut > 100
    assert model.scores(prepared).isfinite().all()
    too_many = {**FRONT, "num_tokens": POSITIONS}
    with pytest.raises(TemplateError, match=r"64 learned and .* do not fit into 64 positions"):
        task("gpt2", too_many).prepare([long])


def test_without_the_prompt() -> None:
    """PEFT's `disable_adapter` ends in an UnboundLocalError on encoders; ptune's task without its prompt is the plain model."""
    config = base("bert").config
    config.num_labels = 2
    rival = get_peft_model(BertForSequenceClassification(config), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    with pytest.raises(UnboundLocalError), rival.disable_adapter():
        pass

    model = task("bert", FRONT)
    bare = model.without_prompt()
    assert not bare.template.has_soft and bare.num_trained == 0
    assert torch.equal(bare.scores(bare.prepare(EXAMPLES)), task("bert", "hard").scores(bare.prepare(EXAMPLES)))


def test_a_loaded_prompt_is_at_rest(tmp_path: Path) -> None:
    """After loading, PEFT's prompt still asks for gradients; ptune's does not."""
    model = task("gpt2", FRONT)
    export_peft(model, tmp_path / "adapter")
    assert opened(tmp_path / "adapter", "gpt2").prompt_encoder["default"].embedding.weight.requires_grad

    Task(model).save(tmp_path / "bundle")
    loaded = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("gpt2"))
    assert not any(value.requires_grad for value in (*loaded.model.parameters(), loaded.model.prompt().rows))
    assert loaded.model.num_trained == 0


def test_logits_are_computed_for_no_virtual_token() -> None:
    """PEFT's result has a row of the whole vocabulary for each virtual token; ptune reads the places that are scored."""
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert get_peft_model(base("gpt2"), CAUSAL)(input_ids=ids).logits.shape == (1, 3 + 3, 420)

    model = task("gpt2", FRONT)
    asked: list[tuple[int, int]] = []
    whole = model.backbone.logits

    def counted(hidden: Tensor, columns: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        out = whole(hidden, columns, weight)
        asked.append(tuple(out.shape))
        return out

    model.backbone = build_backbone("gpt2")
    model.backbone.logits = counted  # type: ignore[method-assign]
    model(model.batch(model.prepare(EXAMPLES), range(5)))
    assert asked == [(5, 2)]


def test_random_is_not_the_default_start() -> None:
    """PEFT begins with N(0, 1), whatever the embeddings' size; ptune with rows of the vocabulary, or at their size."""
    torch.manual_seed(5)
    rival = get_peft_model(base("gpt2"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=50))
    assert rival.prompt_encoder["default"].embedding.weight.detach().std() == pytest.approx(1.0, abs=0.1)

    backbone = tiny_backbone("gpt2")
    rows = task("gpt2", {"name": "prompt-tuning", "num_tokens": 5}).prompt().rows
    table = backbone.embed(torch.arange(backbone.spec.vocab_size))
    assert all((table == row).all(1).any() for row in rows)
    random = task("gpt2", {**FRONT, "num_tokens": 50}).prompt().rows
    assert random.detach().std() == pytest.approx(backbone.spec.embedding_rms, rel=0.1)


def test_several_prompts_at_once() -> None:
    """PEFT holds one active prompt; ptune trains several beside each other, each with its own gradients."""
    model = task("gpt2", {**FRONT, "placement": "after-bos"}, candidates=3)
    assert isinstance(model.prompt, CandidatePrompts)
    outcome = model(model.batch(model.prepare(EXAMPLES), range(5)))
    outcome.loss.backward()
    for number, member in enumerate(model.prompt.members):
        alone = task("gpt2", {**FRONT, "placement": "after-bos"})
        alone.prompt.rows.data.copy_(member.rows.detach())
        alone(alone.batch(alone.prepare(EXAMPLES), range(5))).loss.backward()
        torch.testing.assert_close(member.rows.grad, alone.prompt.rows.grad, rtol=1e-4, atol=1e-6, msg=str(number))


def test_tags_are_aligned() -> None:
    """PEFT's labels are as long as the text, its logits longer by the virtual tokens, so that a loss is an error."""
    plain = base("bert")
    plain.config.num_labels = 3
    rival = get_peft_model(
        BertForTokenClassification(plain.config), PromptTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=3)
    )
    ids = torch.tensor([[2, 50, 60, 70, 3]])
    with pytest.raises(ValueError, match="batch_size"):
        rival(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros_like(ids))

    row = {"tokens": ["The", "film", "was", "great"], "tags": ["O", "B-PER", "I-PER", "O"]}
    rows = read_examples([row], fields=("tokens", "tags"), label=None)
    model = TagModel.build(backbone=tiny_backbone("bert"), examples=rows, method=FRONT)
    batch = model.batch(model.prepare(rows), [0])
    tokens = model.backbone.tokens
    read = tokens.show(batch.live.ids[0, batch.reads.position].tolist())
    assert [word.strip("#") for word in read] == [tokens.show([tokens.ids(word.lower())[0]])[0] for word in row["tokens"]]
    assert batch.reads.position.min() == 3 + 1  # three learned tokens and [CLS]
    hidden = model.backbone.hidden(batch.live, model.prompt())[0, batch.reads.position]
    expected = torch.nn.functional.cross_entropy(model.head.score(hidden), batch.targets)
    torch.testing.assert_close(model(batch).loss, expected)
    assert [model.tags[number] for number in batch.targets] == row["tags"]


def test_answers_keep_their_offsets() -> None:
    """PEFT compares `start_positions` with logits that begin with the virtual tokens: the loss is that of another token."""
    plain = base("roberta")
    plain.config.num_labels = 2
    torch.manual_seed(2)
    rival = get_peft_model(
        RobertaForQuestionAnswering(plain.config).eval(), PromptTuningConfig(task_type="QUESTION_ANS", num_virtual_tokens=3)
    ).eval()
    ids = torch.tensor([[0, 50, 60, 70, 80, 2]])
    place = torch.tensor([4])
    with torch.no_grad():
        out = rival(input_ids=ids, attention_mask=torch.ones_like(ids), start_positions=place, end_positions=place)
    unmoved = sum(torch.nn.functional.cross_entropy(part, place) for part in (out.start_logits, out.end_logits)) / 2
    moved = sum(torch.nn.functional.cross_entropy(part, place + 3) for part in (out.start_logits, out.end_logits)) / 2
    torch.testing.assert_close(out.loss, unmoved)
    assert abs(out.loss - moved) > 0.01

    row = {"question": "What ?", "context": "The film was great", "answers": {"text": ["film"], "answer_start": [4]}}
    rows = read_examples([row], fields=("question", "context", "answers"), label=None)
    model = QaModel.build(backbone=tiny_backbone("roberta"), template="{question} {context}", method=FRONT)
    prepared = model.prepare(rows)
    batch = model.batch(prepared, [0])
    tokens, (first, last) = model.backbone.tokens, batch.targets[0].tolist()
    answer = batch.live.ids[0, batch.reads.position[first] : batch.reads.position[last] + 1].tolist()
    assert "".join(tokens.show(answer)).strip() == "film"
    model.head.linear.weight.data.zero_()
    model.head.linear.bias.data.zero_()
    places = len(batch.reads.position)
    assert model(batch).loss.item() == pytest.approx(torch.tensor(float(places)).log().item(), abs=1e-5)
