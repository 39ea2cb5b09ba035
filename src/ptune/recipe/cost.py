"""What a row costs: the tokens that the engine computes for it, and the floating-point operations that they take.

In: a model, prepared rows and how many of each row's first tokens are kept. Out: `Cost`. Tokens and places are counted in the
batches that the engine lays out. Formula: forward 2 x parameters x tokens, with gradients of the tokens 4 x, with those of the
weights too 6 x; parameters without embeddings, an encoder-decoder's two stacks each with its own tokens. The output layer takes
such a factor x its width x columns x places: label words' columns, or the vocabulary where words have several tokens. Not
counted: attention, padding, and that a causal model's last layer is computed at the places read alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ptune.backbone import Backbone
from ptune.inputs import Batch, lay_out_filled
from ptune.model import Prepared, PromptModel

__all__ = ["Computed", "Cost", "Prices", "computed", "cost", "num_parameters", "prices"]

_FORWARD = 2


@dataclass(frozen=True)
class Computed:
    """What is computed for one example and one candidate prompt.

    Args:
        row: tokens of the example's row, or the first one where it has several.
        all_rows: tokens of all its rows, in all passes.
        decoder: tokens on an encoder-decoder's decoder side.
        places: where hidden states are read.
        columns: words that are scored at a place, None for the whole vocabulary.
    """

    row: int
    all_rows: int
    decoder: int
    places: int
    columns: int | None


@dataclass(frozen=True)
class Prices:
    """Operations of one token, and of one column at one place.

    Args:
        trunk, decoder: factor x parameters.
        column: factor x width of the output layer; 0 with a head.
        vocab_size: columns of the whole output layer.
        formula: the same in words.
    """

    trunk: float
    decoder: float
    column: float
    vocab_size: int
    formula: str


@dataclass(frozen=True)
class Cost:
    """Means per example, over all candidates.

    Args:
        live_tokens: computed by the text's side.
        decoder_tokens: by an encoder-decoder's decoder.
        trunk_flops, output_flops: of the layers, and of the output layer.
    """

    live_tokens: float
    decoder_tokens: float
    trunk_flops: float
    output_flops: float

    @property
    def flops(self) -> float:
        """Of layers and output layer together."""
        return self.trunk_flops + self.output_flops


def computed(model: PromptModel, prepared: Prepared, number: int, skip: int) -> Computed:
    """Counts what the engine lays out for row `number` when its first `skip` tokens are kept."""
    batches = _laid_out(model, prepared, number, skip)
    first = batches[0]
    return Computed(
        row=int(first.live.mask[0].sum()),
        all_rows=sum(int(batch.live.mask.sum()) for batch in batches),
        decoder=0 if first.decoder is None else first.decoder.ids.numel(),
        places=sum(len(batch.reads.row) for batch in batches),
        columns=None if first.reads.columns is None else len(first.reads.columns),
    )


def _laid_out(model: PromptModel, prepared: Prepared, number: int, skip: int) -> list[Batch]:
    """The batch of one row; where masks are filled one by one, one for each pass."""
    batch = model.lay_out(prepared, [number], skip=[skip])
    if model.fill != "pet" or not batch.rows or model.answers is None:
        return [batch]
    answers, tokens = model.answers, model.backbone.tokens
    passes = []
    for done in range(answers.max_tokens):
        passes.append(lay_out_filled(batch.rows, answers, tokens, lambda example, word, at, done=done: at < done))  # type: ignore[misc]
    return passes


def cost(
    counts: Sequence[Computed], price: Prices, num_candidates: int, *, shared: float = 0.0, all_logits: bool = False
) -> Cost:
    """Mean cost of an example.

    Args:
        counts: of some examples.
        price: of each operation.
        num_candidates: prompts side by side.
        shared: an example's part of the tokens that are read once for a batch.
        all_logits: whether the whole vocabulary is scored at every position.
    """
    times = num_candidates / len(counts)
    live = times * sum(count.all_rows for count in counts) + shared
    decoder = times * sum(count.decoder for count in counts)
    if all_logits:
        cells = (decoder or live) * price.vocab_size
    else:
        cells = times * sum(count.places * (count.columns or price.vocab_size) for count in counts)
    return Cost(live, decoder, live * price.trunk + decoder * price.decoder, cells * price.column)


def prices(model: PromptModel, *, is_training: bool, columns: int | None) -> Prices:
    """Operations per token, by what learns; `columns` as in `Computed`."""
    backbone = model.backbone
    has_output = model.answers is not None
    learns_weights = is_training and model.tune == "lm"
    learns_output = is_training and model.tune in ("lm", "lm-head") and has_output
    reaches_prompt = is_training and (learns_weights or any(True for _ in model.prompt.parameters()))
    factor = _FORWARD * (1 + reaches_prompt + learns_weights)
    output_factor = _FORWARD * (1 + reaches_prompt + learns_output)
    trunk, decoder = num_parameters(backbone)
    weight = backbone.require_output().weight if has_output else None
    vocab_size, width = (0, 0) if weight is None else weight.shape
    formula = f"{factor} x {trunk:,} non-embedding parameters x live tokens"
    if decoder and has_output:
        formula += f" + {factor} x {decoder:,} x decoder tokens"
    if has_output:
        words = f"{vocab_size:,} words of the vocabulary" if columns is None else f"{columns} label words"
        formula += f" + {output_factor} x {width} x {words} x places read"
    return Prices(factor * trunk, factor * decoder, output_factor * width, vocab_size, f"{formula}; attention not counted")


def num_parameters(backbone: Backbone) -> tuple[int, int]:
    """Parameters of the stack that reads the text and of the decoder behind it (0 without one), without embeddings."""
    if backbone.kind == "encoder-decoder":
        return _without_embeddings(backbone.model.get_encoder()), _without_embeddings(backbone.model.get_decoder())
    return _without_embeddings(backbone.model.base_model), 0


def _without_embeddings(stack: nn.Module) -> int:
    tables = {id(one) for module in stack.modules() if isinstance(module, nn.Embedding) for one in module.parameters()}
    return sum(one.numel() for one in stack.parameters() if id(one) not in tables)
