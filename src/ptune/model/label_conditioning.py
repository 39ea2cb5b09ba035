"""Label conditioning: with a label's word in the answer slot, hidden tokens of the text are likely under the right label only.

In: a model that scores label words on a masked model, and a batch of labelled rows. Out: the mean over hidden tokens x of
-log q(x | text, right label) - log(1 - q(x | text, wrong label)), with q among all words. It is learned beside the labels' own
loss, which asks the reverse: the label given the text.
Source: Tam et al. 2021 (ADAPET), section 3.2, equation 6. Deviations: one of the wrong labels is drawn for each row and step
(their code draws one of all labels); a tenth of the row's own text is hidden (theirs hides up to as much, template included).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.errors import RecipeError
from ptune.inputs import AnswerWords, Batch, field_tokens, lay_out_hidden
from ptune.model.label_model import LabelModel
from ptune.model.targets import TargetBatch
from ptune.objective import decoupled_loss
from ptune.readout import item_log_probabilities

__all__ = ["HIDDEN_SHARE", "check_conditioning", "conditioning_losses", "draw_hidden"]

HIDDEN_SHARE = 0.105
"""Of a text's tokens, at least one."""


def check_conditioning(model: LabelModel) -> None:
    """Nothing, where texts can be asked for given their labels.

    Raises:
        RecipeError: a head, or a model that is not masked.
    """
    if model.answers is None:
        raise RecipeError("label conditioning fills in label words", where="label_conditioning", fix="leave out the head")
    if model.backbone.kind == "encoder":
        return
    why = (
        "is causal: a text in front of {mask} does not see the label, and one behind it is scored given the label already"
        if model.backbone.kind == "decoder"
        else "writes label words with its decoder, so that no text is read with a label in it"
    )
    fix = "leave it out, or use a masked language model"
    raise RecipeError(f"{model.backbone.spec.name} {why}", where="label_conditioning", fix=fix)


def conditioning_losses(model: LabelModel, batch: Batch) -> Float[Tensor, " J"]:
    """The loss of each candidate prompt; zeros where no row has a label and a text.

    Args:
        model: see `check_conditioning`.
        batch: with its encoded rows.
    """
    assert model.answers is not None
    hidden = draw_hidden(batch)
    chosen = [number for number, own in enumerate(hidden) if own]
    if not chosen:
        return torch.zeros(model.num_candidates, device=model.backbone.device)
    right = [int(batch.labels[number]) for number in chosen]
    wrong = [_another(label, model.answers.num_classes) for label in right]
    words = [_word(model.answers, label) for label in (*right, *wrong)]
    twice = [*chosen, *chosen]
    tokens, has_types = model.backbone.tokens, batch.live.types is not None
    filled = lay_out_hidden([batch.rows[i] for i in twice], words, [hidden[i] for i in twice], tokens, has_types=has_types)
    states = model.backbone.read(filled.live, model.prompt(), filled.reads)
    owner = torch.tensor([number for number in chosen for _ in hidden[number]])
    losses = []
    for candidate, one in enumerate(states if states.dim() == 3 else states[None]):
        log_probabilities = item_log_probabilities(one, filled.reads, model.logits).view(2, -1).T
        seen = batch.seen_by(candidate)[owner] if isinstance(batch, TargetBatch) else owner >= 0
        learned = log_probabilities[seen]
        losses.append(decoupled_loss(learned, torch.zeros(len(learned), dtype=torch.long)) if len(learned) else one.sum() * 0)
    return torch.stack(losses)


def draw_hidden(batch: Batch) -> list[list[int]]:
    """For each row the numbers of the tokens that are hidden, drawn from torch's generator; none in a row without a label."""
    drawn = []
    for row, label in zip(batch.rows, batch.labels.tolist(), strict=True):
        own = field_tokens(row) if label >= 0 else []
        count = max(1, round(HIDDEN_SHARE * len(own)))
        drawn.append(sorted(own[at] for at in torch.randperm(len(own))[:count].tolist()))
    return drawn


def _another(label: int, num_classes: int) -> int:
    """Any label but this one."""
    return (label + 1 + int(torch.randint(num_classes - 1, ()))) % num_classes


def _word(answers: AnswerWords, label: int) -> tuple[tuple[int, ...], ...]:
    """The tokens of one of a label's words, for each slot."""
    own = [word for word, number in enumerate(answers.label) if number == label]
    return answers.parts(own[int(torch.randint(len(own), ()))])
