"""How varied the texts are that a task writes: as it writes them, and sampled, several for each row.

In: a task that writes texts, and rows with right answers. Out: `DiversityReport`: distinct-n over the rows' texts, how many of
a row's samples differ and how alike they are, and what sampling costs in ROUGE-L. Right answers stand beside them, as people
write.
Sources: Li et al. 2016 (distinct-n); Zhu et al. 2018 (Texygen: a sample against its row's others, here by ROUGE-L).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from ptune.compare.wording import Both
from ptune.data import Example
from ptune.errors import DataError, TrainError
from ptune.model import WritingModel
from ptune.objective import check_text_metrics, text_report
from ptune.task import Task
from ptune.template import dominant_script

__all__ = ["DiversityReport", "Sampled", "Variety", "diversity"]

_TEMPERATURES = (0.7, 1.0)
_NUM_SAMPLES = 5
_NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Sampled:
    """What was written for a row.

    Args:
        reference: its first right answer.
        texts: in the order in which they were drawn.
    """

    reference: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Variety:
    """Texts of one origin.

    Args:
        name, title: which.
        num_texts: of each row.
        distinct_1, distinct_2: different words (characters of scripts without spaces) and pairs among one text of each row, as
            a share of them; where there are several of each row, the mean over these.
        different: number of different texts of a row, as a share of its texts; None of a single text.
        alike: ROUGE-L of a text with the most similar other one of its row; None of a single text.
        score: ROUGE-L with the right answers; None of the right answers themselves.
        drop: how much of it is lost against what the task writes by itself.
        examples: the rows with the most different texts.
    """

    name: str
    title: Both
    num_texts: int
    distinct_1: float
    distinct_2: float
    different: float | None = None
    alike: float | None = None
    score: float | None = None
    drop: float | None = None
    examples: tuple[Sampled, ...] = ()


@dataclass(frozen=True)
class DiversityReport:
    """How varied a task's texts are.

    Args:
        language: of the right answers.
        num_rows: rows that were answered.
        varieties: right answers, the task's own texts, then samples, the coolest first.
        not_tried: what makes no sense for this task, and why.
    """

    language: str
    num_rows: int
    varieties: tuple[Variety, ...]
    not_tried: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def diversity(task: Task, rows: Sequence[Example], *, samples: int = _NUM_SAMPLES, seed: int = 0) -> DiversityReport:
    """Writes each row's answer as the task does, and `samples` more at each temperature.

    Args:
        task: one that writes texts.
        rows: with right answers.
        samples: texts of each row at each temperature, two or more.
        seed: of what is drawn.

    Raises:
        TrainError: the task writes none.
        DataError: no rows, fewer than two samples, a row without a right answer, or the extra `metrics` is not installed.
    """
    model = task.model
    if not isinstance(model, WritingModel):
        raise TrainError(f"diversity is of tasks that write texts, this one is {model.kind}", where="task")
    if not rows:
        raise DataError("there are no rows to test on", fix="pass at least one")
    if samples < 2:
        raise DataError(f"{samples} sample of a row has no variety", where="samples", fix="draw two or more")
    check_text_metrics()
    references = [model.references(row) for row in rows]
    first = [texts[0] for texts in references]
    people = text_report(first, references)
    right = Variety("references", ("right answers", "参考答案"), 1, people.distinct_1, people.distinct_2)
    own = _variety("as-written", ("as the task writes", "任务自身的输出"), _texts(model, rows, {}), references, None)
    drawn = []
    for temperature in _TEMPERATURES:
        words = {"temperature": temperature, "returns": samples, "beams": 1, "seed": seed}
        title = f"sampled at temperature {temperature:g}", f"采样，温度 {temperature:g}"
        drawn.append(_variety(f"sampled-{temperature:g}", title, _texts(model, rows, words), references, own.score))
    language = "zh" if dominant_script("\n".join(first)) == "unspaced" else "en"
    not_tried = ("changed texts, wordings and demonstration order: for classification",)
    return DiversityReport(language, len(rows), (right, own, *drawn), not_tried)


def _texts(model: WritingModel, rows: Sequence[Example], words: dict[str, Any]) -> list[tuple[str, ...]]:
    """What is written for each row."""
    settings = model.settings_of(words, where="stress")
    return [tuple(one.text for one in written) for written in model.write(rows, settings)]


def _variety(
    name: str, title: Both, texts: Sequence[tuple[str, ...]], references: Sequence[tuple[str, ...]], own: float | None
) -> Variety:
    """Figures of one way of writing; `own` is the score of the task's own texts, None where these are they."""
    reports = [text_report(drawn, references) for drawn in zip(*texts, strict=True)]
    figures: dict[str, Any] = {key: mean(getattr(one, key) for one in reports) for key in ("distinct_1", "distinct_2", "score")}
    if own is None or len(texts[0]) == 1:
        return Variety(name, title, len(texts[0]), **figures)
    varied = sorted(zip(texts, references, strict=True), key=lambda one: -len(set(one[0])))
    return Variety(
        name,
        title,
        len(texts[0]),
        different=mean(len(set(written)) / len(written) for written in texts),
        alike=_alike(texts),
        drop=own - figures["score"],
        examples=tuple(Sampled(right[0], written) for written, right in varied[:_NUM_EXAMPLES]),
        **figures,
    )


def _alike(texts: Sequence[tuple[str, ...]]) -> float:
    """Mean ROUGE-L of a text with the nearest of its row's others; 0 where all others are empty."""
    pairs = [(text, [*written[:at], *written[at + 1 :]]) for written in texts for at, text in enumerate(written)]
    full = [(text, others) for text, others in pairs if any(other.strip() for other in others)]
    if not full:
        return 0.0
    return len(full) / len(pairs) * text_report([text for text, _ in full], [others for _, others in full]).score
