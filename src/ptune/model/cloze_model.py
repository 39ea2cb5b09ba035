"""Cloze facts: the word that fills a gap, out of the whole vocabulary.

In: rows whose `label` column holds the right word; the slot is at `{mask}`, or at a `gap` in the text (`[MASK]`). Out: the most
probable words. One token fills the slot: a row whose word is several tokens of the model is learned nothing from, and counts as
wrong when it is judged. A causal model reads what stands in front of the slot and nothing behind it; an encoder-decoder
answers with its decoder. Loss: the word's negative log-probability among all tokens. Source: Petroni et al. 2019 (LAMA).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import RecipeError, notice
from ptune.inputs import AnswerWords, Batch, Context, Encoded, Place, StoredContext, lay_out_words
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import check_template, slot_side
from ptune.model.task_model import TaskKind, TaskModel
from ptune.objective import ClozeReport, TaskReport, cloze_report
from ptune.prompt import MethodConfig
from ptune.readout import item_log_probabilities
from ptune.template import Field, Mask, Template

__all__ = ["ClozeModel", "WordPrediction"]

_ONE = AnswerWords(("",), ((0,),), (0,), 1)
"""Lays out a slot of one token; which one is never looked at."""

W = TypeVar("W", bound="ClozeModel")


@dataclass(frozen=True)
class WordPrediction:
    """What the task says about one gap.

    Args:
        answer: the most probable word.
        words: the most probable words, best first.
        probabilities: theirs, among all tokens of the model.
    """

    answer: str
    words: tuple[str, ...]
    probabilities: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"answer": self.answer, "words": list(self.words), "probabilities": list(self.probabilities)}

    def __str__(self) -> str:
        return f"{self.answer}  {self.probabilities[0]:.2f}"


@dataclass(frozen=True)
class PreparedGaps(Prepared):
    """Rows with the token of the right word.

    Args:
        tokens: -1 where that is unknown, or several tokens.
    """

    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class GapBatch(Batch):
    """A batch with the tokens of the right words, [B]; -1 where there is none."""

    tokens: Tensor | None = None


class ClozeModel(TaskModel):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        gap: what marks the slot in the row's own text, such as `[MASK]`; the template then has no `{mask}`.
        n_best: words that a prediction lists.
        **common: see `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "cloze"
    metric: ClassVar[str] = "precision_at_1"
    keys: ClassVar[tuple[str, ...]] = ("gap", "n_best")
    target_keys: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(
        self, backbone: Backbone, template: Template, *, gap: str | None = None, n_best: int = 5, **common: Any
    ) -> None:
        backbone.require_output()
        super().__init__(backbone, template, **common)
        self.gap, self.n_best = gap, n_best
        if gap is None:
            check_template(template, backbone, has_words=True, pool=None)
        elif template.num_masks:
            raise RecipeError(
                f"the template has {{mask}}, but the slot is at the gap {gap!r}", where="gap", fix="leave one out"
            )
        if backbone.kind == "decoder" and template.has_soft and not _is_soft_read(template):
            what = "all learned tokens stand behind the slot, where a causal model never reads them"
            raise RecipeError(what, where="template", fix='put some in front, as in "{text}{soft:8}{mask}"')
        self.check_readout()
        self.to(backbone.device)

    @classmethod
    def build(
        cls: type[W],
        *,
        backbone: Backbone,
        template: Template | str,
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> W:
        """From the words of a recipe.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        first = cls.start(
            backbone, template, method, init_rows=init_rows, init_deep=init_deep, candidates=candidates, seed=seed
        )
        common: dict[str, Any] = {**first.common, "seed": seed}
        return cls(backbone, first.template, **common, **settings)

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedGaps:
        """As in `BatchedRows`, with the token of each right word; a causal model's rows end at the slot."""
        tokens = tuple(self._token(example) for example in examples)
        encoded = tuple(map(self._up_to_slot, map(self.encode, examples)))
        contexts = self.kept_contexts(encoded, **storage) if keep_context else None
        num_several = sum(token < 0 and self.has_target(example) for token, example in zip(tokens, examples, strict=True))
        if num_several:
            notice(f"{num_several} of {len(examples)} answers are not one token of {self.backbone.spec.name}: out of its reach")
        return PreparedGaps(encoded, (), contexts, tokens)

    def _token(self, example: Example) -> int:
        if not self.has_target(example):
            return -1
        tokens = self.backbone.tokens
        word = str(self.value(example, "label")).strip()
        prefix, left = slot_side(example, self.template, self.gap)
        ids = tokens.word_ids(prefix(word) + word, "" if tokens.kind == "encoder-decoder" else left) if word else ()
        return ids[0] if len(ids) == 1 and ids[0] != tokens.tokenizer.unk_token_id else -1

    def _up_to_slot(self, row: Encoded) -> Encoded:
        if self.backbone.kind != "decoder":
            return row
        return replace(row, ids=row.ids[: row.slot], soft=row.soft[: row.slot], owner=row.owner[: row.slot])

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> GapBatch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedGaps)
        batch = lay_out_words(
            [prepared.encoded[i] for i in index],
            _ONE,
            self.backbone.tokens,
            labels=[-1] * len(index),
            index=index,
            contexts=contexts,
            skip=skip,
            has_types=self._has_types,
        )
        tokens = torch.tensor([prepared.tokens[i] for i in index])
        return GapBatch(**{one.name: getattr(batch, one.name) for one in fields(batch)}, tokens=tokens)

    # -- batches to words --------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Hidden states at the slots, [B, D], and the mean loss over rows whose word is one token."""
        assert isinstance(batch, GapBatch) and batch.tokens is not None
        states: Tensor = self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts, batch.decoder)
        known = (batch.tokens >= 0).nonzero()[:, 0]
        if not len(known):
            return Outcome(states, states.sum() * 0)
        reads = replace(
            batch.reads, columns=None, item_read=known, item_token=batch.tokens[known], item_cell=torch.arange(len(known))
        )
        return Outcome(states, -item_log_probabilities(states, reads, self.logits).mean())

    def _ranked(self, prepared: PreparedGaps, batch_size: int | None) -> tuple[list[int | None], Tensor, Tensor, float]:
        """Ranks of the right words, the best tokens [N, n], their log-probabilities, the mean loss; no special tokens."""
        tokenizer = self.backbone.tokens.tokenizer
        no_words = [*set(tokenizer.all_special_ids), *range(len(tokenizer), self.backbone.spec.vocab_size)]
        ranks: list[int | None] = [None] * len(prepared)
        best = torch.zeros(len(prepared), self.n_best, dtype=torch.long)
        values = torch.zeros(len(prepared), self.n_best)
        losses: list[float] = []
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                assert isinstance(batch, GapBatch) and batch.tokens is not None
                outcome = self(batch)
                table = torch.log_softmax(self.logits(outcome.scores, None).float(), 1).cpu()
                table[:, no_words] = -torch.inf
                top = table.topk(self.n_best, dim=1)
                rows = list(batch.index)
                best[rows], values[rows] = top.indices, top.values
                for row, line, token in zip(rows, table, batch.tokens.tolist(), strict=True):
                    if token >= 0:
                        ranks[row] = int((line > line[token]).sum()) + 1
                        losses.append(-float(line[token]))
        return ranks, best, values, sum(losses) / max(1, len(losses))

    def looks(self, prepared: Prepared) -> list[Look]:
        """Precision at 1 and mean loss."""
        assert isinstance(prepared, PreparedGaps)
        ranks, _, _, loss = self._ranked(prepared, None)
        return [Look(cloze_report(ranks).score, loss)]

    def mean_loss(self, rows: Prepared) -> float:
        """Over rows whose word is one token."""
        assert isinstance(rows, PreparedGaps)
        return self._ranked(rows, None)[3]

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[WordPrediction]:
        """The most probable words of each gap."""
        if not examples:
            return []
        _, best, values, _ = self._ranked(self.prepare(examples), batch_size)
        found = []
        for ids, logs in zip(best.tolist(), values.exp().tolist(), strict=True):
            words = tuple(self.backbone.tokens.text([index]).strip() for index in ids)
            found.append(WordPrediction(words[0], words, tuple(logs)))
        return found

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> ClozeReport:
        """Precision at 1 and at 10.

        Raises:
            DataError: a row without its word.
        """
        for example in examples:
            self.value(example, "label")
        return cloze_report(self._ranked(self.prepare(examples), batch_size)[0])

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """The hard template's words."""
        hard = type(self).build(
            backbone=self.backbone,
            template=self.template.without_soft(),
            method="hard",
            max_length=self.max_length,
            columns=self.columns,
            **self.settings(),
        )
        return {"zero_shot": hard.judge(judged)}

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The gap, and how many words a prediction lists."""
        return {"gap": self.gap, "n_best": self.n_best}

    @classmethod
    def restore(cls: type[W], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> W:
        """A trained model from a card's `settings`."""
        return cls(backbone, template, gap=settings["gap"], n_best=settings["n_best"], **common)


def _is_soft_read(template: Template) -> bool:
    """Whether learned tokens stand in front of the mask, or of the last field, where a gap may be."""
    kind = Mask if template.num_masks else Field
    slot = max(at for at, node in enumerate(template.nodes) if isinstance(node, kind))
    return any(at < slot for at, _ in template.soft_nodes)
