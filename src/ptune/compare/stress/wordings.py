"""What a task is asked with, put in other words: paraphrases of the template, of the label words, and synonyms in the texts.

In: a `Task`. Out: tasks with the same prompt and another wording, or a `Perturbation` whose synonyms are the nearest rows of
the model's own embeddings. Paraphrases come from small tables of our own; what they lack stays, and then there is no such
variant.
"""

import random
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch

from ptune.compare.stress.perturbation import Perturbation
from ptune.errors import PtuneError
from ptune.task import Task, as_classifier, task_of
from ptune.template import Template, Text

__all__ = ["label_variants", "synonyms", "template_variants", "variant"]

_SAID_OTHERWISE = (
    *(
        ("It was", "It is"),
        ("It was", "This was"),
        ("Review", "Comment"),
        ("Movie review", "Film review"),
        ("Topic", "Subject"),
    ),
    *(("Category", "Class"), ("Message", "Text"), ("In summary", "All in all"), ("the review is", "the opinion is")),
    *(("结论", "总结"), ("总体来说", "总的来说"), ("非常", "特别"), ("类别", "分类"), ("评价", "评论")),
)
_OTHER_WORDS = (
    *(
        ("great", "good"),
        ("terrible", "bad"),
        ("good", "great"),
        ("bad", "terrible"),
        ("positive", "good"),
        ("negative", "bad"),
    ),
    *(("好", "棒"), ("差", "坏"), ("满意", "高兴"), ("失望", "难过"), ("积极", "正面"), ("消极", "负面")),
)
_WORD = re.compile(r"[A-Za-z]{4,}")
_SHARE, _LEAST_COSINE, _NUM_CANDIDATES = 0.15, 0.4, 3


def template_variants(task: Task) -> Iterator[tuple[str, Task]]:
    """The task with one phrase of its template's hard words put otherwise; learned tokens stay where and what they are."""
    model = as_classifier(task)
    for said, other in _SAID_OTHERWISE:
        nodes = [Text(_replaced(node.text, said, other)) if isinstance(node, Text) else node for node in model.template.nodes]
        changed = Template(tuple(nodes))
        if changed != model.template:
            yield from variant(task, f"{said} → {other}", {"template": str(changed)})


def label_variants(task: Task) -> Iterator[tuple[str, Task]]:
    """The task with one label word put otherwise; none where a head scores the labels."""
    model = as_classifier(task)
    verbalizer = model.verbalizer
    if verbalizer is None or model.answers is None:
        return
    taken = {word.strip().lower() for words in verbalizer.words.values() for word in words}
    for label, words in verbalizer.words.items():
        for said, other in _OTHER_WORDS:
            new = [_in_case(other, word) if word.lower() == said else word for word in words]
            if new != list(words) and other not in taken:
                kept = task.bundle().card["task"]["verbalizer"]
                changed = {**kept, "words": {**kept["words"], label: new}}
                yield from variant(task, f"{said} → {other}", {"verbalizer": changed})


def variant(task: Task, name: str, changes: dict[str, Any]) -> Iterator[tuple[str, Task]]:
    """The task from its own bundle with changed words; nothing where the model cannot be asked so."""
    bundle = task.bundle()
    card = deepcopy(dict(bundle.card))
    card["task"] = {**card["task"], **changes}
    try:
        yield name, task_of(type(bundle)(card, bundle.tensors, bundle.tuned), as_classifier(task).backbone)
    except PtuneError:  # a word of other tokens, or one that the tokenizer does not know
        return


def _replaced(text: str, said: str, other: str) -> str:
    return re.sub(rf"(?<![A-Za-z]){re.escape(said)}(?![A-Za-z])", other, text)


def _in_case(word: str, like: str) -> str:
    return word.capitalize() if like[:1].isupper() else word


def synonyms(task: Task) -> Perturbation:
    """Words replaced by near ones of the model's own embeddings: one in seven, those of one token."""
    backbone = as_classifier(task).backbone
    ids = backbone.tokens.frequent_words()
    words = [backbone.tokens.show([index])[0].strip() for index in ids]
    usable = [at for at, word in enumerate(words) if _WORD.fullmatch(word)]
    with torch.no_grad():
        rows = torch.nn.functional.normalize(backbone.embed(torch.tensor([ids[at] for at in usable])).float(), dim=1)
    place = {words[at]: number for number, at in enumerate(usable)}

    def near(word: str, draw: random.Random) -> str:
        if word not in place:
            return word
        close = rows @ rows[place[word]]
        best = [number for number in close.topk(min(40, len(usable))).indices.tolist() if close[number] >= _LEAST_COSINE]
        others = [words[usable[number]] for number in best if not _same_word(words[usable[number]], word)]
        return draw.choice(others[:_NUM_CANDIDATES]) if others else word

    def change(text: str, draw: random.Random) -> str:
        found = [match for match in _WORD.finditer(text) if match[0] in place]
        chosen = draw.sample(found, min(len(found), max(1, round(_SHARE * len(found)))))
        for match in sorted(chosen, key=lambda one: -one.start()):
            text = text[: match.start()] + near(match[0], draw) + text[match.end() :]
        return text

    return Perturbation("synonyms", ("near words of the model's embeddings", "嵌入中的近义词"), change, ("en",))


def _same_word(one: str, other: str) -> bool:
    """Whether two words differ in case or ending alone."""
    one, other = one.lower(), other.lower()
    return one.startswith(other[:4]) or other.startswith(one[:4])
