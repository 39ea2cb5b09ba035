"""`ptune init`: looks at a data set and writes a recipe for it that works as it is, with every key explained."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptune.cli.console import say
from ptune.cli.options import Encoding
from ptune.errors import RecipeError

if TYPE_CHECKING:
    from ptune.cli.draft import Draft

__all__ = ["init"]

_BACKBONES = {"en": "smollm2-135m-q4", "zh": "gemma-3-270m-q4"}


def init(
    data: Annotated[str, typer.Argument(help="A file, a folder with train and perhaps test files, or a hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Catalogue name, folder or hub id; if not given, what fits the language."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that holds the label; found if not given.")
    ] = None,
    encoding: Encoding = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a recipe that is there.")] = False,
) -> None:
    """Write a recipe for your data."""
    from ptune.cli.draft import draft

    if out.is_dir():
        raise RecipeError(
            "there is a folder of that name", where=str(out), fix=f"name a file, such as --out {out / 'recipe.yaml'}"
        )
    if out.exists() and not force:
        raise RecipeError("the recipe exists already", where=str(out), fix="use --force, or another --out")
    if not out.parent.is_dir():
        raise RecipeError(f"the folder {out.parent} does not exist", where="--out", fix="make it first")
    if backbone is not None:
        _check_backbone(backbone)
    drafted = draft(data, label=label, encoding=encoding)
    chosen = _from_folder(backbone, out.parent) if backbone else _BACKBONES[drafted.language]
    out.write_text(_yaml(drafted, _from_folder(data, out.parent), chosen, encoding), encoding="utf-8")
    for remark in drafted.remarks:
        say(f"note: {remark}")
    print(f"wrote {out}: {drafted.num_rows} training rows, {len(drafted.words)} labels, template {drafted.template!r}")
    print(f"next: ptune template check {out}, then ptune train {out}")


def _check_backbone(name: str) -> None:
    """A bare name that is no folder must be in the catalogue."""
    from ptune.backbone.catalogue import entry

    if "/" not in name and not Path(name).exists():
        entry(name)


def _from_folder(source: str, folder: Path) -> str:
    """A path as it is seen from the recipe's folder; a hub id or a catalogue name as it is."""
    path = Path(source).expanduser()
    return Path(os.path.relpath(path, folder)).as_posix() if path.exists() else source


def _yaml(drafted: "Draft", data: str, backbone: str, encoding: str | None) -> str:
    parts = [
        _data_part(drafted, data, encoding),
        _template_part(drafted),
        _method_part(drafted, backbone),
        _TRAINING_PART,
        _KINDS_PART,
    ]
    return "\n".join(parts)


def _data_part(drafted: "Draft", data: str, encoding: str | None) -> str:
    source, judged = _scalar(data), "for the final figures only; nothing is chosen on it"
    has_test, has_validation = "test" in drafted.splits, "validation" in drafted.splits
    columns = dict(drafted.columns)
    return "\n".join(
        [
            "# A recipe for `ptune train`, drafted by `ptune init`.",
            "# Keys behind a # are optional and show their default or an example.",
            *(f"# note: {remark}" for remark in drafted.remarks),
            "",
            "# -- data: a .csv, .tsv, .jsonl, .json, .parquet or .conll file, a folder of splits, or a hub id",
            "# (paths are seen from this file's folder)",
            f"train: {source}" + ("  # its split train" if drafted.splits else ""),
            f"test: {source}  # its split test: {judged}" if has_test else f"# test: test.jsonl  # {judged}",
            f"# validation: {source if has_validation else 'validation.jsonl'}  # to choose the best step on; or use hold_out",
            _key("shots", drafted.shots or 16, is_set=drafted.shots is not None)
            + "  # rows per class, drawn with the seed; else all",
            "# hold_out: 4  # rows per class taken out of the training rows for validation",
            "# card_examples: 2  # training texts of each label that the bundle shows; 0 for none",
            _key("label", drafted.label, is_set=drafted.label != "label") + "  # the column that holds the label",
            _key("columns", columns or {"review": "text"}, is_set=bool(columns)) + "  # renames columns, old: new",
            _key("encoding", encoding or "gb18030", is_set=encoding is not None) + "  # of text files; else found out",
            "",
        ]
    )


def _template_part(drafted: "Draft") -> str:
    learns = (
        "# The words in front of {mask} are what learns: with few rows, a prompt had best start as them (docs/strategies.md)."
        if drafted.learns_words
        else "# The eight tokens {soft:8} are what learns."
    )
    lines = [
        "# -- template and label words: {field} a column, {soft:8} eight learned tokens, {mask} the answer; keep the quotes.",
        learns,
        "# `ptune template check` shows what the model reads; `ptune template list` has more (template: library:ID).",
        f"template: {_quoted(drafted.template)}",
        "labels:  # each label with the word or words that speak for it in place of {mask}",
    ]
    lines += [f"  {_scalar(label)}: {_scalar(list(words))}" for label, words in drafted.words.items()]
    ends = "  # scored behind every word, so that a word may begin another"
    lines.append(_key("terminator", drafted.terminator or ".", is_set=bool(drafted.terminator)) + ends)
    return "\n".join([*lines, _WORDS_PART])


def _method_part(drafted: "Draft", backbone: str) -> str:
    in_front = "learned tokens in front" + ("" if drafted.learns_words else "; take {soft} out")
    return f"""# -- method and model
method: p-tuning  # or hard (nothing learns), prompt-tuning ({in_front}), or with options:
# method: {{name: p-tuning, encoder: lstm, init: vocabulary}}
#   (encoder: embedding, mlp or lstm; init: vocabulary, random, text, labels or bundle)
backbone: {_scalar(backbone)}  # see `ptune models list`; also a folder, a .gguf file or a hub id
# dtype: fp32  # or bf16
# device: auto  # cuda, mps, else cpu
# text_start: "<bos>"  # the token that plain text starts with; the model's own if not given
# max_length: 256  # tokens of a whole row; longer texts are cut
# tune: frozen  # what learns besides the prompt: lm, lm-head or task-head
"""


_WORDS_PART = """\
# aggregate: mean  # how several words of a label are joined: mean, logsumexp, max
# length: auto  # how words of several tokens are scored: sum, mean per token, auto
# fill: parallel  # how an encoder fills several masks: parallel, chain, pet
# prior: correct  # takes the model's own preference among the labels out before training; keep leaves it in
# learn: auto  # tokens ({soft}), or words: those in front of the answer learn, so that training starts at the hard template
# folds: auto  # prompts side by side, each without its share of the rows, which say how far to go from the start; 1 for one
# pull: 0.0  # share of the target that is the start's own distribution over labels
# r_drop: 0.0  # makes two readings with different dropout agree; for method: {name: p-tuning-v2, dropout: 0.1}
# label_loss: cross-entropy  # or decoupled: each label's own probability among all words
# label_conditioning: 0.0  # weight of learning the text's own words given the label; for masked models
# contrastive: 0.0  # weight of SetFit's loss: states at {mask} alike for texts of one label, unlike for others
# augment: {copies: 2, swap: 0.1, delete: 0.1}  # changed copies of each training text
# calibration: prior  # by which texts: prior (training texts), batch, contextual, domain, none; {name: batch, texts: more.csv}
# temperature: false  # scales probabilities on the validation rows
# abstain_below: 0.6  # where no label is that probable, say out_of_scope in place of a label
# out_of_scope: unknown
# head: linear  # in place of label words, labels is then a list of names; or prototypes; vectors and weights learn from words
# pool: last  # what the head reads: cls, last, mean, mask
"""

_TRAINING_PART = """\
# -- training; the defaults are meant to work as they are
seed: 0
# steps: 200  # or epochs: 12; if neither is given, a number that fits the rows
# batch_size: 8
# group_by_length: false  # rows of like length in one batch, so that little is padded
# accumulate: 1  # forward passes per step
# learning_rate: 0.01  # the method's own rule if not given
# optimizer: adamw  # or adafactor
# weight_decay: 0.0
# clip_norm: 1.0
# schedule: linear  # or cosine, constant
# warmup: 0.1  # share of the steps
# ema: 0.0  # decay of a running average of what is learned
# evaluate_every: 10  # steps between looks at the validation rows
# patience: 5  # looks without improvement before the run stops
# save_every: 25  # steps between saved states, from which `--resume` goes on
# class_weights: balanced  # or {label: factor}
# label_smoothing: 0.0
# checkpointing: false  # recompute layers to save memory
# keep_context: auto  # keep what lies in front of the learned tokens: true, false
# context_memory: 1000  # MiB for that, the rest goes into a temporary file; a quarter of free memory if not given
# context_dtype: fp32  # or bf16, which halves it
# candidates: 1  # prompts that are trained side by side; 8, say
# keep_candidates: ensemble  # or best, on the validation rows
"""


_KINDS_PART = """\
# -- other kinds of task than classification (docs/tasks.md), and the keys that are theirs
# task: classification  # or entailment, multi-label, regression, choice, cloze
# negatives: 4  # entailment: wrong labels that a row is asked with in each training step; else all
# threshold: 0.5  # multi-label: the probability from which a label is given; else chosen on the validation rows
# loss: squared  # regression: cross-entropy over levels, or squared; the first where labels are given
# choices: choices  # choice: the column with each row's choices, a list
# answer: answer  # choice: the column with the right one's number, from 0
# yes_no: ["Yes", "No"]  # choice, multi-label, entailment: words that judge each text in {choice}
# gap: "#idiom#"  # choice, cloze: what marks the answer slot in the text itself, in place of {mask}
# target: target  # generation: the column that holds the text to write
# references: references  # generation: a column with further right texts, if there is one
# max_new_tokens: 64  # generation, dialogue: tokens that an answer may have, its end included
# chat_template: plain  # dialogue: Jinja text, or plain; else the model's own
# decode: {beams: 4}  # generation, dialogue: how answers are written
# tags: tags  # tagging: the column that holds the tags; the words stand in `tokens`
# scheme: BIO  # tagging: IO, BIO, BIOES, BILOU, BMES; else that of the training rows
# valid_tags: true  # tagging: only tags that may follow the one in front are given out
# word_piece: first  # tagging: which token of a word is read, first or last
# answers: answers  # qa: the column that holds the right answers, in SQuAD's form
# no_answer: true  # qa: whether "no answer" may be said; else where some training row has none
# max_answer_tokens: 30  # qa: of an answer
# n_best: 5  # qa, cloze: answers that a prediction lists
# doc_stride: 64  # tagging, qa: tokens that two windows of a long text share; else a third of a window
"""


def _key(name: str, value: Any, *, is_set: bool) -> str:
    return f"{'' if is_set else '# '}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """One line of YAML."""
    import yaml

    text: str = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _quoted(text: str) -> str:
    """A template in single quotes, or in double quotes where it has a line break or single quotes itself."""
    return json.dumps(text, ensure_ascii=False) if "\n" in text or "'" in text else f"'{text}'"
