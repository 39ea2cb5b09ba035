"""The rivals of the benchmarks are right: the hands agree with each other, with plain forwards, and read ptune's tokens."""

import pytest
import torch

pytest.importorskip("peft")

from brute_force import brute_force_scores
from peft_peer import HAND_TITLES, PeerModel, Wording, time_to
from timing import alternate, medians, peak_memory

from ptune.inputs import Tokens, encode, soft_layout
from ptune.template import Template
from tiny import EXAMPLES, tiny_backbone, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

WORDING = Wording("All in all , ", " It was", {"yes": " great", "no": " bad"}, max_length=24)
ROWS = [(row.fields["text"], row.label) for row in EXAMPLES]
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
NUM_TOKENS = 3


def peer(kind: str, hand: str, seed: int = 1, attention: str = "sdpa") -> PeerModel:
    return PeerModel(tiny_model(kind, attention=attention), Tokens(tiny_tokenizer(kind), "decoder"), NUM_TOKENS, hand, seed)


def with_prompt(other: PeerModel, one: PeerModel) -> PeerModel:
    with torch.no_grad():
        other.prompt.copy_(one.prompt)
    return other


@pytest.mark.parametrize("hand", [hand for hand in HAND_TITLES if hand != "documented"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_hands_score_like_the_documented_one(kind: str, hand: str) -> None:
    documented = peer(kind, "documented")
    other = with_prompt(peer(kind, hand), documented)
    expected = documented.scores(documented.encode(TEXTS, LABELS, WORDING))  # the label word behind the answer is not seen
    for labels in (LABELS, None):
        torch.testing.assert_close(other.scores(other.encode(TEXTS, labels, WORDING)), expected, rtol=1e-4, atol=1e-4)
    alone = torch.cat([other.scores(other.encode([text], None, WORDING)) for text in TEXTS])
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_documented_loss_is_the_word_under_the_whole_vocabulary(kind: str) -> None:
    documented, plain = peer(kind, "documented"), tiny_model(kind)
    batch = documented.encode(TEXTS, LABELS, WORDING)
    losses = []
    for ids, at, target in zip(batch.input_ids, batch.answer_at, batch.targets, strict=True):
        rows = torch.cat([documented.prompt, plain.get_input_embeddings()(ids[: at + 1])])
        logits = plain(inputs_embeds=rows[None]).logits[0, -1]
        losses.append(-logits.log_softmax(-1)[batch.columns[target]])
    torch.testing.assert_close(documented.loss(batch), torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


def test_padding_on_the_left_would_move_the_prompt_away() -> None:
    """Why every hand pads on the right: PEFT puts its rows in front of the padding and takes no position ids."""
    best = peer("llama", "best_hand")
    batch = best.encode(TEXTS[:1], None, WORDING)
    ids = torch.cat([torch.zeros(1, 9, dtype=torch.long), batch.input_ids], dim=1)
    mask = torch.cat([torch.zeros(1, 9, dtype=torch.long), batch.attention_mask], dim=1)
    moved = best.model(input_ids=ids, attention_mask=mask, logits_to_keep=1).logits[:, 0, batch.columns]
    assert (moved - best.scores(batch)).abs().max() > 1e-2


@pytest.mark.parametrize("max_length", [24, 14])
def test_tokens_are_those_that_ptune_reads(max_length: int) -> None:
    tokens = tiny_backbone("llama").tokens
    template = Template.parse(f"{{soft:{NUM_TOKENS}}}{WORDING.prefix}{{text}}{WORDING.suffix} {{mask}}")
    words = WORDING.label_words
    batch = peer("llama", "best_hand").encode(TEXTS, None, Wording(WORDING.prefix, WORDING.suffix, words, max_length))
    for row, ids, at in zip(TEXTS, batch.input_ids, batch.answer_at, strict=True):
        segments = template.render({"text": row})
        layout = soft_layout(template, tokens)
        ours = encode(segments, tokens, layout, max_length=max_length + NUM_TOKENS + 1)
        hard = [token for token, soft in zip(ours.ids, ours.soft, strict=True) if soft < 0]
        assert ids[: at + 1].tolist() == hard


@pytest.mark.parametrize("hand", list(HAND_TITLES))
def test_training_changes_the_prompt_alone_and_learns(hand: str) -> None:
    one = peer("llama", hand)
    frozen = {name: value.clone() for name, value in one.model.named_parameters() if not value.requires_grad}
    assert [parameter.shape for parameter in one.parameters] == [one.prompt.shape]
    looks = one.fit(ROWS, 25, 0.1, validation=ROWS, wording=WORDING, batch_size=5, evaluate_every=10)
    assert [look["step"] for look in looks] == [10, 20, 25]
    assert looks[-1]["loss"] < 0.8 * looks[0]["loss"]
    assert time_to(looks, 0.0) == looks[0]["train_seconds"] <= looks[0]["wall_seconds"]
    assert all(torch.equal(value, frozen[name]) for name, value in one.model.named_parameters() if name in frozen)
    again = one.fit(ROWS, 25, 0.1, validation=ROWS, wording=WORDING, batch_size=5, evaluate_every=10, until=0.0)
    assert [look["loss"] for look in again] == [looks[0]["loss"]]


def test_words_of_several_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="one token of its own"):
        peer("llama", "documented").encode(TEXTS, None, Wording("", " It was", {"yes": " great", "no": " disappointing music"}))


@pytest.mark.parametrize("max_tokens", [1, 60, 4096])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_brute_force_equals_one_pair_at_a_time(kind: str, max_tokens: int) -> None:
    model, tokens = tiny_model(kind, attention="sdpa"), tiny_backbone(kind).tokens
    prompts = [[*tokens.start_ids, *tokens.ids(text)] for text in TEXTS]
    labels = [tokens.ids(word) for word in (" great", " disappointing music", " bad", " very bad news")]
    scores = brute_force_scores(model, prompts, labels, max_tokens=max_tokens)
    for row, prompt in enumerate(prompts):
        for column, label in enumerate(labels):
            logprobs = model(torch.tensor([[*prompt, *label]])).logits[0].log_softmax(-1)
            expected = sum(logprobs[len(prompt) - 1 + at, token] for at, token in enumerate(label))
            torch.testing.assert_close(scores[row, column], expected, rtol=1e-4, atol=1e-4)


def test_timing_alternates_and_sees_memory() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(medians(seconds)) == {"a", "b"} and len(seconds["a"]) == 2
    assert 95 < peak_memory(lambda: torch.ones(25_000_000).sum().item()) < 130
