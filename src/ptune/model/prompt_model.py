"""A prompt, a frozen backbone and a readout as one `nn.Module` that any torch loop can train.

In: rows of data (`prepare`), then batches of them. Out: `Outcome` with label scores and, where labels are known, the loss.
`parameters()` and `state_dict()` hold what is learned and nothing of the backbone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptune.backbone import Backbone, LeadContexts
from ptune.data import LabelSet, label_text
from ptune.errors import RecipeError, VerbalizerError
from ptune.inputs import (
    AnswerWords,
    Batch,
    FillOrder,
    Place,
    PoolKind,
    SoftLayout,
    lay_out_filled,
    soft_layout,
)
from ptune.model.parts import (
    Outcome,
    Prepared,
    Tune,
    build_members,
    check_template,
    checked_length,
    ensemble_scores,
    init_sources,
)
from ptune.model.rows import BatchedRows
from ptune.objective import classification_loss
from ptune.prompt import (
    CandidatePrompts,
    DeepConfig,
    MethodConfig,
    PromptMethod,
    PromptSetup,
    build_prompt,
    parse_method,
    registration,
)
from ptune.readout import HEAD_RATE, LinearHead, Verbalizer, pet_scores, word_scores
from ptune.template import Template

__all__ = ["PromptModel", "Tune"]

LM_RATE = 1e-5
LM_HEAD_RATE = 1e-4


class PromptModel(BatchedRows):
    """See the module's docstring; `PromptModel.build` makes one from the words of a recipe.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        labels: the task's labels.
        verbalizer: label words, or None with a head.
        pool: which hidden states a linear head reads, or None with label words.
        method: the prompt method's config.
        layout: which learned row stands where.
        start: [P, E] initial rows, or a prompt that is ready (a bundle's).
        max_length: tokens of a whole row, None for the model's positions, at most 256.
        fill: how masks of a word of several tokens are filled.
        tune: what learns besides the prompt: nothing (`frozen`, `task-head`), all weights (`lm`), the output layer (`lm-head`).
        class_weights, label_smoothing: of the loss.
        seed: of everything drawn here.
    """

    prior: Tensor

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        labels: LabelSet,
        *,
        verbalizer: Verbalizer | None,
        pool: PoolKind | None,
        method: MethodConfig,
        layout: SoftLayout,
        start: Tensor | PromptMethod,
        max_length: int | None = None,
        fill: FillOrder = "parallel",
        tune: Tune = "frozen",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(labels) < 2:
            raise VerbalizerError(f"{len(labels)} label given, at least two are needed", where="labels")
        self.backbone, self.template, self.labels = backbone, template, labels
        self.verbalizer, self.pool, self.method, self.layout = verbalizer, pool, method, layout
        self.base_fingerprint = backbone.fingerprint
        self.fill: FillOrder = fill
        self.tune: Tune = tune
        self.class_weights, self.label_smoothing = class_weights, label_smoothing
        self.answers: AnswerWords | None = None
        if verbalizer is not None:
            backbone.require_output()
            self.answers = verbalizer.answers(template, backbone.tokens)
        self.max_length = checked_length(backbone, max_length, registration(method).num_deep(method))
        if isinstance(start, PromptMethod):
            self.prompt: PromptMethod = start
        else:
            self.prompt = build_prompt(method, PromptSetup(backbone.spec, layout, start, seed))
        high = torch.float64 if backbone.dtype == torch.float64 else torch.float32
        self.head = None if pool is None else LinearHead(backbone.spec.width, len(labels), seed=seed, dtype=high)
        self.lm_head = nn.Parameter(backbone.require_output().weight.detach().clone().float()) if tune == "lm-head" else None
        with torch.no_grad():
            state = self.prompt()
        shape = (len(labels),) if state.rows is None or state.rows.dim() == 2 else (state.num_candidates, len(labels))
        self.register_buffer("prior", torch.zeros(shape, dtype=high))
        self._leads = LeadContexts()
        if tune == "task-head" and self.head is None:
            raise RecipeError("there is no task head to train", where="tune", fix="set head: linear")
        if len(shape) == 2 and (pool is not None or tune != "frozen"):
            raise RecipeError("candidates are for label words on a frozen model", where="candidates", fix="leave them out here")
        check_template(template, backbone, has_words=self.answers is not None, pool=pool)
        self.to(backbone.device)

    @classmethod
    def build(
        cls,
        *,
        backbone: Backbone,
        template: Template | str,
        labels: Verbalizer | Mapping[str, Any] | Sequence[str],
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        pool: PoolKind | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> "PromptModel":
        """From the words of a recipe.

        Args:
            backbone: a loaded backbone.
            template: text or `Template`.
            labels: label words (mapping or `Verbalizer`); with a head, label names.
            method: prompt method, by name or with settings.
            pool: `cls`, `last`, `mean` or `mask` to read a linear head instead of label words.
            init_rows: [P, E] of another task for `init: bundle`.
            init_deep: [2, N, H_kv, P, K] of each attention stack, of a deep method.
            candidates: prompts to train side by side; they differ in initialisation and learning rate (`prompt.vary`).
            seed: of everything drawn.
            **settings: max_length, fill, tune, class_weights, label_smoothing.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        config = parse_method(method)
        parsed = Template.parse(template) if isinstance(template, str) else template
        entry = registration(config)
        complete = entry.template(config, parsed)
        verbalizer: Verbalizer | None = None
        if pool is None:
            if not isinstance(labels, Verbalizer | Mapping):
                raise VerbalizerError(
                    "label words are missing",
                    where="labels",
                    fix='write labels: {positive: ["great"], ...}, or set head: linear',
                )
            verbalizer = labels if isinstance(labels, Verbalizer) else Verbalizer.parse(labels)
        given = labels.labels if isinstance(labels, Verbalizer) else labels
        names = verbalizer.labels if verbalizer else tuple(label_text(name) for name in given)
        layout = soft_layout(complete, backbone.tokens)
        sources = init_sources(config, backbone, complete, verbalizer, init_rows, init_deep)
        members, factors = build_members(config, backbone, layout, sources, candidates, seed, writes=pool is None)
        return cls(
            backbone,
            complete,
            LabelSet(names),
            verbalizer=verbalizer,
            pool=pool,
            method=config,
            layout=layout,
            start=members[0] if candidates == 1 else CandidatePrompts(members, factors),
            seed=seed,
            **settings,
        )

    # -- batches to scores -------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Label scores, and the loss where every row has a label; of candidates, each one's and their sum."""
        scores = self._label_scores(batch)
        many = scores.dim() == 3
        scores = scores - (self.prior[:, None] if many else self.prior)
        joined = ensemble_scores(scores) if many else scores
        if bool((batch.labels < 0).any()):
            return Outcome(joined, candidate_scores=scores if many else None)
        settings: dict[str, Any] = {"class_weights": self.class_weights, "label_smoothing": self.label_smoothing}
        if not many:
            return Outcome(joined, classification_loss(scores, batch.labels, **settings))
        losses = torch.stack([classification_loss(one, batch.labels, **settings) for one in scores])
        return Outcome(joined, losses.sum(), candidate_scores=scores, candidate_losses=losses)

    def scores(self, prepared: Prepared, *, batch_size: int | None = None) -> Float[Tensor, "B C"]:
        """Label scores of all rows in their own order, without gradients; candidates speak as an ensemble."""
        scores = self.candidate_scores(prepared, batch_size=batch_size)
        return scores[0] if len(scores) == 1 else ensemble_scores(scores)

    def candidate_scores(self, prepared: Prepared, *, batch_size: int | None = None) -> Float[Tensor, "J B C"]:
        """Each candidate's label scores of all rows in their own order, without gradients."""
        many = self.prior.dim() == 2
        out = torch.zeros(len(self.prior) if many else 1, len(prepared), len(self.labels))
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                outcome = self(batch)
                out[:, list(batch.index)] = (outcome.candidate_scores if many else outcome.scores[None]).float().cpu()
        return out

    def keep_candidate(self, number: int) -> None:
        """Goes on with one of the candidates alone."""
        assert isinstance(self.prompt, CandidatePrompts)
        member = self.prompt.members[number]
        assert isinstance(member, PromptMethod)
        self.prompt, self.prior = member, self.prior[number].clone()

    def _label_scores(self, batch: Batch) -> Tensor:
        """[B, C], or [J, B, C] of candidates."""
        if self.head is not None and self.pool == "mean":
            assert batch.pool is not None
            pooled: Tensor = self.head(self.backbone.hidden(batch.live, self.prompt(), batch.contexts), batch.pool)
            return pooled
        if self._fills_one_by_one:
            assert self.verbalizer is not None and self.answers is not None
            return self.verbalizer.label_scores(self._pet_scores(batch), self.answers)
        return self._scores_of(self._read_states(batch), batch)

    def scores_of_states(self, states: Float[Tensor, "U D"], batch: Batch) -> Float[Tensor, "B C"]:
        """Label scores from hidden states that were read elsewhere (in a batch with other tasks), the prior taken out."""
        return self._scores_of(states, batch) - self.prior

    @property
    def can_share_a_batch(self) -> bool:
        """Whether its rows can be read in one batch with other tasks': one prompt, one pass, places on the text's side."""
        by_word = self.answers is not None and not self._fills_one_by_one and self.backbone.kind != "encoder-decoder"
        has_gates = isinstance(self.method, DeepConfig) and self.method.gate
        return self.prior.dim() == 1 and not has_gates and (by_word or self.pool in ("cls", "last", "mask"))

    def _scores_of(self, states: Tensor, batch: Batch) -> Tensor:
        if self.head is not None:
            return self.head.score(states)
        assert self.verbalizer is not None and self.answers is not None
        many = states.dim() == 3
        words = [
            word_scores(one, batch.reads, self._logits, num_examples=batch.num_examples, num_words=len(self.answers))
            for one in (states if many else states[None])
        ]
        scores = [self.verbalizer.label_scores(one, self.answers) for one in words]
        return torch.stack(scores) if many else scores[0]

    def _read_states(self, batch: Batch) -> Tensor:
        """[U, D] hidden states at the places that are read, the decoder's where there is one; [J, U, D] of candidates."""
        decoder = None if self.head is not None else batch.decoder
        states: Tensor = self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts, decoder)
        return states

    def _pet_scores(self, batch: Batch) -> Tensor:
        assert self.answers is not None
        answers, rows = self.answers, batch.rows

        def lay_out(is_filled: Any) -> Batch:
            return lay_out_filled(rows, answers, self.backbone.tokens, is_filled, has_types=self._has_types)

        return pet_scores(lay_out, self._read_states, self._logits, answers, num_examples=batch.num_examples)

    def _logits(self, hidden: Tensor, columns: Tensor | None) -> Tensor:
        return self.backbone.logits(hidden, columns, self.lm_head)

    # -- what is learned ---------------------------------------------------------------------------------------------

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """Groups for an optimiser, each with its default learning rate; `learning_rate` replaces the leading one.

        The leading group is the prompt's; without a learning prompt it is the backbone's, its output layer's or the head's.
        """
        prompt = list(self.prompt.parameters())
        groups: list[dict[str, Any]] = []
        if isinstance(self.prompt, CandidatePrompts):
            base = self.prompt.learning_rate if learning_rate is None else learning_rate
            for number, (member, factor) in enumerate(zip(self.prompt.members, self.prompt.rate_factors, strict=True)):
                groups.append({"name": f"candidate-{number}", "params": list(member.parameters()), "lr": base * factor})
            return groups
        if prompt:
            groups.append({"name": "prompt", "params": prompt, "lr": self.prompt.learning_rate})
        if self.tune == "lm":
            groups.append({"name": "lm", "params": list(self.backbone.model.parameters()), "lr": LM_RATE})
        if self.lm_head is not None:
            groups.append({"name": "lm-head", "params": [self.lm_head], "lr": LM_HEAD_RATE})
        if self.head is not None:
            groups.append({"name": "head", "params": list(self.head.parameters()), "lr": HEAD_RATE})
        if groups and learning_rate is not None:
            groups[0]["lr"] = learning_rate
        return groups

    @property
    def num_trained(self) -> int:
        """Number of parameters that learn."""
        return sum(parameter.numel() for group in self.parameter_groups() for parameter in group["params"])

    def without_prompt(self) -> "PromptModel":
        """The same task with the hard template and label words alone: zero-shot."""
        return PromptModel.build(
            backbone=self.backbone,
            template=self.template.without_soft(),
            labels=self.verbalizer or list(self.labels.names),
            method="hard",
            pool=self.pool,
            max_length=self.max_length,
            fill=self.fill,
        )
