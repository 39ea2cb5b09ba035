"""What a task's model is put together from: limits, where learned rows may start, rows as tokens, checks of a template."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone, text_keys_and_values
from ptune.data import Example
from ptune.errors import PromptError, TemplateError, VerbalizerError
from ptune.inputs import Encoded, Place, PoolKind, SoftLayout, StackSpec, Tokens, encode
from ptune.model.near_demos import DEMOS
from ptune.prompt import (
    DeepConfig,
    InitConfig,
    InitSources,
    MethodConfig,
    PromptMethod,
    PromptSetup,
    build_prompt,
    initial_rows,
    vary,
)
from ptune.readout import Verbalizer, left_text
from ptune.template import FieldSegment, MaskSegment, Segments, Template, TextSegment, open_gap

__all__ = [
    "Tune",
    "build_members",
    "check_template",
    "checked_length",
    "encode_example",
    "ensemble_scores",
    "init_sources",
    "is_soft_last",
    "row_segments",
    "slot_side",
]

Tune = Literal["frozen", "lm", "lm-head", "task-head"]
_DEFAULT_MAX_LENGTH = 256


def checked_length(backbone: Backbone, max_length: int | None, num_deep: int = 0) -> int:
    """Tokens a whole row may have: as asked, else the model's positions, at most 256.

    Args:
        backbone: whose positions count.
        max_length: as asked.
        num_deep: learned tokens of each layer, which take up positions in front of the text.

    Raises:
        TemplateError: more than the model has.
    """
    positions = backbone.spec.max_positions
    if positions is not None and backbone.spec.numbers_positions and num_deep:
        if num_deep >= positions:
            raise TemplateError(
                f"{num_deep} learned tokens leave no room for a text in the {positions} positions of {backbone.spec.name}",
                where="method.num_tokens",
                fix=f"use fewer than {positions}",
            )
        positions -= num_deep
    if max_length is None:
        return min(_DEFAULT_MAX_LENGTH, positions or _DEFAULT_MAX_LENGTH)
    if positions is not None and max_length > positions:
        raise TemplateError(
            f"max_length is {max_length}, but {backbone.spec.name} has {positions} positions for prompt and text together"
            + (f", beside the {num_deep} of the learned tokens" if num_deep else ""),
            where="max_length",
            fix=f"use at most {positions}",
        )
    return max_length


def init_sources(
    config: MethodConfig,
    backbone: Backbone,
    template: Template,
    verbalizer: Verbalizer | None,
    init_rows: Tensor | None,
    init_deep: Mapping[Place, Tensor] | None = None,
) -> InitSources:
    """What a method's initialisation may draw on, from the tokenizer, the label words and another task's rows."""
    tokens = backbone.tokens
    if isinstance(config, DeepConfig):
        text_ids = tokens.ids(config.init_text) if config.init_text else ()
        return InitSources((), text_ids, bundle_deep=init_deep or {})
    if not isinstance(config, InitConfig):
        return InitSources(frequent_ids=())
    label_ids: list[tuple[int, ...]] = []
    if config.kind == "labels":
        if verbalizer is None:
            raise VerbalizerError("init: labels needs label words", where="method.init")
        answers = verbalizer.answers(template, tokens)
        for number in range(answers.num_classes):
            label_ids.append(
                tuple(i for ids, owner in zip(answers.ids, answers.label, strict=True) if owner == number for i in ids)
            )
    return InitSources(
        frequent_ids=tokens.frequent_words(),
        text_ids=tokens.ids(config.init_text) if config.init_text else (),
        label_ids=label_ids,
        bundle_rows=init_rows,
    )


def build_members(
    config: MethodConfig,
    backbone: Backbone,
    layout: SoftLayout,
    sources: InitSources,
    num_candidates: int,
    seed: int,
    *,
    writes: bool = True,
) -> tuple[list[PromptMethod], tuple[float, ...]]:
    """One prompt for each candidate, and its share of the learning rate.

    A candidate whose initialisation came out like the first one's (given words, say) gets a little noise on its rows. `writes`
    says whether a decoder takes part, whose attention then learns too; a head reads the encoder alone.
    """
    kind = config.kind if isinstance(config, InitConfig) else "random"
    high = torch.float64 if backbone.dtype == torch.float64 else torch.float32
    spec, members, first = backbone.spec, [], torch.zeros(0, backbone.spec.embedding_size, dtype=high)
    variations = vary(num_candidates, seed)
    deep = deep_parts(config, backbone, sources, writes=writes) if isinstance(config, DeepConfig) else {}
    for number, one in enumerate(variations):
        start = torch.zeros(0, spec.embedding_size, dtype=high)
        if layout.num_rows:
            start = initial_rows(kind, layout, sources, backbone.embed, rms=spec.embedding_rms, seed=one.seed)
        if number == 0:
            first = start
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(one.seed), dtype=start.dtype)
        is_same = (start == first).all(-1, keepdim=True)
        start = start + one.jitter * spec.embedding_rms * noise * is_same
        members.append(build_prompt(config, PromptSetup(spec, layout, start, one.seed, **deep)))
    return members, tuple(one.rate_factor for one in variations)


def deep_parts(config: DeepConfig, backbone: Backbone, sources: InitSources, *, writes: bool) -> dict[str, Any]:
    """What a deep method is built from: the attention stacks that learn, and the keys and values that they start from.

    Raises:
        BackboneError: the model takes no learned keys and values.
        PromptError: stacks that the model has not, a text without tokens, or a placement for causal models only.
    """
    stacks = {place: stack.spec for place, stack in backbone.stacks.items() if writes or place == "text"}
    unknown = [place for place in config.places or () if place not in stacks]
    if unknown:
        has = ", ".join(stacks)
        raise PromptError(f"{backbone.spec.name} has no attention stack {unknown[0]!r}; it has {has}", where="method.places")
    if config.placement == "behind" and backbone.kind != "decoder":
        what = f"{backbone.spec.name} is not causal: all its tokens see each other, so nothing can stand behind the text"
        raise PromptError(what, where="method.placement", fix="use placement: front")
    chosen = {place: spec for place, spec in stacks.items() if config.places is None or place in config.places}
    start: Mapping[Place, Tensor] = sources.bundle_deep
    if config.kind == "text":
        ids = [*backbone.tokens.start_ids, *sources.text_ids]
        if not sources.text_ids:
            raise PromptError("init_text has no tokens", where="method.init_text")
        repeated = [*ids, *(list(sources.text_ids) * config.num_tokens)][: config.num_tokens]
        start = text_keys_and_values(backbone, repeated)
    if config.kind == "bundle":
        _check_bundle_start(start, chosen, config.num_tokens)
    return {"stacks": chosen, "deep_start": {place: value for place, value in start.items() if place in chosen}}


def _check_bundle_start(start: Mapping[Place, Tensor], stacks: Mapping[Place, StackSpec], num_tokens: int) -> None:
    """Whether another task's keys and values fit.

    Raises:
        PromptError: it has none for a stack, or another number of learned tokens.
    """
    for place in stacks:
        have = start[place].shape[3] if place in start else 0
        if have != num_tokens:
            raise PromptError(
                f"the bundle has {have} learned tokens in the {place} stack, this prompt {num_tokens}",
                where="method.init_bundle",
                fix="use the same method and number",
            )


def ensemble_scores(scores: Float[Tensor, "J B C"]) -> Float[Tensor, "B C"]:
    """Log of the mean probability over candidates."""
    return torch.logsumexp(torch.log_softmax(scores, -1), 0) - torch.log(torch.tensor(float(len(scores))))


def encode_example(
    example: Example,
    template: Template,
    layout: SoftLayout,
    tokens: Tokens,
    *,
    max_length: int,
    num_answer_tokens: int,
    lead: int,
    gap: str | None = None,
    choice: str | None = None,
) -> Encoded:
    """One row as tokens; an error names the row.

    Args:
        example: the row.
        template, layout, tokens: what it is written with.
        max_length: tokens that it may have, `num_answer_tokens` of them for the answer.
        num_answer_tokens: see `encode`.
        lead: how many template nodes stand in front of the text's start token.
        gap: what marks the answer slot in the row's own text, None where the template has it.
        choice: the text for `{choice}`.

    Raises:
        TemplateError: a missing field, or too long.
    """
    with _naming(example):
        return encode(
            row_segments(example, template, gap=gap, choice=choice),
            tokens,
            layout,
            max_length=max_length,
            num_answer_tokens=num_answer_tokens,
            lead=lead,
        )


def row_segments(example: Example, template: Template, *, gap: str | None = None, choice: str | None = None) -> Segments:
    """One row rendered, with the answer slot at its gap where there is one; a column `demos` fills `{demos}`.

    Raises:
        TemplateError: a missing field, or no gap; the message names the row.
    """
    with _naming(example):
        demos = example.fields.get(DEMOS)
        segments = template.render(example.fields, choice=choice, demos=demos if isinstance(demos, str) else None)
        return segments if gap is None else open_gap(segments, gap)


def slot_side(example: Example, template: Template, gap: str | None) -> tuple[Callable[[str], str], str]:
    """What stands at the answer slot's left side in a row.

    Returns:
        word -> the white space that it gets in front (as written where the slot is a gap in the text), and the text in front of
        that, of which only the last character counts.
    """
    if gap is None:
        return template.word_prefix, left_text(template)
    segments = row_segments(example, template, gap=gap)
    slot = next(at for at, segment in enumerate(segments) if isinstance(segment, MaskSegment))
    mask = segments[slot]
    assert isinstance(mask, MaskSegment)
    texts = [segment.text for segment in segments[:slot] if isinstance(segment, TextSegment | FieldSegment)]
    return lambda word: mask.leading, "".join(texts)[-1:]


def is_soft_last(template: Template) -> bool:
    """Whether there are learned tokens, and nothing else behind the first of them."""
    soft = [at for at, _ in template.soft_nodes]
    return bool(soft) and soft == list(range(soft[0], len(template.nodes)))


@contextmanager
def _naming(example: Example) -> Iterator[None]:
    """An error in reading a row names it, once."""
    try:
        yield
    except TemplateError as error:
        places = [example.where] if example.where and not (error.where or "").startswith(example.where) else []
        where = ", ".join([*places, *([error.where] if error.where else [])])
        raise TemplateError(error.what, where=where, fix=error.fix) from None


def check_template(
    template: Template, backbone: Backbone, *, has_words: bool, pool: PoolKind | None, num_slots: int = 1
) -> None:
    """Whether a template has the answer slots that the readout needs.

    Raises:
        TemplateError: none, others than `num_slots`, or nothing in front of it that a causal model could read.
    """
    if template.num_masks > 1 and template.num_masks != num_slots:
        what = f"the template has {template.num_masks} answer slots" + (f" for {num_slots} words" if num_slots > 1 else "")
        raise TemplateError(what, where="template", fix="keep one {mask}")
    if num_slots > 1 and backbone.kind == "encoder-decoder":
        what = f"{backbone.spec.name} writes its answer with its decoder, one text for one {{mask}}"
        raise TemplateError(what, where="template", fix="keep one {mask}, or use a masked or a causal model")
    if template.num_masks == 0 and (has_words or pool == "mask"):
        raise TemplateError(
            "the template has no answer slot",
            where="template",
            fix='write {mask} where the label word goes, as in "{text} It was{mask}"',
        )
    if has_words and backbone.kind == "decoder" and not template.before_mask() and not backbone.tokens.start_ids:
        raise TemplateError(
            "nothing stands left of {mask} for a causal model to read",
            where="template",
            fix="move {mask} behind the text",
        )
