"""What generated texts are worth: ROUGE-1, -2 and -L, BLEU, chrF, and how varied the texts are.

In: generated texts and, for each, one or several references. Out: `TextReport`. ROUGE (Lin 2004) is the library rouge-score,
BLEU and chrF are sacrebleu; both come with the extra `metrics`. ROUGE and distinct-n (Li et al. 2016) count words, and each
character of a script without spaces such as Chinese; for words of a-z and digits that is exactly rouge-score's own way.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ptune.errors import DataError
from ptune.template import dominant_script, written_with_spaces

__all__ = ["TextReport", "check_text_metrics", "text_report", "text_units"]

BleuTokens = Literal["13a", "zh", "char"]

_WORD = re.compile(r"[^\W_]+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True)
class TextReport:
    """Figures of one evaluation of generated texts, all in 0 to 1.

    Args:
        score: mean ROUGE-L, F measure, each row against its best reference.
        rouge_1, rouge_2: the same for single units and pairs.
        bleu: over all rows at once.
        chrf: over all rows at once.
        distinct_1, distinct_2: different units and pairs among all that were generated, as a share of them.
        exact: share of texts that equal a reference.
        num_rows: rows judged.
        mean_length, reference_length: units of a text and of a reference in the mean.
        bleu_tokens: how BLEU cuts texts: sacrebleu's 13a, zh or char.
        metric: what `score` is.
    """

    score: float
    rouge_1: float
    rouge_2: float
    bleu: float
    chrf: float
    distinct_1: float
    distinct_2: float
    exact: float
    num_rows: int
    mean_length: float
    reference_length: float
    bleu_tokens: BleuTokens
    metric: str = "rouge_l"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people."""
        return [
            f"ROUGE-L {self.score:.3f} (ROUGE-1 {self.rouge_1:.3f}, ROUGE-2 {self.rouge_2:.3f}), BLEU {self.bleu:.3f}, "
            f"chrF {self.chrf:.3f}, {self.num_rows} rows",
            f"  distinct-1 {self.distinct_1:.3f}, distinct-2 {self.distinct_2:.3f}, exact {self.exact:.3f}, "
            f"length {self.mean_length:.1f} (references {self.reference_length:.1f})",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def text_report(generated: Sequence[str], references: Sequence[Sequence[str]]) -> TextReport:
    """Judges generated texts.

    Args:
        generated: one text a row; an empty one is a text without anything right in it.
        references: at least one text that is not blank for each row; rows may have different numbers of them.

    Raises:
        DataError: the numbers of rows differ, a row has no reference, or the extra `metrics` is not installed.
    """
    check_text_metrics()
    if len(generated) != len(references):
        raise DataError(f"{len(generated)} generated texts for {len(references)} rows", fix="generate each row once")
    given = [[text for text in texts if text.strip()] for texts in references]
    bare = next((number for number, texts in enumerate(given, 1) if not texts), None)
    if bare is not None:
        raise DataError("there is no reference to compare with", where=f"row {bare}", fix="fill it in or leave the row out")
    tokens = _bleu_tokens(given)
    rouge = _rouge(generated, given)
    bleu, chrf = _bleu_and_chrf(generated, given, tokens) if given else (0.0, 0.0)
    units = [text_units(text) for text in generated]
    reference_units = [len(text_units(text)) for texts in given for text in texts]
    num_exact = sum(text.strip() in map(str.strip, texts) for text, texts in zip(generated, given, strict=True))
    return TextReport(
        score=rouge["rougeL"],
        rouge_1=rouge["rouge1"],
        rouge_2=rouge["rouge2"],
        bleu=bleu,
        chrf=chrf,
        distinct_1=_distinct(units, 1),
        distinct_2=_distinct(units, 2),
        exact=num_exact / len(given) if given else 0.0,
        num_rows=len(given),
        mean_length=_mean([float(len(row)) for row in units]),
        reference_length=_mean([float(number) for number in reference_units]),
        bleu_tokens=tokens,
    )


def check_text_metrics() -> None:
    """Checks that the libraries are there, so that a long run need not end with the news that they are not.

    Raises:
        DataError: the extra `metrics` is not installed.
    """
    try:
        import rouge_score.rouge_scorer  # noqa: F401
        import sacrebleu.metrics  # noqa: F401
    except ImportError as error:
        what = f"judging generated texts needs the packages rouge-score and sacrebleu ({error.name} is missing)"
        raise DataError(what, fix='pip install "ptune[metrics]"') from error


def text_units(text: str) -> list[str]:
    """Words in lower case, and each character of a script without spaces by itself; marks do not count."""
    apart = "".join(f" {char} " if written_with_spaces(char) is False else char for char in text.lower())
    return _WORD.findall(apart)


class _Units:
    """`text_units` in the shape that rouge-score takes."""

    def tokenize(self, text: str) -> list[str]:
        return text_units(text)


def _rouge(generated: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, tokenizer=_Units())
    rows = [scorer.score_multi(texts, text) for text, texts in zip(generated, references, strict=True)]
    return {kind: _mean([float(row[kind].fmeasure) for row in rows]) for kind in kinds}


def _bleu_and_chrf(generated: Sequence[str], references: Sequence[Sequence[str]], tokens: BleuTokens) -> tuple[float, float]:
    """sacrebleu takes the references by number: all first ones, all second ones; None where a row has fewer."""
    from sacrebleu.metrics import BLEU, CHRF

    most = max(map(len, references))
    streams = [[texts[place] if place < len(texts) else None for texts in references] for place in range(most)]
    texts = list(generated)
    bleu, chrf = BLEU(tokenize=tokens).corpus_score(texts, streams), CHRF().corpus_score(texts, streams)
    return float(bleu.score) / 100, float(chrf.score) / 100


def _bleu_tokens(references: Sequence[Sequence[str]]) -> BleuTokens:
    """sacrebleu's rule for most of the rows: zh for Chinese, char for other scripts without spaces, else 13a."""
    texts = [" ".join(row) for row in references]
    scripts = Counter(dominant_script(text) for text in texts)
    if scripts["unspaced"] <= scripts["spaced"]:
        return "13a"
    num_han = sum(2 * len(_HAN.findall(text)) > len("".join(text_units(text))) for text in texts)
    return "zh" if 2 * num_han > scripts["unspaced"] else "char"


def _distinct(rows: Sequence[Sequence[str]], size: int) -> float:
    grams = [tuple(row[place : place + size]) for row in rows for place in range(len(row) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
