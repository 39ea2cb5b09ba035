"""Tasks that score labels: by label words in the template's answer slot, or by a linear head on pooled hidden states.

In: rows. Out: label scores [B, C] (of candidates [J, B, C]), the model's own preference among labels taken out. What scores
mean, and the loss on them, is each kind's: one label of several (`PromptModel`), any number of them, a number on a scale.
"""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import LabelSet, label_text
from ptune.errors import VerbalizerError
from ptune.inputs import (
    AnswerWords,
    Batch,
    Context,
    FillOrder,
    Place,
    PoolKind,
    SoftLayout,
    StoredContext,
    lay_out_filled,
    lay_out_pooled,
    lay_out_words,
    num_laid_out,
)
from ptune.model.outcome import Prepared
from ptune.model.parts import Tune, check_template, ensemble_scores
from ptune.model.task_model import LabelsAre, TaskModel
from ptune.prompt import CandidatePrompts, DeepConfig, MethodConfig, PromptMethod, parse_method
from ptune.readout import (
    HeadForm,
    LabelHead,
    LinearHead,
    ModelHead,
    Verbalizer,
    build_head,
    form_of,
    form_settings,
    kept_form,
    needs_words,
    num_scored,
    pet_scores,
    word_scores,
)
from ptune.template import Template

__all__ = ["LabelModel"]

L = TypeVar("L", bound="LabelModel")


class LabelModel(TaskModel, ABC):
    """See the module's docstring; `build` makes one from the words of a recipe.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        labels: the task's labels.
        verbalizer: label words, or None with a head that needs none.
        pool: which hidden states a head reads, or None with label words.
        form: of the head that transformers' own models have, or the name of a label head; None for a linear head.
        method: the prompt method's config.
        layout: which learned row stands where.
        start: [P, E] initial rows, or a prompt that is ready (a bundle's).
        columns: recipe key -> column, see `TaskModel`.
        max_length: tokens of a whole row, None for the model's positions, at most 256.
        fill: how masks of a word of several tokens are filled.
        tune: what learns besides the prompt: nothing (`frozen`, `task-head`), all weights (`lm`), the output layer (`lm-head`).
        class_weights, label_smoothing: of the loss.
        seed: of everything drawn here.
    """

    keys: ClassVar[tuple[str, ...]] = ("labels", "pool", "fill", "class_weights", "label_smoothing")
    labels_are: ClassVar[LabelsAre] = "required"
    label_words: ClassVar[bool] = True
    takes_candidates: ClassVar[bool] = True
    min_labels: ClassVar[int] = 2

    prior: Tensor
    head: LinearHead | ModelHead | LabelHead | None
    temperature: float = 1.0  # scores are divided by it once training is over, so that probabilities mean what they say

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
        columns: Mapping[str, str] | None = None,
        max_length: int | None = None,
        fill: FillOrder = "parallel",
        form: HeadForm | str | None = None,
        tune: Tune = "frozen",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if len(labels) < self.min_labels:
            raise VerbalizerError(f"{len(labels)} label given, at least two are needed", where="labels")
        answers: AnswerWords | None = None
        if verbalizer is not None:
            backbone.require_output()
            answers = verbalizer.answers(template, backbone.tokens)
        super().__init__(
            backbone,
            template,
            method=method,
            layout=layout,
            start=start,
            columns=columns,
            max_length=max_length,
            tune=tune,
            seed=seed,
        )
        self.labels, self.verbalizer, self.pool = labels, verbalizer, pool
        self.answers = answers if pool is None else None  # what is scored; a head may start from them
        self.fill: FillOrder = fill
        self.class_weights, self.label_smoothing = class_weights, label_smoothing
        high = self.head_dtype
        num_slots = verbalizer.num_slots if verbalizer is not None and pool is None else 1
        check_template(template, backbone, has_words=pool is None, pool=pool, num_slots=num_slots)
        if pool is not None:
            self.head = self.build_head(form, answers)
        shape = (self.num_candidates, self.num_outputs) if self.has_candidates else (self.num_outputs,)
        self.register_buffer("prior", torch.zeros(shape, dtype=high))
        self.check_readout()
        self.to(backbone.device)

    @classmethod
    def build(  # type: ignore[override]  # labels must be given
        cls: type[L],
        *,
        backbone: Backbone,
        template: Template | str,
        labels: Verbalizer | Mapping[str, Any] | Sequence[str],
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        pool: PoolKind | None = None,
        form: HeadForm | str | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> L:
        """From the words of a recipe.

        Args:
            backbone: a loaded backbone.
            template: text or `Template`.
            labels: label words (mapping or `Verbalizer`); with a head, label names.
            method: prompt method, by name or with settings.
            pool: `cls`, `last`, `mean` or `mask` to read a head instead of label words.
            form: of that head, see the class; None for a linear one.
            init_rows: [P, E] of another task for `init: bundle`.
            init_deep: [2, N, H_kv, P, K] of each attention stack, of a deep method.
            candidates: prompts to train side by side; they differ in initialisation and learning rate (`prompt.vary`).
            seed: of everything drawn.
            **settings: max_length, fill, tune, class_weights, label_smoothing, and what the kind of task adds.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        config = parse_method(method)
        parsed = Template.parse(template) if isinstance(template, str) else template
        verbalizer: Verbalizer | None = None
        if pool is None or (isinstance(form, str) and needs_words(form)):
            if not isinstance(labels, Verbalizer | Mapping):
                raise VerbalizerError(
                    "label words are missing",
                    where="labels",
                    fix='write labels: {positive: ["great"], ...}, or set head: linear',
                )
            slots = max(1, parsed.num_masks)
            verbalizer = labels if isinstance(labels, Verbalizer) else Verbalizer.parse(labels, num_slots=slots)
        given = labels.labels if isinstance(labels, Verbalizer) else labels
        names = verbalizer.labels if verbalizer else tuple(label_text(name) for name in given)
        first = cls.start(
            backbone,
            parsed,
            config,
            verbalizer=verbalizer,
            init_rows=init_rows,
            init_deep=init_deep,
            candidates=candidates,
            seed=seed,
            writes=pool is None,
        )
        return cls(
            backbone,
            first.template,
            LabelSet(names),
            verbalizer=verbalizer,
            pool=pool,
            form=form,
            **first.common,
            seed=seed,
            **settings,
        )

    def build_head(self, form: HeadForm | str | None, answers: AnswerWords | None) -> LinearHead | ModelHead | LabelHead:
        """A head of that form, or a linear one."""
        assert not isinstance(form, str)
        return build_head(self.backbone.spec.width, self.num_outputs, form, seed=self.seed, dtype=self.head_dtype)

    @classmethod
    def model_form(cls, backbone: Backbone) -> HeadForm:
        """The head of the backbone's own classification model."""
        return form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in the order of scores."""
        return self.labels.names

    @property
    def num_outputs(self) -> int:
        """Scores that a head gives."""
        return len(self.labels)

    # -- rows to batches ---------------------------------------------------------------------------------------------

    @property
    def num_answer_tokens(self) -> int:
        """Tokens of the longest label word."""
        return self.answers.max_tokens if self.answers else 1

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens of the label words' branches or rows, with what stands between and behind the answer slots in each."""
        if self.answers is None:
            return 0
        row = prepared.encoded[number]
        if self._fills_one_by_one:  # a pass has a row for each word
            return sum(len(row) + len(word) for word in self.answers.ids) - len(row)
        return num_laid_out(row, self.answers, self.backbone.tokens, order=self.fill) - len(row)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> Batch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        rows = [prepared.encoded[i] for i in index]
        settings: dict[str, Any] = {
            "labels": [prepared.labels[i] for i in index] if prepared.labels else [-1] * len(rows),
            "index": index,
            "contexts": contexts,
            "skip": skip,
            "has_types": self._has_types,
        }
        if self.answers is None:
            assert self.pool is not None
            return lay_out_pooled(rows, self.pool, self.backbone.tokens, **settings)
        order = "parallel" if self.fill == "pet" else self.fill
        batch = lay_out_words(rows, self.answers, self.backbone.tokens, order=order, **settings)
        return replace(batch, rows=tuple(rows)) if self._fills_one_by_one else batch

    def why_read_all(self) -> str:
        """A head may pool tokens that would be kept."""
        reads_front = self.pool in ("cls", "first", "mean")
        return f"a head with pool: {self.pool} reads the tokens that would be kept" if reads_front else ""

    @property
    def _fills_one_by_one(self) -> bool:
        return self.fill == "pet" and self.backbone.kind == "encoder" and self.answers is not None and not self.answers.single

    # -- batches to scores -------------------------------------------------------------------------------------------

    def corrected_scores(self, batch: Batch) -> Tensor:
        """[B, C] label scores with the prior taken out, or [J, B, C] of candidates."""
        return self._corrected(self._label_scores(batch))

    def scores(self, prepared: Prepared, *, batch_size: int | None = None) -> Float[Tensor, "B C"]:
        """Label scores of all rows in their own order, without gradients; candidates speak as an ensemble."""
        scores = self.candidate_scores(prepared, batch_size=batch_size)
        return scores[0] if len(scores) == 1 else ensemble_scores(scores)

    def candidate_scores(self, prepared: Prepared, *, batch_size: int | None = None) -> Float[Tensor, "J B C"]:
        """Each candidate's label scores of all rows in their own order, without gradients."""
        out = torch.zeros(self.num_candidates, len(prepared), self.num_outputs)
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                outcome = self(batch)
                each = outcome.candidate_scores if self.has_candidates else outcome.scores[None]
                out[:, list(batch.index)] = each.float().cpu()
        return out

    def keep_candidate(self, number: int) -> None:
        """Goes on with one of the candidates alone."""
        assert isinstance(self.prompt, CandidatePrompts)
        super().keep_candidate(number)
        self.prior = self.prior[number].clone()

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

    def scores_of_states(self, states: Float[Tensor, "*J U D"], batch: Batch) -> Float[Tensor, "*J B C"]:
        """Label scores from hidden states that have been read (in a batch with other tasks, say), the prior taken out."""
        return self._corrected(self._scores_of(states, batch))

    def _corrected(self, scores: Tensor) -> Tensor:
        scores = scores - (self.prior[:, None] if self.has_candidates else self.prior)
        return scores if self.temperature == 1 else scores / self.temperature

    def scores_in_batch(self, states: Float[Tensor, "U D"], batch: Batch) -> list[Tensor]:
        """As in `TaskModel`: each text's label scores [C]."""
        return list(self.scores_of_states(states, batch).float().cpu())

    @property
    def can_share_a_batch(self) -> bool:
        """As in `TaskModel`: one prompt, one pass, places on the text's side."""
        by_word = self.answers is not None and not self._fills_one_by_one and self.backbone.kind != "encoder-decoder"
        has_gates = isinstance(self.method, DeepConfig) and self.method.gate
        return not self.has_candidates and not has_gates and (by_word or self.pool in ("cls", "first", "last", "mask"))

    def _scores_of(self, states: Tensor, batch: Batch) -> Tensor:
        if self.head is not None:
            return self.head.score(states)
        assert self.verbalizer is not None and self.answers is not None
        many, shape = states.dim() == 3, {"num_examples": batch.num_examples, "num_words": len(self.answers)}
        words = [word_scores(one, batch.reads, self.logits, **shape) for one in (states if many else states[None])]
        counts = num_scored(batch.reads, **shape)
        scores = [self.verbalizer.label_scores(one, self.answers, counts) for one in words]
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

        return pet_scores(lay_out, self._read_states, self.logits, answers, num_examples=batch.num_examples)

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Labels, label words, pooling and the order of filling."""
        return {
            "labels": list(self.labels.names),
            "verbalizer": None if self.verbalizer is None else asdict(self.verbalizer),
            "pool": self.pool,
            "fill": self.fill,
            **({} if self.temperature == 1 else {"temperature": self.temperature}),
            **form_settings(self.head),
        }

    @classmethod
    def restore(cls: type[L], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> L:
        """A trained model from a card's `settings`."""
        words = settings["verbalizer"]
        model = cls(
            backbone,
            template,
            LabelSet(tuple(settings["labels"])),
            verbalizer=None if words is None else Verbalizer.from_dict(words),
            pool=settings["pool"],
            fill=settings["fill"],
            form=settings.get("label_head", kept_form(settings)),
            **common,
        )
        model.temperature = settings.get("temperature", 1.0)
        return model

    def tensors(self) -> dict[str, Tensor]:
        """The prior, and a head."""
        return {"prior": self.prior, **super().tensors()}

    def put_back(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        super().put_back(tensors)
        self.prior.copy_(tensors["prior"])

    def facts(self) -> dict[str, Any]:
        """How words of several tokens were scored."""
        if self.answers is None or self.verbalizer is None:
            return {}
        return {"word_length_rule": self.verbalizer.length_rule(self.answers)}

    def without_prompt(self: L) -> L:
        """The same task with the hard template and label words alone: zero-shot."""
        return type(self).build(
            backbone=self.backbone,
            template=self.template.without_soft(),
            labels=self.verbalizer or list(self.labels.names),
            method="hard",
            pool=None if self.verbalizer else self.pool,
            max_length=self.max_length,
            fill=self.fill,
            columns=self.columns,
        )
