"""The rival: PEFT's prompt tuning of a causal model, by three hands, each on its own copy of the weights (fp32, sdpa).

- `documented`: as PEFT's guides do it: text and label word as one sequence, labels -100 on the text, the model's own loss over
  full logits, PEFT's default (random) start, AdamW at 3e-2. Its padding is kinder than the guides': see `encode`.
- `best_hand`: start at rows of frequent words, `logits_to_keep` at the answer, cross-entropy over the label words' columns, no
  cache, no mask (padding on the right, which a causal model never looks at), texts of like lengths together when scoring.
- `pad_to_max`: OpenPrompt's algorithm, our reimplementation on PEFT's forward: padded to 256, full logits, then label words.
`python bench/peft_peer.py --check [--model NAME]` shows that the hands score alike with the same prompt.
"""

import argparse
import inspect
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ptune.backbone import catalogue, entry, local_folder
from ptune.inputs import Tokens

Hand = Literal["documented", "best_hand", "pad_to_max"]
HAND_TITLES: dict[Hand, str] = {
    "documented": "PEFT as documented",
    "best_hand": "PEFT, best hand",
    "pad_to_max": "OpenPrompt's algorithm (our reimplementation: padded to 256, full logits)",
}
MAX_LENGTH = 256
Row = tuple[str, str]  # text, label
DOCUMENTED_RATE = 3e-2  # of the guide "Prompt-based methods", with AdamW


@dataclass(frozen=True)
class Wording:
    """The hard words of a template `prefix{text}suffix{mask}`, and one word per label in the order of the classes.

    White space in front of the answer belongs to the word (" great"), as in ptune. `max_length` is as in `encode`.
    """

    prefix: str
    suffix: str
    label_words: Mapping[str, str]
    max_length: int = MAX_LENGTH


@dataclass(frozen=True)
class PeerBatch:
    """Rows of one forward pass.

    Args:
        input_ids: [B, T] without the learned rows, padded on the right.
        attention_mask: [B, T].
        answer_at: [B] the last token in front of the answer, counted without the learned rows.
        columns: [C] the token of each label's word.
        targets: [B] class numbers, None where no labels were given.
        lm_labels: [B, T] the label word's tokens, -100 elsewhere; only for `documented`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_at: Tensor
    columns: Tensor
    targets: Tensor | None = None
    lm_labels: Tensor | None = None


def encode(
    texts: Sequence[str],
    labels: Sequence[str] | None,
    tokenizer: Tokens,
    template_prefix: str,
    template_suffix: str,
    label_words: Mapping[str, str],
    hand: Hand,
    *,
    max_length: int = MAX_LENGTH,
    pad_to: int | None = None,
) -> PeerBatch:
    """Lays out one batch with the tokens that ptune reads: start token, prefix, text and suffix tokenised as one.

    `documented` appends the label word, as PEFT's guide clm-prompt-tuning did; its successor, prompt_based_methods, lays it
    over the end of the text, which asks for the word one token early. Padding is on the right: PEFT puts its rows in front of
    the padding and ignores position ids, so the guides' padding on the left to a maximum moves the rows away from the text.

    Args:
        texts: the texts to classify.
        labels: a label for each, or None to score only.
        tokenizer: of the peer (`peer.tokens`).
        template_prefix: hard words in front of the text.
        template_suffix: hard words behind it, without the white space that belongs to the label words.
        label_words: label -> its word; each is one token.
        hand: who lays it out; `pad_to_max` pads to `max_length`.
        max_length: hard tokens of a row (start token included; learned rows and label word not); a longer text loses its end.
        pad_to: pad all rows to at least this many tokens, not only to the longest of the batch.
    """
    columns = _columns(tokenizer, template_suffix, label_words)
    rows = [_text_ids(text, tokenizer, template_prefix, template_suffix, max_length) for text in texts]
    answer_at = torch.tensor([len(row) - 1 for row in rows])
    names = list(label_words)
    targets = None if labels is None else torch.tensor([names.index(label) for label in labels])
    with_word = hand == "documented" and targets is not None
    if with_word:
        rows = [[*row, word] for row, word in zip(rows, columns[targets].tolist(), strict=True)]
    length = max(*map(len, rows), pad_to or 0, max_length if hand == "pad_to_max" else 0)
    input_ids = torch.tensor([row + [tokenizer.pad_id] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    lm_labels = None
    if with_word:
        lm_labels = torch.full_like(input_ids, -100).scatter(1, answer_at[:, None] + 1, columns[targets][:, None])
    return PeerBatch(input_ids, mask, answer_at, columns, targets, lm_labels)


def _columns(tokens: Tokens, suffix: str, label_words: Mapping[str, str]) -> Tensor:
    """[C] the one token of each label's word."""
    ids = {label: tokens.word_ids(word, suffix) for label, word in label_words.items()}
    if any(len(word) != 1 for word in ids.values()) or len(set(ids.values())) < len(ids):
        raise ValueError(f"each label needs a word of one token of its own: {ids}")
    return torch.tensor([word[0] for word in ids.values()])


def _text_ids(text: str, tokens: Tokens, prefix: str, suffix: str, max_length: int) -> list[int]:
    """Ids of one row up to the answer; where it is too long, tokens that end inside the text go, the last ones first."""
    ids, spans = tokens.spans(prefix + text + suffix)
    excess = len(tokens.start_ids) + len(ids) - max_length
    if excess > 0:
        inside = [at for at, (_, end) in enumerate(spans) if len(prefix) < end <= len(prefix) + len(text)]
        if excess > len(inside):
            raise ValueError(f"the template alone has more than {max_length} tokens")
        cut = set(inside[-excess:])
        ids = tuple(token for at, token in enumerate(ids) if at not in cut)
    return [*tokens.start_ids, *ids]


class PeerModel:
    """A PEFT model with an optimiser, trained and asked the way its hand does it.

    Args:
        model: a loaded causal model; PEFT freezes it.
        tokens: its tokenizer.
        num_tokens: P, learned rows in front of everything.
        hand: see the module.
        seed: of the start.
        learning_rate: of AdamW.
        init_text: words at whose rows the prompt starts; None leaves the start to the hand.
    """

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        num_tokens: int,
        hand: Hand,
        seed: int,
        learning_rate: float = DOCUMENTED_RATE,
        init_text: str | None = None,
    ) -> None:
        if hand not in get_args(Hand):
            raise ValueError(f"no hand {hand!r}: use one of {', '.join(get_args(Hand))}")
        self.tokens, self.hand, self.num_tokens = tokens, hand, num_tokens
        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=num_tokens)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = get_peft_model(model, config).eval()
        self.keeps_logits = "logits_to_keep" in inspect.signature(type(model).forward).parameters
        if init_text is not None:
            self._start_at(model, tokens.ids(init_text))
        elif hand != "documented":
            self._start_at(model, _frequent(tokens, num_tokens, seed))
        self._start = self.prompt.detach().clone()
        self.reset(learning_rate)

    @property
    def prompt(self) -> torch.nn.Parameter:
        """[P, D] the learned rows."""
        return self.model.prompt_encoder["default"].embedding.weight

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """All that is trained: the prompt alone."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def reset(self, learning_rate: float = DOCUMENTED_RATE) -> None:
        """Back to the first rows, with a new optimiser."""
        with torch.no_grad():
            self.prompt.copy_(self._start)
        self.optimiser = torch.optim.AdamW(self.parameters, lr=learning_rate)

    def encode(
        self, texts: Sequence[str], labels: Sequence[str] | None, wording: Wording, *, pad_to: int | None = None
    ) -> PeerBatch:
        """`encode` for this peer's tokenizer and hand."""
        words = (wording.prefix, wording.suffix, wording.label_words)
        return encode(texts, labels, self.tokens, *words, self.hand, max_length=wording.max_length, pad_to=pad_to)

    def train_step(self, batch: PeerBatch) -> float:
        """Forward, backward, optimiser step, gradients cleared; returns the loss."""
        loss = self.loss(batch)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item()

    def loss(self, batch: PeerBatch) -> Tensor:
        """The hand's loss of a labelled batch."""
        if self.hand != "documented":
            return F.cross_entropy(self._label_logits(batch), batch.targets)
        if batch.lm_labels is None:
            raise ValueError("a documented batch is trained on with labels from `encode`")
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.lm_labels}
        return self.model(**inputs).loss

    @torch.no_grad()
    def scores(self, batch: PeerBatch) -> Tensor:
        """[B, C] logits of the labels' words; the largest is the answer."""
        return self._label_logits(batch)

    def predict(self, texts: Sequence[str], wording: Wording, batch_size: int = 32) -> list[int]:
        """Class numbers of many texts; the best hand puts texts of like lengths together."""
        order = list(range(len(texts)))
        if self.hand == "best_hand":
            order.sort(key=lambda row: len(texts[row]))
        answers = [0] * len(texts)
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            best = self.scores(self.encode([texts[row] for row in rows], None, wording)).argmax(-1).tolist()
            for row, answer in zip(rows, best, strict=True):
                answers[row] = answer
        return answers

    def accuracy(self, rows: Sequence[Row], wording: Wording, batch_size: int = 32) -> float:
        """Share of (text, label) rows that are answered right."""
        names = list(wording.label_words)
        answers = self.predict([text for text, _ in rows], wording, batch_size)
        return sum(names[answer] == label for answer, (_, label) in zip(answers, rows, strict=True)) / len(rows)

    def fit(
        self,
        rows: Sequence[Row],
        steps: int,
        learning_rate: float,
        *,
        validation: Sequence[Row],
        wording: Wording,
        batch_size: int = 8,
        evaluate_every: int = 10,
        until: float | None = None,
        seed: int = 0,
    ) -> list[dict[str, float]]:
        """Trains from the first rows, with AdamW and the guide's linear decay, and tells how accuracy grows with time.

        Args:
            rows: (text, label) to learn from, in a new order every round.
            steps: optimiser steps at most; the rate falls to zero over them.
            learning_rate: at the first step.
            validation: (text, label) to judge on, every `evaluate_every` steps and at the end.
            until: stop at the first look that reaches this accuracy.
            seed: of the order.

        Returns:
            One entry per look: `step`, `accuracy`, mean `loss` since the last look, `train_seconds` (tokenising and steps only)
            and `wall_seconds` (looks included).
        """
        self.reset(learning_rate)
        decay = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 - step / steps)
        batches = _shuffled(rows, batch_size, seed)
        looks: list[dict[str, float]] = []
        train_seconds, began, step = 0.0, time.perf_counter(), 0
        while step < steps and (until is None or not looks or looks[-1]["accuracy"] < until):
            losses, started = [], time.perf_counter()
            for texts, labels in islice(batches, min(evaluate_every, steps - step)):
                losses.append(self.train_step(self.encode(texts, labels, wording)))
                decay.step()
            train_seconds += time.perf_counter() - started
            step += len(losses)
            look = {"step": step, "accuracy": self.accuracy(validation, wording), "loss": sum(losses) / len(losses)}
            looks.append({**look, "train_seconds": train_seconds, "wall_seconds": time.perf_counter() - began})
        return looks

    def _label_logits(self, batch: PeerBatch) -> Tensor:
        if self.hand == "best_hand":
            logits_BV = self._answer_logits(batch)
        else:
            logits_BSV = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            logits_BV = logits_BSV[torch.arange(len(batch.answer_at)), self.num_tokens + batch.answer_at]
        return logits_BV[:, batch.columns]

    def _answer_logits(self, batch: PeerBatch) -> Tensor:
        """[B, V] at the answers' positions alone. A causal model never looks at padding on the right, so no mask is given."""
        at_B1 = self.num_tokens + batch.answer_at[:, None]
        if self.keeps_logits:
            return self.model(input_ids=batch.input_ids, logits_to_keep=at_B1, use_cache=False).logits[:, 0]
        logits_BSV = self.model(input_ids=batch.input_ids, use_cache=False).logits
        return logits_BSV.take_along_dim(at_B1[..., None], dim=1)[:, 0]

    @torch.no_grad()
    def _start_at(self, model: Any, ids: Sequence[int]) -> None:
        """Rows of these words, over again where they are too few, as PEFT's own TEXT start has it."""
        chosen = [ids[row % len(ids)] for row in range(self.num_tokens)]
        self.prompt.copy_(model.get_input_embeddings()(torch.tensor(chosen)))


def _frequent(tokens: Tokens, count: int, seed: int) -> list[int]:
    """PEFT's own SAMPLE_VOCAB draws from the whole vocabulary, rare pieces and unused rows too; here from ptune's list."""
    ids = tokens.frequent_words()
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    return [ids[order[row % len(order)]] for row in range(count)]


def build_peer(
    folder: str | Path,
    num_tokens: int,
    hand: Hand,
    seed: int,
    *,
    learning_rate: float = DOCUMENTED_RATE,
    text_start: str | None = None,
    init_text: str | None = None,
) -> PeerModel:
    """Loads a copy of the model of a folder for one hand.

    Args:
        folder: a Hugging Face model folder.
        num_tokens: learned rows.
        hand: see the module.
        seed: of the start.
        learning_rate: of AdamW.
        text_start: the token that plain text starts with; None takes the catalogue's for a folder of its name.
        init_text: words at whose rows the prompt starts; None leaves the start to the hand.
    """
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="sdpa").eval()
    known = catalogue().get(Path(folder).name)
    start = text_start if text_start is not None else (known.text_start if known else None)
    tokens = Tokens(AutoTokenizer.from_pretrained(str(folder)), "decoder", start)
    return PeerModel(model, tokens, num_tokens, hand, seed, learning_rate, init_text)


def time_to(looks: Sequence[Mapping[str, float]], accuracy: float, clock: str = "train_seconds") -> float | None:
    """Seconds until the first look with that accuracy, None where it was never reached."""
    return next((look[clock] for look in looks if look["accuracy"] >= accuracy), None)


def _shuffled(rows: Sequence[Row], batch_size: int, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Batches of texts and labels without end, each round of the rows in a new order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator).tolist()
        for first in range(0, len(order), batch_size):
            chosen = [rows[row] for row in order[first : first + batch_size]]
            yield [text for text, _ in chosen], [label for _, label in chosen]


def check(model: str, num_tokens: int = 5) -> float:
    """Largest difference between the hands' scores with the same prompt, on three texts of different lengths."""
    folder = local_folder(entry(model))
    if folder is None:
        raise SystemExit(f"{model} is not here: ptune models pull {model}")
    wording = Wording("", " It was", {"positive": " great", "negative": " terrible"}, max_length=48)
    texts = ["A joy.", "The plot is thin and the jokes are old, yet the cast saves the evening.", "Never again"]
    peers = {hand: build_peer(folder, num_tokens, hand, seed=1) for hand in get_args(Hand)}
    scores = {}
    for hand, peer in peers.items():
        with torch.no_grad():
            peer.prompt.copy_(peers["best_hand"].prompt)
        scores[hand] = peer.scores(peer.encode(texts, None, wording))
    return max((scores[hand] - scores["documented"]).abs().max().item() for hand in scores)


def main() -> int:
    """`--check`: exits with 1 where the hands' scores differ by more than fp32 explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("--model", default="smollm2-135m-q4")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    difference = check(options.model)
    print(f"{options.model}: label logits of the three hands differ by at most {difference:.2e}")
    return int(difference > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
