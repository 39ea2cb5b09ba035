"""The living rival: LoRA, prompt tuning, prefix tuning and p-tuning through `peft` itself, each with its best hand.

Where the model scores words, the rival reads the recipe's template and label words (see `wording`) and trains on
cross-entropy over their columns, with logits at the answers alone and dynamic padding; else LoRA takes transformers'
classifier. Prompt tuning starts at rows of frequent words, prefix tuning at zero. All choose among learning rates as every
contender does. Prompts stand in front of everything, [CLS] included: PEFT knows no other place. The model's preference for a
label (prior) stays in their scores: PEFT does not know it, and ptune's own prompts take it out before they learn. Source: peft;
its hints in `method_comparison/`.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptune.backbone import Backbone
from ptune.compare.baselines.fine_tuning import TunedClassifier, train_classifier
from ptune.compare.baselines.loop import train_network
from ptune.compare.baselines.optional import need, package_version
from ptune.compare.baselines.plain import by_length, padded, plain_classifier, plain_language_model
from ptune.compare.baselines.wording import PlainRow, Wording, why_no_wording, wording_of
from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Probabilities, Registry, Setup, rates
from ptune.data import Example

__all__ = ["NUM_TOKENS", "PeftMethod"]

NUM_TOKENS = 20
_RANK = 8
_VOCABULARY_SHARE = 0.08
"""Prompt tuning's rate in units of the embeddings' size: 0.01 on SmolLM2, where 0.003 to 0.03 were found to be the best."""


@dataclass(kw_only=True)
class _Peft(Fitted):
    setup: Setup
    wording: Wording
    model: Any
    num_in_front: int

    def scores(self, rows: Sequence[PlainRow]) -> Tensor:
        """[B, C] label scores of token rows."""
        batch = padded([row.ids for row in rows], self.setup.model().tokens.pad_id)
        at = torch.tensor([row.at for row in rows]) + self.num_in_front
        inputs: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if self.setup.model().kind == "decoder":
            places, where = torch.unique(at, return_inverse=True)
            logits = self.model(**inputs, logits_to_keep=places).logits[torch.arange(len(rows)), where]
        else:
            logits = self.model(**inputs).logits[torch.arange(len(rows)), at]
        return self.wording.label_scores(logits)

    @torch.no_grad()
    def predict(self, rows: Sequence[Example]) -> Probabilities:
        """In batches of like lengths."""
        self.model.eval()
        plain = self.wording.rows(rows)
        found = torch.zeros(len(rows), len(self.setup.labels), dtype=torch.double)
        for batch in by_length([len(row.ids) for row in plain]):
            found[batch] = torch.softmax(self.scores([plain[row] for row in batch]).double(), 1)
        probabilities: Probabilities = found.numpy()
        return probabilities


class PeftMethod(Contender):
    """One method of PEFT.

    Args:
        name, title: of the row.
        build: (peft, task type, backbone) -> its config.
        rate: backbone -> default learning rate.
        num_room: positions that its tokens take up.
        num_in_front: those of them that stand in the row itself and shift the text's places in the output.
        paradigm: LoRA tunes weights, the others prompt.
    """

    needs: Needs = "backbone"
    packages = (("peft", "peft"), *ON_TORCH)
    copies_model = True
    load_per_step = 2.5

    def __init__(
        self,
        name: str,
        title: str,
        build: Callable[[Any, str, Backbone], Any],
        rate: Callable[[Backbone], float],
        *,
        num_room: int = NUM_TOKENS,
        num_in_front: int = 0,
        paradigm: Paradigm = "prompting",
    ) -> None:
        self.name, self.title, self.paradigm = name, title, paradigm
        self._build, self._rate, self._num_room, self._num_in_front = build, rate, num_room, num_in_front

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Factors of the default learning rate."""
        return [{"rate_factor": settings["learning_rate"]} for settings in rates(1.0, count)]

    def refusal(self, setup: Setup) -> str:
        """Which of an encoder-decoder's stacks a rival should adapt is not settled here."""
        return "PEFT's rows are for causal and masked models here" if setup.model().kind == "encoder-decoder" else ""

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Wraps a copy of the model and trains what PEFT adds."""
        peft, backbone = need("peft"), setup.model()
        rate, facts = self._rate(backbone) * settings["rate_factor"], {"package": package_version("peft")}
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            room = (self._num_room, self._num_in_front)
            if why_no_wording(setup, *room):
                model = plain_classifier(backbone, len(setup.labels), seed)
                tuned = TunedClassifier(setup=setup, model=peft.get_peft_model(model, self._build(peft, "SEQ_CLS", backbone)))
                train_classifier(tuned, train, validation, seed=seed, rate=rate)
                tuned.num_bytes, tuned.facts = 4 * tuned.num_trained, facts | {"readout": "classifier"}
                return tuned
            task_type = "CAUSAL_LM" if backbone.kind == "decoder" else "FEATURE_EXTRACTION"
            model = peft.get_peft_model(plain_language_model(backbone), self._build(peft, task_type, backbone))
            self._start(model, backbone, seed)
            fitted = _Peft(
                setup=setup,
                wording=wording_of(setup, *room),
                model=model,
                num_in_front=self._num_in_front,
                facts=facts | {"readout": "label words"},
            )
            _train(fitted, train, validation, seed=seed, rate=rate)
        stored = NUM_TOKENS * backbone.spec.embedding_size if self.name == "peft-p-tuning" else fitted.num_trained
        fitted.num_bytes = 4 * stored
        return fitted

    @torch.no_grad()
    def _start(self, model: Any, backbone: Backbone, seed: int) -> None:
        """Prompt tuning at frequent words: PEFT's own sampling draws rare pieces and unused rows too."""
        if self.name != "peft-prompt-tuning":
            return
        ids = backbone.tokens.frequent_words()
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = [ids[order[row % len(order)]] for row in range(NUM_TOKENS)]
        model.prompt_encoder["default"].embedding.weight.copy_(backbone.embed(torch.tensor(chosen)))


def _train(fitted: _Peft, train: Sequence[Example], validation: Sequence[Example], *, seed: int, rate: float) -> None:
    """Trains what PEFT left to learn; dropout of the model itself is off, as it is for ptune's own prompts."""
    setup, model = fitted.setup, fitted.model.eval()
    rows, classes = fitted.wording.rows(train), torch.from_numpy(setup.classes(train))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss_of(numbers: Sequence[int]) -> Tensor:
        return nn.functional.cross_entropy(fitted.scores([rows[row] for row in numbers]), classes[list(numbers)])

    fitted.num_trained = sum(parameter.numel() for parameter in learned)
    fitted.curve = train_network(
        [{"params": learned, "lr": rate}],
        loss_of,
        lambda: fitted.predict(validation),
        setup.classes(validation),
        num_rows=len(train),
        num_steps=setup.steps(len(train)),
        batch_size=setup.batch_size,
        seed=seed,
    )


def _prompt_tuning(peft: Any, task_type: str, backbone: Backbone) -> Any:
    size = backbone.spec.embedding_size  # PEFT takes the width, which is another number in ELECTRA and ALBERT
    return peft.PromptTuningConfig(task_type=task_type, num_virtual_tokens=NUM_TOKENS, token_dim=size)


def _prefix_tuning(peft: Any, task_type: str, backbone: Backbone) -> Any:
    return peft.PrefixTuningConfig(task_type=task_type, num_virtual_tokens=NUM_TOKENS, init_weights="zero")


def _p_tuning(peft: Any, task_type: str, backbone: Backbone) -> Any:
    size = backbone.spec.embedding_size
    return peft.PromptEncoderConfig(
        task_type=task_type, num_virtual_tokens=NUM_TOKENS, token_dim=size, encoder_hidden_size=size
    )


def _lora(peft: Any, task_type: str, backbone: Backbone) -> Any:
    known = importlib.import_module("peft.utils").TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    where = None if backbone.spec.architecture in known else "all-linear"
    return peft.LoraConfig(task_type=task_type, r=_RANK, lora_alpha=2 * _RANK, lora_dropout=0.0, target_modules=where)


Registry.add(
    PeftMethod(
        "peft-prompt-tuning",
        "PEFT prompt tuning",
        _prompt_tuning,
        lambda backbone: _VOCABULARY_SHARE * backbone.spec.embedding_rms,
        num_in_front=NUM_TOKENS,
    )
)
Registry.add(PeftMethod("peft-prefix-tuning", "PEFT prefix tuning", _prefix_tuning, lambda backbone: 1e-2))
Registry.add(PeftMethod("peft-p-tuning", "PEFT p-tuning", _p_tuning, lambda backbone: 1e-3, num_in_front=NUM_TOKENS))
Registry.add(PeftMethod("lora", "LoRA (PEFT)", _lora, lambda backbone: 1e-3, num_room=0, paradigm="fine-tuning"))
