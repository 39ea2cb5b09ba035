"""What every kind of task shares: a prompt and a readout on a frozen backbone, as one `nn.Module` that any loop can train.

In: rows of data (`prepare`), then batches of them. Out: `Outcome` with the loss that training lowers, `Look`s by which the best
step is chosen, predictions, a report. A kind is one file beside this one and one line in `kinds.py`; it never looks inside a
prompt, and calls the backbone through `hidden` and `read` alone. `parameters()` and `state_dict()` hold what is learned.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from ptune.backbone import Backbone, LeadContexts
from ptune.data import Example, FieldValue
from ptune.errors import DataError, RecipeError
from ptune.inputs import Batch, Encoded, Place, SoftLayout, soft_layout
from ptune.model.outcome import Look, Outcome, Prepared, TaskPrediction
from ptune.model.parts import Tune, build_members, checked_length, init_sources
from ptune.model.rows import BatchedRows
from ptune.objective import TaskReport
from ptune.prompt import CandidatePrompts, MethodConfig, PromptMethod, PromptSetup, build_prompt, parse_method, registration
from ptune.readout import HEAD_RATE, TOKEN_FORM, HeadForm, Verbalizer
from ptune.template import Template

__all__ = ["LabelsAre", "PromptStart", "TaskKind", "TaskModel"]

LM_RATE = 1e-5
LM_HEAD_RATE = 1e-4

TaskKind = Literal[
    "classification", "entailment", "multi-label", "regression", "choice", "cloze", "tagging", "qa", "generation", "dialogue"
]
LabelsAre = Literal["required", "optional", "none"]
T = TypeVar("T", bound="TaskModel")


@dataclass(frozen=True)
class PromptStart:
    """A method's prompt before training.

    Args:
        template: with the method's learned tokens in it.
        method: its config.
        layout: which learned row stands where.
        prompt: the module, or candidates of it.
    """

    template: Template
    method: MethodConfig
    layout: SoftLayout
    prompt: PromptMethod

    @property
    def common(self) -> dict[str, Any]:
        """What every kind's `__init__` takes of it, beside the template."""
        return {"method": self.method, "layout": self.layout, "start": self.prompt}


class TaskModel(BatchedRows, ABC):
    """See the module's docstring; a kind's `build` makes one from the words of a recipe.

    Class attributes, by which recipe, bundle and command line serve a kind:
        kind: its name, `task:` in a recipe.
        metric: name of the main figure, the score of its `Look`s.
        keys: recipe keys that `build` takes beside the common ones (backbone, template, method, max_length, tune, seed, ...).
            `labels` comes as a `Verbalizer` or as names, `pool` as None without a head, `class_weights` as one factor a label,
            `examples` as the training rows; all others as they are written.
        input_keys: recipe keys that name columns which a row must have beside the template's fields (`choices`).
        target_keys: recipe keys that name the columns of what is to be learned (`answer`); not needed to predict.
        reads_label: whether the target is the row's one label (`Example.label`) rather than `target_keys`.
        labels_are: whether the recipe must name labels.
        label_words: whether labels are scored by words of their own where there is no head.
        heads: names of the heads that may take the words' place, `head:` in a recipe.
        default_template: what `template` is where a recipe has none; None where it must have one.
        takes_candidates: whether several prompts can be trained side by side.
        plain_column: the column that a text by itself stands for; None where the one that a row must have says it.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        method: the prompt method's config.
        layout: which learned row stands where.
        start: [P, E] initial rows, or a prompt that is ready (a bundle's).
        columns: recipe key -> column, of `input_keys` and `target_keys`; the key itself where it is not named.
        max_length: tokens of a whole row, None for the model's positions, at most 256.
        tune: what learns besides the prompt: nothing (`frozen`, `task-head`), all weights (`lm`), the output layer (`lm-head`).
        seed: of everything drawn here.
    """

    kind: ClassVar[TaskKind]
    metric: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()
    input_keys: ClassVar[tuple[str, ...]] = ()
    target_keys: ClassVar[tuple[str, ...]] = ()
    reads_label: ClassVar[bool] = False
    labels_are: ClassVar[LabelsAre] = "none"
    label_words: ClassVar[bool] = False
    heads: ClassVar[tuple[str, ...]] = ("linear", "model")
    default_template: ClassVar[str | None] = None
    takes_candidates: ClassVar[bool] = False
    plain_column: ClassVar[str | None] = None

    head: nn.Module | None
    lm_head: nn.Parameter | None

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        method: MethodConfig,
        layout: SoftLayout,
        start: Tensor | PromptMethod,
        columns: Mapping[str, str] | None = None,
        max_length: int | None = None,
        tune: Tune = "frozen",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.template, self.method, self.layout = backbone, template, method, layout
        self.base_fingerprint = backbone.fingerprint
        self.columns = {key: (columns or {}).get(key, key) for key in (*self.input_keys, *self.target_keys)}
        self.tune: Tune = tune
        self.seed = seed
        self.max_length = checked_length(backbone, max_length, registration(method).num_deep(method))
        if isinstance(start, PromptMethod):
            self.prompt: PromptMethod = start
        else:
            self.prompt = build_prompt(method, PromptSetup(backbone.spec, layout, start, seed))
        self.lm_head = nn.Parameter(backbone.require_output().weight.detach().clone().float()) if tune == "lm-head" else None
        with torch.no_grad():
            state = self.prompt()
        self.has_candidates = state.rows is not None and state.rows.dim() == 3
        self.num_candidates = state.num_candidates
        self.head = None
        self._leads = LeadContexts()

    def check_readout(self) -> None:
        """For a kind's `__init__`, once its readout is there.

        Raises:
            RecipeError: nothing to train, or candidates where there can be none.
        """
        if self.tune == "task-head" and self.head is None:
            raise RecipeError("there is no task head to train", where="tune", fix="set head: linear")
        if self.has_candidates and (not self.takes_candidates or self.head is not None or self.tune != "frozen"):
            raise RecipeError("candidates are for label words on a frozen model", where="candidates", fix="leave them out here")

    @staticmethod
    def start(
        backbone: Backbone,
        template: Template | str,
        method: str | Mapping[str, Any] | MethodConfig,
        *,
        verbalizer: Verbalizer | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        writes: bool = True,
    ) -> PromptStart:
        """The method's prompt for a template, before training.

        Args:
            backbone, template, method: as in `build`.
            verbalizer: label words, for `init: labels`.
            init_rows: [P, E] of another task, for `init: bundle`.
            init_deep: the same of a deep method, [2, N, H_kv, P, K] of each attention stack.
            candidates: prompts side by side.
            seed: of everything drawn.
            writes: whether an encoder-decoder's decoder takes part; a head reads the encoder alone.

        Raises:
            PtuneError: method and template, or method and backbone, do not go together.
        """
        config = parse_method(method)
        parsed = Template.parse(template) if isinstance(template, str) else template
        complete = registration(config).template(config, parsed)
        layout = soft_layout(complete, backbone.tokens)
        sources = init_sources(config, backbone, complete, verbalizer, init_rows, init_deep)
        members, factors = build_members(config, backbone, layout, sources, candidates, seed, writes=writes)
        return PromptStart(complete, config, layout, members[0] if candidates == 1 else CandidatePrompts(members, factors))

    @property
    def head_dtype(self) -> torch.dtype:
        """Number type of a head: single precision, but double for gradient checks."""
        return torch.float64 if self.backbone.dtype == torch.float64 else torch.float32

    # -- what a kind of task says itself -----------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def build(cls: type[T], *, backbone: Backbone, template: Template | str, **settings: Any) -> T:
        """From the words of a recipe: the common ones, those in `keys`, and `columns`.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Refuses rows that cannot be trained on or judged; called before any model is loaded.

        Args:
            rows: with all of the kind's columns.
            columns: recipe key -> column.
            labels: names, empty where the recipe has none.
            is_training: whether they are the training rows.

        Raises:
            DataError: at the first row that does not fit.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Outcome:
        """Scores, and the loss where all targets are known."""

    @abstractmethod
    def looks(self, prepared: Prepared) -> list[Look]:
        """How the model does on rows with known targets; one look for each candidate."""

    @abstractmethod
    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> Sequence[TaskPrediction]:
        """What the task says about rows, in their order."""

    @property
    def can_share_a_batch(self) -> bool:
        """Whether its rows can be read in one batch with other tasks' (`ptune.predict_mixed`)."""
        return False

    def scores_in_batch(self, states: Tensor, batch: Batch) -> list[Tensor]:
        """Scores of each row of a batch from hidden states that were read beside other tasks' rows.

        Args:
            states: [U, D] at the places that the batch reads.
            batch: its rows, as `batch` laid them out.
        """
        raise NotImplementedError

    def predictions_from(self, prepared: Prepared, scores: Sequence[Tensor]) -> Sequence[TaskPrediction]:
        """Predictions from the scores of all prepared rows, in their order."""
        raise NotImplementedError

    @abstractmethod
    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> TaskReport:
        """Figures on rows with known targets.

        Raises:
            DataError: a row without its target.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What a bundle's card keeps of this kind beside template, method, columns, max_length and tune; plain values."""

    @classmethod
    @abstractmethod
    def restore(cls: type[T], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> T:
        """A trained model from `settings` and what `__init__` takes (method, layout, start, columns, max_length, tune)."""

    # -- what most kinds need not say --------------------------------------------------------------------------------

    @classmethod
    def model_form(cls, backbone: Backbone) -> HeadForm:
        """The form of `head: model` for this kind of task; most read each token with one matrix."""
        return TOKEN_FORM

    @classmethod
    def fields_read(cls, template: Template) -> tuple[str, ...]:
        """Columns that the template asks of every row."""
        return template.field_names

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; empty where there are none."""
        return ()

    def take_out_prior(self, rows: Prepared) -> None:
        """Before training: takes the model's own preference among answers out, where a kind can (recipe key `prior`)."""

    def settle(self, rows: Prepared, validation: Prepared | None) -> None:
        """After training: whatever is chosen rather than learned, a threshold say."""

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """Figures of the task without anything learned, by name; empty where that means nothing.

        Args:
            train_rows: whose targets are not looked at.
            judged: rows to judge on.
        """
        return {}

    def facts(self) -> dict[str, Any]:
        """What a run's summary should say of this kind."""
        return {}

    def mean_loss(self, rows: Prepared) -> float:
        """Mean loss over rows with the parameters as they are."""
        total = 0.0
        with torch.no_grad():
            for batch in self.batches(rows, None):
                loss = self(batch).loss
                assert loss is not None
                total += loss.item() * len(batch.index)
        return total / max(1, len(rows))

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle keeps beside the prompt."""
        return {} if self.head is None else {f"head.{name}": value for name, value in self.head.state_dict().items()}

    def put_back(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        if self.head is not None:
            self.head.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("head.")})

    def first_row(self, example: Example) -> Encoded:
        """A row as the model reads it; the first where it is read in several (windows, texts that are judged)."""
        return self.prepare([example]).encoded[0]

    # -- help for kinds ----------------------------------------------------------------------------------------------

    def value(self, example: Example, key: str) -> FieldValue:
        """A row's column by its recipe key.

        Raises:
            DataError: the row has no such column.
        """
        column = self.columns[key]
        if key == "label" and column not in example.fields and example.label is not None:
            return example.label  # read by somebody who did not know that this kind reads it as a column
        if column not in example.fields:
            raise DataError(
                f"the row has no '{column}'", where=example.where, fix=f"add it, or name the column with {key}: in the recipe"
            )
        return example.fields[column]

    def has_target(self, example: Example) -> bool:
        """Whether a row has all columns of what is to be learned."""
        return all(
            self.columns[key] in example.fields or (key == "label" and example.label is not None) for key in self.target_keys
        )

    # -- what is learned ---------------------------------------------------------------------------------------------

    def keep_candidate(self, number: int) -> None:
        """Goes on with one of the candidates alone."""
        assert isinstance(self.prompt, CandidatePrompts)
        member = self.prompt.members[number]
        assert isinstance(member, PromptMethod)
        self.prompt, self.has_candidates, self.num_candidates = member, False, 1

    def logits(self, hidden: Tensor, columns: Tensor | None) -> Tensor:
        """Word scores by the output layer that learns, or by the model's own."""
        return self.backbone.logits(hidden, columns, self.lm_head)

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
            rate = getattr(self.head, "learning_rate", HEAD_RATE)
            groups.append({"name": "head", "params": list(self.head.parameters()), "lr": rate})
        if groups and learning_rate is not None:
            groups[0]["lr"] = learning_rate
        return groups

    @property
    def num_trained(self) -> int:
        """Number of parameters that learn."""
        return sum(parameter.numel() for group in self.parameter_groups() for parameter in group["params"])
