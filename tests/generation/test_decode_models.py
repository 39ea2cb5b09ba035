"""Decoding with tiny models: what is kept gives what a full computation gives, and what transformers' `generate` gives."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.decode import CausalSteps, DecoderSteps, DecodeSettings, RecomputedSteps, Steps, search_beams, write_lines
from ptune.inputs import Context, Live, PromptState, pad_rows
from tiny import DECODERS, ENCODER_DECODERS, SLIDING_WINDOW, tiny_backbone, tiny_model

TEXTS = ("The film was great , a good story", "bad", "这 部 电影 很 好 ， 我 很 喜欢", "What a day ! It was good")
NO_PROMPT = PromptState()


def _rows(backbone: Backbone, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    return [[*backbone.tokens.start_ids, *backbone.tokens.ids(text), *backbone.tokens.end_ids] for text in texts]


def _live(backbone: Backbone, rows: Sequence[Sequence[int]], soft: Sequence[Sequence[int]] | None = None) -> Live:
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    ids = pad_rows(rows, backbone.tokens.pad_id)
    steps = torch.arange(ids.shape[1]).expand_as(ids)
    learned = torch.full_like(ids, -1) if soft is None else pad_rows(soft, -1)
    return Live(ids, learned, steps < lengths, steps)


def _logits(backbone: Backbone) -> Callable[[Tensor, Tensor | None], Tensor]:
    return lambda hidden, columns: backbone.logits(hidden, columns)


def _steps(backbone: Backbone, rows: Sequence[Sequence[int]], max_tokens: int, prompt: PromptState = NO_PROMPT) -> Steps:
    if backbone.kind == "encoder-decoder":
        prefix = backbone.tokens.decoder_ids
        return DecoderSteps(backbone, _live(backbone, rows), prompt, _logits(backbone), prefix=prefix)
    return CausalSteps(backbone, _live(backbone, rows), prompt, (), _logits(backbone), max_tokens=max_tokens)


def _ends(backbone: Backbone) -> list[int]:
    return [backbone.tokens.tokenizer.eos_token_id]


def _generate(backbone: Backbone, kind: str, row: Sequence[int], **words: object) -> tuple[list[list[int]], list[float]]:
    """Token ids without the end token, and scores, of transformers' own `generate` on a plain model."""
    ids = torch.tensor([list(row)])
    (end,) = _ends(backbone)
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": end, "pad_token_id": end}
    skip = ids.shape[1]
    if backbone.kind == "encoder-decoder":
        prefix = backbone.tokens.decoder_ids
        given["decoder_input_ids"] = torch.tensor([prefix])
        skip = len(prefix)
    model = tiny_model(kind)
    model.generation_config.forced_eos_token_id = None  # BART's: it would replace the last token
    out = model.generate(ids, **given, **words, return_dict_in_generate=True, output_scores=True)
    sequences = [sequence[skip:].tolist() for sequence in out.sequences]
    cut = [sequence[: sequence.index(end)] if end in sequence else sequence for sequence in sequences]
    scores = getattr(out, "sequences_scores", None)
    return cut, [] if scores is None else scores.tolist()


@torch.no_grad()
@pytest.mark.parametrize("kind", [*DECODERS, *ENCODER_DECODERS])
def test_greedy_equals_transformers_generate(kind: str) -> None:
    backbone = tiny_backbone(kind)
    rows = _rows(backbone)
    settings = DecodeSettings(max_new_tokens=2 * SLIDING_WINDOW + 4)
    written = write_lines(_steps(backbone, rows, 20), backbone.tokens, settings, _ends(backbone), range(len(rows)))
    for row, (mine,) in zip(rows, written, strict=True):
        (theirs,), _ = _generate(backbone, kind, row, max_new_tokens=20)
        assert list(mine.ids) == theirs


@torch.no_grad()
@pytest.mark.parametrize("kind", [*DECODERS, *ENCODER_DECODERS])
@pytest.mark.parametrize(("num_beams", "penalty"), [(2, 1.0), (4, 0.5), (3, 2.0)])
def test_beams_equal_transformers_generate(kind: str, num_beams: int, penalty: float) -> None:
    backbone = tiny_backbone(kind)
    rows = _rows(backbone)
    settings = DecodeSettings(max_new_tokens=8, beams=num_beams, returns=num_beams, length_penalty=penalty)
    found = search_beams(_steps(backbone, rows, 8), backbone.tokens, settings, _ends(backbone), len(rows))
    words = {"num_beams": num_beams, "num_return_sequences": num_beams, "length_penalty": penalty, "max_new_tokens": 8}
    for row, mine in zip(rows, found, strict=True):
        ids, scores = _generate(backbone, kind, row, **words)
        assert [list(one.ids) for one in mine] == ids
        assert [one.score for one in mine] == pytest.approx(scores, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", DECODERS)
def test_kept_keys_and_values_give_what_reading_everything_again_gives(kind: str) -> None:
    backbone = tiny_backbone(kind)
    rows = _rows(backbone)
    softs = [[-1] * len(row) for row in rows]
    for row, soft in zip(rows, softs, strict=True):  # two learned tokens in front and two behind
        row[:0], soft[:0] = [0, 0], [0, 1]
        row += [0, 0]
        soft += [2, 3]
    learned = PromptState(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)) * 0.3)
    live = _live(backbone, rows, softs)
    kept = CausalSteps(backbone, live, learned, (), _logits(backbone), max_tokens=6)
    again = RecomputedSteps(backbone, live, learned, _logits(backbone))
    torch.testing.assert_close(kept.start(), again.start(), atol=2e-5, rtol=1e-5)
    tokens = torch.tensor([5, 6, 7, 8])
    for chosen in (None, [0, 0, 2, 3, 1], None, [4, 3], None):
        if chosen is not None:
            tokens = tokens[torch.tensor(chosen)] + 1
            kept.keep(torch.tensor(chosen))
            again.keep(torch.tensor(chosen))
        torch.testing.assert_close(kept.step(tokens), again.step(tokens), atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", DECODERS)
def test_a_context_in_front_serves_all_rows(kind: str) -> None:
    backbone = tiny_backbone(kind)
    rows = _rows(backbone, [f"The film was {text}" for text in TEXTS])
    num_shared = next(at for at in range(20) if len({row[at] for row in rows}) > 1)
    assert num_shared >= 3
    caught: dict[int, tuple[Tensor, Tensor]] = {}
    backbone.hidden(_live(backbone, [rows[0][:num_shared]]), NO_PROMPT, keep=caught)
    keys, values = (torch.stack([caught[layer][part] for layer in range(len(caught))]) for part in (0, 1))
    steps = torch.arange(num_shared)[None]
    shared = Context(keys, values, torch.ones_like(steps, dtype=torch.bool), steps)
    live = _live(backbone, [row[num_shared:] for row in rows])
    live = Live(live.ids, live.soft, live.mask, (live.positions + num_shared) * live.mask)
    settings, ends = DecodeSettings(max_new_tokens=12, temperature=1.0, returns=2, seed=1), _ends(backbone)
    on_context = CausalSteps(backbone, live, NO_PROMPT, (shared,), _logits(backbone), max_tokens=12)
    first = write_lines(on_context, backbone.tokens, settings, ends, range(4))
    second = write_lines(_steps(backbone, rows, 12), backbone.tokens, settings, ends, range(4))
    assert [[one.ids for one in row] for row in first] == [[one.ids for one in row] for row in second]


@torch.no_grad()
@pytest.mark.parametrize("kind", [*DECODERS, *ENCODER_DECODERS])
@pytest.mark.parametrize("words", [{}, {"beams": 3, "returns": 2}, {"temperature": 0.8, "returns": 2, "seed": 3}])
def test_a_batch_of_different_lengths_is_written_as_one_by_one(kind: str, words: dict[str, float]) -> None:
    backbone = tiny_backbone(kind)
    rows, ends, settings = _rows(backbone), _ends(backbone), DecodeSettings.of({"max_new_tokens": 10, **words})

    def write(numbers: Sequence[int]) -> list[list[tuple[int, ...]]]:
        steps = _steps(backbone, [rows[number] for number in numbers], 10)
        if settings.beams > 1:
            found = search_beams(steps, backbone.tokens, settings, ends, len(numbers))
        else:
            found = write_lines(steps, backbone.tokens, settings, ends, numbers)
        return [[one.ids for one in row] for row in found]

    assert write(range(len(rows))) == [write([number])[0] for number in range(len(rows))]


@torch.no_grad()
@pytest.mark.parametrize("kind", DECODERS)
def test_a_step_computes_one_token_a_row(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(kind)
    shapes: list[tuple[int, ...]] = []
    run = backbone.run

    def watched(live: Live, *args: object, **kwargs: object) -> Tensor:
        shapes.append(tuple(live.ids.shape))
        return run(live, *args, **kwargs)

    monkeypatch.setattr(backbone, "run", watched)
    rows = _rows(backbone)
    write_lines(_steps(backbone, rows, 9), backbone.tokens, DecodeSettings(max_new_tokens=9), [], range(4))
    assert shapes == [(4, max(map(len, rows))), *[(4, 1)] * 8]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_several_prompts_equal_a_left_padded_batch_of_transformers(kind: str) -> None:
    backbone = tiny_backbone(kind)
    rows, (end,) = _rows(backbone), _ends(backbone)
    settings = DecodeSettings(max_new_tokens=10)
    mine = write_lines(_steps(backbone, rows, 10), backbone.tokens, settings, [end], range(len(rows)))
    length = max(map(len, rows))
    ids = torch.tensor([[*[end] * (length - len(row)), *row] for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    words = {"do_sample": False, "max_new_tokens": 10, "eos_token_id": end, "pad_token_id": end}
    out = tiny_model(kind).generate(ids, attention_mask=mask, **words)[:, length:].tolist()
    theirs = [sequence[: sequence.index(end)] if end in sequence else sequence for sequence in out]
    assert [list(written.ids) for (written,) in mine] == theirs
