"""Tiny random models with real fast tokenizers, built in memory: one of each kind of backbone that ptune serves.

Nothing is downloaded. Tokenizers are trained on the lines below, so that some words are one token and others several; weights
are drawn with a large spread, so that outputs differ visibly between tokens. The same kind always has the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from ptune.backbone import Backbone
from ptune.data import Example

__all__ = [
    "DECODERS",
    "DEEP_KINDS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "EXAMPLES",
    "KINDS",
    "POSITIONS",
    "SLIDING_WINDOW",
    "WORDS",
    "YES_NO_ROWS",
    "build_backbone",
    "example",
    "tiny_backbone",
    "tiny_model",
    "tiny_tokenizer",
]

POSITIONS = 64
SLIDING_WINDOW = 8
WIDTH = 32

_COMMON = (
    "The film was great , a good story and a great cast .",
    "It was bad , the plot was bad and the end was bad .",
    "All in all it was great . It was good .",
    "The food is good and the service is great .",
    "What a good day ! What a bad day !",
    "I like this place , it is great and not bad at all .",
    "这 部 电影 很 好 ， 我 很 喜欢 。",
    "服务 很 差 ， 我 不 喜欢 。",
    "质量 很 好 ， 值得 买 。",
)
_RARE = (
    "Rather mediocre acting , disappointing music and a terrible script .",
    "Wonderful pictures , splendid colours , an excellent evening .",
    "Topic : sports news , business , science and technology .",
    "总体 来说 物流 太 慢 ， 包装 一般 ， 非常 满意 积极 消极 体育 财经",
)
_LINES = [*_COMMON * 8, *(line.replace(" ", "") for line in _COMMON[6:]), *_RARE * 4]

_PIECES = (
    "ble",
    "ing",
    "ment",
    "dis",
    "▁terri",
    "medi",
    "▁won",
    "der",
    "ful",
    "ell",
    "ent",
    "news",
    "▁sport",
    "喜欢",
    "很好",
    "积极",
)

_ENDINGS = ("ble", "ing", "ment", "ful", "ent", "ous", "ed", "ly")

WORDS = (
    "great",
    "good",
    "bad",
    "terrible",
    "mediocre",
    "disappointing",
    "wonderful",
    "excellent",
    "sports news",
    "好",
    "很好",
    "不喜欢",
    "积极",
    "消极",
    "very bad",
)
"""Candidate label words: in every tiny tokenizer some are one token and some are several."""


def example(text: str, label: str | None = "yes", **fields: str) -> Example:
    """One row with a field `text`."""
    return Example({"text": text, **fields}, label)


EXAMPLES = (
    example("The film was great", "yes"),
    example("bad", "no"),
    example("这部电影很好，我很喜欢。", "yes"),
    example("The food is good and the service is terrible , what a day", "no"),
    example("Rather mediocre acting", "no"),
)
"""Rows of different lengths, in two scripts."""

YES_NO_ROWS = [
    {"text": f"The {what} was {word} .", "label": label}
    for what in ("film", "plot", "food", "day")
    for word, label in (("great", "yes"), ("bad", "no"))
]
"""Four of each label, one word apart."""


# -- tokenizers ------------------------------------------------------------------------------------------------------


def _wordpiece() -> PreTrainedTokenizerFast:
    """Its pieces are listed here: WordPiece's trainer finds others in each process, and no two runs would see one model."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = dict.fromkeys(word for line in _COMMON for word in line.lower().split())
    letters = sorted(set("".join(_LINES).lower()) - {" "})
    endings = [f"##{piece}" for piece in (*(letter for letter in letters if letter.isascii() and letter.isalpha()), *_ENDINGS)]
    pieces = dict.fromkeys([*special, *letters, *endings, *words])
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _frame(tokenizer, "[CLS]", "[SEP]")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _byte_level(special: list[str | AddedToken], start: str | None, end: str | None, **roles: Any) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    if start is not None:
        _frame(tokenizer, start, end)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _roberta_tokenizer() -> PreTrainedTokenizerFast:
    mask = AddedToken("<mask>", lstrip=True, special=True)
    roles = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return _byte_level(
        ["<s>", "<pad>", "</s>", "<unk>", mask], "<s>", "</s>", pad_token="<pad>", unk_token="<unk>", mask_token=mask, **roles
    )


def _gpt2_tokenizer() -> PreTrainedTokenizerFast:
    text = "<|endoftext|>"
    return _byte_level([text], None, None, bos_token=text, eos_token=text, unk_token=text)


def _llama_tokenizer() -> PreTrainedTokenizerFast:
    return _byte_level(["<|begin|>", "<|end|>"], "<|begin|>", None, bos_token="<|begin|>", eos_token="<|end|>")


def _gemma_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece's BPE: spaces are letters, and characters that were never seen fall back to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Metaspace(prepend_scheme="never"), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    _frame(tokenizer, "<bos>", None)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def _t5_tokenizer() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer with a dummy prefix space and sentinels."""
    words = dict.fromkeys(f"▁{word}" for line in _COMMON for word in line.split())
    letters = dict.fromkeys(["▁", *sorted(set("".join(_LINES)) - {" "})])
    scores = {"<pad>": 0.0, "</s>": 0.0, "<unk>": -20.0}
    scores |= dict.fromkeys(letters, -10.0) | dict.fromkeys(_PIECES, -8.0) | dict.fromkeys(words, -6.0)
    scores |= {f"<extra_id_{i}>": 0.0 for i in range(4)}  # pieces of the model itself, as in T5's own file
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    _frame(tokenizer, None, "</s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=[f"<extra_id_{i}>" for i in range(4)],
    )


def _frame(tokenizer: Tokenizer, start: str | None, end: str | None) -> None:
    names = [name for name in (start, end) if name is not None]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, (start, "$A", end))),
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )


# -- models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    model: Callable[[PreTrainedTokenizerFast], Any]


def _bert(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=tokenizer.pad_token_id, **_BERT_SIZES
    )
    return BertForMaskedLM(config)


def _roberta(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=POSITIONS + 2, type_vocab_size=1, pad_token_id=1, **_BERT_SIZES
    )
    return RobertaForMaskedLM(config)


def _electra(tokenizer: PreTrainedTokenizerFast) -> Any:
    sizes = {**_BERT_SIZES, "embedding_size": 24}
    return ElectraForMaskedLM(
        ElectraConfig(vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=0, **sizes)
    )


def _distilbert(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        dim=WIDTH,
        n_layers=2,
        n_heads=4,
        hidden_dim=48,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return DistilBertForMaskedLM(config)


def _albert(tokenizer: PreTrainedTokenizerFast) -> Any:
    sizes = {**_BERT_SIZES, "num_hidden_layers": 3, "embedding_size": 16}
    return AlbertForMaskedLM(
        AlbertConfig(vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=0, **sizes)
    )


def _modernbert(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        global_attn_every_n_layers=2,
        local_attention=SLIDING_WINDOW,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )
    return ModernBertForMaskedLM(config)


def _deberta(tokenizer: PreTrainedTokenizerFast) -> Any:
    sizes = {**_BERT_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
    config = DebertaV2Config(vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=0, **sizes)
    return DebertaV2ForMaskedLM(config)


def _qwen3(tokenizer: PreTrainedTokenizerFast) -> Any:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=12,
            max_position_embeddings=POSITIONS,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _gpt2(tokenizer: PreTrainedTokenizerFast) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=WIDTH, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        )
    )


def _llama(tokenizer: PreTrainedTokenizerFast) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=POSITIONS,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _gemma3(tokenizer: PreTrainedTokenizerFast) -> Any:
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=SLIDING_WINDOW,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            max_position_embeddings=POSITIONS,
            final_logit_softcapping=20.0,
            bos_token_id=2,
            eos_token_id=1,
            pad_token_id=0,
        )
    )


def _t5(tokenizer: PreTrainedTokenizerFast, *, tied: bool) -> Any:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=16,
            feed_forward_proj="relu" if tied else "gated-gelu",
            tie_word_embeddings=tied,
            scale_decoder_outputs=tied,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def _bart(tokenizer: PreTrainedTokenizerFast) -> Any:
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    return BartForConditionalGeneration(config)


_BERT_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}

_RECIPES = {
    "bert": _Recipe(_wordpiece, _bert),
    "roberta": _Recipe(_roberta_tokenizer, _roberta),
    "gpt2": _Recipe(_gpt2_tokenizer, _gpt2),
    "llama": _Recipe(_llama_tokenizer, _llama),
    "gemma3": _Recipe(_gemma_tokenizer, _gemma3),
    "t5": _Recipe(_t5_tokenizer, lambda tokenizer: _t5(tokenizer, tied=True)),
    "t5-untied": _Recipe(_t5_tokenizer, lambda tokenizer: _t5(tokenizer, tied=False)),
    "bart": _Recipe(_roberta_tokenizer, _bart),
    "electra": _Recipe(_wordpiece, _electra),
    "distilbert": _Recipe(_wordpiece, _distilbert),
    "albert": _Recipe(_wordpiece, _albert),
    "modernbert": _Recipe(_wordpiece, _modernbert),
    "deberta": _Recipe(_wordpiece, _deberta),
    "qwen3": _Recipe(_llama_tokenizer, _qwen3),
}

ENCODERS = ["bert", "roberta"]
DECODERS = ["gpt2", "llama", "gemma3", "qwen3"]
ENCODER_DECODERS = ["t5", "t5-untied", "bart"]
KINDS = [*ENCODERS, *DECODERS, *ENCODER_DECODERS]
DEEP_KINDS = [*KINDS, "electra", "distilbert", "albert", "modernbert"]
"""Kinds that learned keys and values are tried on as well."""


@cache
def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a kind (one object for all tests)."""
    return _RECIPES[kind].tokenizer()


def tiny_model(kind: str, *, dtype: torch.dtype = torch.float32, attention: str = "eager") -> Any:
    """A new plain Hugging Face model of a kind, always with the same weights: the independent side of a comparison."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        model = _RECIPES[kind].model(tiny_tokenizer(kind))
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                if parameter.dim() > 1:
                    parameter.copy_(noise * (0.2 if kind.startswith("t5") else 0.3))  # T5 does not scale its attention scores
                else:
                    parameter.add_(noise * 0.1)
            if isinstance(getattr(model, "final_logits_bias", None), torch.Tensor):
                model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias))
    model.set_attn_implementation(attention)
    model = model.eval().requires_grad_(False).to(dtype)
    if dtype == torch.float64:
        _norm_in_double(model)
    return model


def _norm_in_double(model: Any) -> None:
    """Llama, Gemma and T5 compute their RMS norm in single precision whatever the weights are: too coarse for differences."""
    for module in model.modules():
        if type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            shift = 1.0 if type(module).__name__.startswith("Gemma") else 0.0
            module.forward = partial(_rms_norm, module, shift)


def _rms_norm(module: Any, shift: float, hidden: torch.Tensor) -> torch.Tensor:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + eps) * (shift + module.weight)


def build_backbone(kind: str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """A new backbone that a test may change (checkpointing, training)."""
    return Backbone(tiny_model(kind, dtype=dtype), tiny_tokenizer(kind), name=f"tiny-{kind}")


@cache
def tiny_backbone(kind: str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """The backbone of a kind that all tests share and none may change."""
    return build_backbone(kind, dtype=dtype)
