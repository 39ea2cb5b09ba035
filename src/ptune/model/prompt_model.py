"""A prompt, a frozen backbone and a readout as one `nn.Module` that any torch loop can train.

In: rows of data (`prepare`), then batches of them. Out: `Outcome` with label scores and, where labels are known, the loss.
`parameters()` and `state_dict()` hold what is learned and nothing of the backbone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptune.backbone import Backbone, KeptContexts
from ptune.data import Example, LabelSet
from ptune.errors import BackboneError, RecipeError, TemplateError, VerbalizerError
from ptune.inputs import (
    AnswerWords,
    Batch,
    Encoded,
    FillOrder,
    PoolKind,
    SoftLayout,
    encode,
    lay_out_filled,
    lay_out_pooled,
    lay_out_words,
    soft_layout,
    trunk_start,
)
from ptune.model.parts import Outcome, Prepared, checked_length, init_sources
from ptune.objective import classification_loss
from ptune.prompt import (
    InitConfig,
    MethodConfig,
    PromptMethod,
    PromptSetup,
    build_prompt,
    initial_rows,
    parse_method,
    registration,
)
from ptune.readout import HEAD_RATE, LinearHead, Verbalizer, pet_scores, word_scores
from ptune.template import Template

__all__ = ["PromptModel", "Tune"]

Tune = Literal["frozen", "lm", "lm-head", "task-head"]
LM_RATE = 1e-5
LM_HEAD_RATE = 1e-4


class PromptModel(nn.Module):
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
        self.max_length = checked_length(backbone, max_length)
        if isinstance(start, PromptMethod):
            self.prompt: PromptMethod = start
        else:
            self.prompt = build_prompt(method, PromptSetup(backbone.spec, layout, start, seed))
        high = torch.float64 if backbone.dtype == torch.float64 else torch.float32
        self.head = None if pool is None else LinearHead(backbone.spec.width, len(labels), seed=seed, dtype=high)
        self.lm_head = nn.Parameter(backbone.require_output().weight.detach().clone().float()) if tune == "lm-head" else None
        self.register_buffer("prior", torch.zeros(len(labels), dtype=high))
        self._check_template()
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
        names = verbalizer.labels if verbalizer else tuple(str(name) for name in given)
        layout = soft_layout(complete, backbone.tokens)
        sources = init_sources(config, backbone, complete, verbalizer, init_rows)
        kind = config.kind if isinstance(config, InitConfig) else "random"
        start = torch.zeros(0, backbone.spec.embedding_size)
        if layout.num_rows:
            start = initial_rows(kind, layout, sources, backbone.embed, rms=backbone.spec.embedding_rms, seed=seed)
        return cls(
            backbone,
            complete,
            LabelSet(names),
            verbalizer=verbalizer,
            pool=pool,
            method=config,
            layout=layout,
            start=start,
            seed=seed,
            **settings,
        )

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False) -> Prepared:
        """Renders and tokenises rows; with `keep_context`, computes what lies in front of the learned tokens once.

        Raises:
            TemplateError: a missing field, or a row that does not fit.
            BackboneError: `keep_context` where keeping would not be exact.
        """
        known = {name: number for number, name in enumerate(self.labels.names)}
        encoded = tuple(self.encode(example) for example in examples)
        labels = tuple(-1 if example.label is None else known.get(example.label, -1) for example in examples)
        contexts = None
        if keep_context:
            refusal = self.why_not_keep()
            if refusal:
                raise BackboneError(f"contexts cannot be kept: {refusal}", where="keep_context", fix="set keep_context: false")
            contexts = KeptContexts(self.backbone, [row.ids[: trunk_start(row)] for row in encoded])
        return Prepared(encoded, labels, contexts)

    def encode(self, example: Example) -> Encoded:
        """One row as tokens.

        Raises:
            TemplateError: a missing field, or too long; the message names the row.
        """
        try:
            segments = self.template.render(example.fields)
            return encode(
                segments,
                self.backbone.tokens,
                self.layout,
                max_length=self.max_length,
                num_answer_tokens=self.answers.max_tokens if self.answers else 1,
                lead=registration(self.method).num_lead(self.method),
            )
        except TemplateError as error:
            where = ", ".join(filter(None, (example.where, error.where)))
            raise TemplateError(error.what, where=where, fix=error.fix) from None

    def batch(self, prepared: Prepared, index: Sequence[int]) -> Batch:
        """The rows with these numbers, laid out for this backbone and readout."""
        rows = [prepared.encoded[i] for i in index]
        context = prepared.contexts.context(index) if prepared.contexts else None
        settings: dict[str, Any] = {
            "labels": [prepared.labels[i] for i in index],
            "index": index,
            "context": context,
            "has_types": self._has_types,
        }
        if self.answers is None:
            assert self.pool is not None
            return lay_out_pooled(rows, self.pool, self.backbone.tokens, **settings)
        order = "parallel" if self.fill == "pet" else self.fill
        batch = lay_out_words(rows, self.answers, self.backbone.tokens, order=order, **settings)
        return replace(batch, rows=tuple(rows)) if self._fills_one_by_one else batch

    def batches(self, prepared: Prepared, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        """All rows in batches; shuffled with a seed, else sorted by length so that little is padded."""
        if seed is None:
            order = sorted(range(len(prepared)), key=lambda i: len(prepared.encoded[i]))
        else:
            order = torch.randperm(len(prepared), generator=torch.Generator().manual_seed(seed)).tolist()
        for first in range(0, len(order), batch_size):
            yield self.batch(prepared, order[first : first + batch_size])

    # -- batches to scores -------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Label scores, and the loss where every row has a label."""
        scores = self._label_scores(batch) - self.prior
        if bool((batch.labels < 0).any()):
            return Outcome(scores)
        loss = classification_loss(scores, batch.labels, class_weights=self.class_weights, label_smoothing=self.label_smoothing)
        return Outcome(scores, loss)

    def scores(self, prepared: Prepared, *, batch_size: int = 16) -> Float[Tensor, "B C"]:
        """Label scores of all rows in their own order, without gradients."""
        out = torch.zeros(len(prepared), len(self.labels))
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                out[list(batch.index)] = self(batch).scores.float().cpu()
        return out

    def _label_scores(self, batch: Batch) -> Tensor:
        if self.head is not None:
            assert batch.pool is not None
            hidden: Tensor = self.backbone.hidden(batch.live, self.prompt(), batch.context)
            pooled: Tensor = self.head(hidden, batch.pool)
            return pooled
        assert self.verbalizer is not None and self.answers is not None
        if self._fills_one_by_one:
            words = self._pet_scores(batch)
        else:
            words = word_scores(
                self._read_hidden(batch),
                batch.reads,
                self._logits,
                num_examples=batch.num_examples,
                num_words=len(self.answers),
            )
        return self.verbalizer.label_scores(words, self.answers)

    def _read_hidden(self, batch: Batch) -> Tensor:
        """Hidden states of the rows that are read: the decoder's where there is one."""
        hidden: Tensor = self.backbone.hidden(batch.live, self.prompt(), batch.context)
        if batch.decoder is None:
            return hidden
        decoded: Tensor = self.backbone.decoder_hidden(batch.decoder, hidden, batch.live.mask)
        return decoded

    def _pet_scores(self, batch: Batch) -> Tensor:
        assert self.answers is not None
        answers, rows = self.answers, batch.rows

        def lay_out(is_filled: Any) -> Batch:
            return lay_out_filled(rows, answers, self.backbone.tokens, is_filled, has_types=self._has_types)

        return pet_scores(lay_out, self._read_hidden, self._logits, answers, num_examples=batch.num_examples)

    def _logits(self, hidden: Tensor, columns: Tensor | None) -> Tensor:
        return self.backbone.logits(hidden, columns, self.lm_head)

    # -- what is learned ---------------------------------------------------------------------------------------------

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """Groups for an optimiser, each with its default learning rate; `learning_rate` replaces the leading one.

        The leading group is the prompt's; without a learning prompt it is the backbone's, its output layer's or the head's.
        """
        prompt = list(self.prompt.parameters())
        groups: list[dict[str, Any]] = []
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

    def why_not_keep(self) -> str:
        """Why what lies in front of the learned tokens may not be kept; empty where it may."""
        if self.backbone.kind != "decoder":
            return "only a causal model's text is unchanged by what stands behind it"
        if self.tune == "lm":
            return "the language model itself is trained"
        if self.pool in ("cls", "mean"):
            return f"a head with pool: {self.pool} reads the tokens that would be kept"
        if not self.backbone.takes_plan:
            return f"{self.backbone.spec.architecture}'s attention cannot be reached"
        return ""

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

    @property
    def _fills_one_by_one(self) -> bool:
        return self.fill == "pet" and self.backbone.kind == "encoder" and self.answers is not None and not self.answers.single

    @property
    def _has_types(self) -> bool:
        return self.backbone.kind == "encoder" and getattr(self.backbone.model.config, "type_vocab_size", 0) > 1

    def _check_template(self) -> None:
        if self.template.num_masks > 1:
            raise TemplateError(
                f"the template has {self.template.num_masks} answer slots", where="template", fix="keep one {mask}"
            )
        if self.template.num_masks == 0 and (self.answers is not None or self.pool == "mask"):
            raise TemplateError(
                "the template has no answer slot",
                where="template",
                fix='write {mask} where the label word goes, as in "{text} It was{mask}"',
            )
        if self.tune == "task-head" and self.head is None:
            raise RecipeError("there is no task head to train", where="tune", fix="set head: linear")
        if self.answers is not None and self.backbone.kind == "decoder":
            nodes = self.template.before_mask()
            if not nodes and not self.backbone.tokens.start_ids:
                raise TemplateError(
                    "nothing stands left of {mask} for a causal model to read",
                    where="template",
                    fix="move {mask} behind the text",
                )
