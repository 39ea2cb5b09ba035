"""Texts that are written token by token: rows of all tasks side by side, new ones join at any step, finished ones leave.

In: a queue. Out: pieces of texts while they are written, and `Written`. A step gives each running text its next token and then
reads the prompts of as many new ones as there is room for. Tasks that cannot share a flow (beams, encoder-decoders, models that
no context can enter, gated prompts) write theirs by themselves, one after the other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ptune.decode import DecodeSettings, Flow, Line, Written, choose
from ptune.model import PreparedTexts, WritingModel
from ptune.prompt import DeepConfig
from ptune.serve.engine import Engine, refusal_of
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.refusals import Refusal, bad_request, late
from ptune.serve.settings import ServeSettings
from ptune.serve.tickets import Waiting
from ptune.task import Task

__all__ = ["Writing"]

_MOST_TOKENS_HELD = 32_768
"""Tokens whose keys and values running texts may come to hold."""
_WORK = "write"
_PLAIN = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")


@dataclass(eq=False)
class _Text:
    """One text that is to be written, or is being written."""

    waiting: Waiting
    model: WritingModel
    settings: DecodeSettings
    prepared: PreparedTexts
    line: Line

    @property
    def sample(self) -> int:
        """Its number among the samples of its row."""
        samples = self.waiting.ticket.order.samples
        return samples[self.waiting.place] if samples else 0

    @property
    def most_tokens(self) -> int:
        """That it may come to have, prompt included."""
        return len(self.prepared.encoded[0]) + self.settings.max_new_tokens


@dataclass(eq=False)
class _Stream:
    """Texts that grow side by side on one model's weights."""

    flow: Flow
    texts: list[_Text] = field(default_factory=list)


class Writing:
    """See the module's docstring; a kind of `Work`.

    Args:
        queue: texts that wait.
        engine: says what a text costs.
        settings: how many texts run, tokens of a step, and how many tokens a text may have.
        metrics: where steps are counted.
        after: is told which tasks were used.
    """

    weight = 2.0  # what is begun is to end soon: others wait for its place

    def __init__(
        self,
        queue: FairQueue,
        engine: Engine,
        settings: ServeSettings,
        metrics: Metrics,
        after: Callable[[Mapping[str, Task]], None],
    ) -> None:
        self._queue, self._engine, self._settings = queue, engine, settings
        self._metrics, self._after = metrics, after
        self._streams: dict[int, _Stream] = {}
        self._ended: list[float] = []  # of the texts that ended in this step, when they were queued

    @property
    def num_running(self) -> int:
        """Texts that are being written."""
        return sum(len(stream.texts) for stream in self._streams.values())

    @property
    def has_work(self) -> bool:
        """Whether texts wait or are being written."""
        return len(self._queue) > 0 or self.num_running > 0

    def step(self) -> None:
        """One token for each running text; then new ones."""
        started = time.monotonic()
        self._drop()
        for stream in self._streams.values():
            if stream.texts:
                self._guarded(stream, lambda stream=stream: self._grow(stream))  # type: ignore[misc]
        fresh = self._admit()
        for model_id, texts in _grouped(fresh, lambda one: id(one.model.backbone.model)).items():
            stream = self._streams.setdefault(model_id, _Stream(Flow(texts[0].model.backbone)))
            stream.texts += texts
            self._guarded(stream, lambda stream=stream, texts=texts: self._join(stream, texts))  # type: ignore[misc]
        self._streams = {key: stream for key, stream in self._streams.items() if stream.texts}
        if self._ended:
            self._queue.pace.note(len(self._ended), min(self._ended))
            self._ended = []
        self._note(fresh, time.monotonic() - started)

    def give_up(self, refusal: Refusal) -> None:
        """Refuses all that wait or run."""
        self._queue.fail_all(lambda ticket: ticket.fail(refusal))
        for stream in self._streams.values():
            for text in stream.texts:
                text.waiting.ticket.fail(refusal)
        self._streams = {}

    # -- new texts ---------------------------------------------------------------------------------------------------

    def _admit(self) -> list[_Text]:
        """Takes texts from the queue while there is room; those that cannot run in a flow are written at once."""
        fresh: list[_Text] = []
        held = sum(text.most_tokens for stream in self._streams.values() for text in stream.texts)
        tokens = 0
        while self.num_running + len(fresh) < self._settings.max_running and (one := self._queue.take()) is not None:
            try:
                text = self._prepared(one)
            except Exception as error:
                one.ticket.answer(one.place, refusal_of(error))
                continue
            cost = len(text.prepared.encoded[0])
            is_first = not fresh and self.num_running == 0
            is_full = tokens + cost > self._settings.tokens_per_step or held + text.most_tokens > _MOST_TOKENS_HELD
            if is_full and not is_first and (fresh or held + text.most_tokens > _MOST_TOKENS_HELD):
                self._queue.put_back(one)
                break
            if one.ticket.start():
                self._metrics.wait_seconds.observe(one.ticket.waited)
            one.ticket.num_tokens += cost
            tokens, held = tokens + cost, held + text.most_tokens
            if _flows(text):
                fresh.append(text)
            else:
                self._write_alone(text)
        self._metrics.tokens.labels("read").inc(tokens)
        return fresh

    def _prepared(self, one: Waiting) -> _Text:
        """A row ready to be written.

        Raises:
            PtuneError: the task cannot read it, or there is no room for the answer.
            Refusal: settings that cannot be.
        """
        model = one.ticket.task.model
        assert isinstance(model, WritingModel)
        settings = _settings(model, one.ticket.order.words, self._settings.limits.new_tokens)
        prepared = model.prompts(one.ticket.task.examples([one.row]))
        model.check_room(settings.max_new_tokens, max_prompt=len(prepared.encoded[0]))
        samples = one.ticket.order.samples
        sample = samples[one.place] if samples else 0
        number = one.place // (max(samples) + 1) if samples else one.place
        return _Text(one, model, settings, prepared, Line(model.backbone.tokens, settings, number, sample))

    def _join(self, stream: _Stream, texts: list[_Text]) -> None:
        """Reads their prompts, and chooses their first tokens."""
        batches, prompts, order = [], [], []
        for group in _grouped(texts, lambda one: id(one.model)).values():
            model = group[0].model
            encoded = tuple(one.prepared.encoded[0] for one in group)
            rows = tuple(one.prepared.rows[0] for one in group)
            prepared = PreparedTexts(encoded, rows=rows)
            batches.append(model.batch(prepared, range(len(group)), lead=model.lead(encoded)))
            prompts.append(model.prompt())
            order += group
        stream.texts[len(stream.texts) - len(texts) :] = order
        states = stream.flow.join(batches, prompts)
        self._choose(stream, order, states)

    def _write_alone(self, text: _Text) -> None:
        """Whole, by the task itself."""
        ticket, place = text.waiting.ticket, text.waiting.place
        settings = text.settings
        if settings.temperature > 0:
            settings = settings.model_copy(update={"seed": settings.seed + text.sample})
        try:
            (written,) = text.model.write(ticket.task.examples([text.waiting.row]), settings)
        except Exception as error:
            ticket.answer(place, refusal_of(error))
            return
        self._finish(text, written, written[0].text)

    # -- running texts -----------------------------------------------------------------------------------------------

    def _drop(self) -> None:
        """Takes out what nobody waits for any more, and what took too long."""
        now = time.monotonic()
        for stream in self._streams.values():
            for text in stream.texts:
                if now > text.waiting.ticket.deadline:
                    text.waiting.ticket.fail(late())
            self._leave(stream, lambda text: text.waiting.ticket.is_done)

    def _grow(self, stream: _Stream) -> None:
        states = stream.flow.step([text.line.ids[-1] for text in stream.texts])
        self._choose(stream, list(stream.texts), states)

    def _choose(self, stream: _Stream, texts: Sequence[_Text], states: Tensor) -> None:
        """The next token of each text; finished ones are answered and leave."""
        for numbers in _grouped(range(len(texts)), lambda number: _output_of(texts[number].model)).values():
            model = texts[numbers[0]].model
            scores = torch.log_softmax(model.logits(states[numbers], None), -1)
            best = scores.argmax(1).tolist()
            for row, number in enumerate(numbers):
                text = texts[number]
                own = scores[row : row + 1]
                token = best[row] if text.settings.temperature == 0 else int(choose(own, text.settings, [text.line])[0])
                reads_along = text.waiting.ticket.on_news is not None
                text.line.add(token, float(own[0, token]), text.model.end_ids, reads_along=reads_along)
        self._metrics.tokens.labels("written").inc(len(texts))
        for text in texts:
            pieces = text.line.pieces
            if text.line.reason is not None:
                self._finish(text, (text.line.written(),), pieces.last_piece())
            elif text.waiting.ticket.on_news is not None:
                text.waiting.ticket.tell(text.waiting.place, pieces.piece())
        self._leave(stream, lambda text: text.line.reason is not None)

    def _finish(self, text: _Text, written: tuple[Written, ...], piece: str) -> None:
        ticket, place = text.waiting.ticket, text.waiting.place
        ticket.tell(place, piece, written)
        ticket.answer(place, written)
        self._ended.append(ticket.queued_at)
        self._metrics.texts.labels(ticket.name).inc()

    def _leave(self, stream: _Stream, is_over: Callable[[_Text], bool]) -> None:
        for number in reversed(range(len(stream.texts))):
            if is_over(stream.texts[number]):
                stream.flow.leave(number)
                stream.texts[number] = stream.texts[-1]
                stream.texts.pop()

    def _guarded(self, stream: _Stream, work: Callable[[], None]) -> None:
        """A fault takes the texts of its stream along, and no others."""
        try:
            work()
        except Exception as error:
            refusal = refusal_of(error)
            for text in stream.texts:
                text.waiting.ticket.fail(refusal)
            stream.texts, stream.flow = [], Flow(self._engine.backbone)

    def _note(self, fresh: Sequence[_Text], seconds: float) -> None:
        running = [text for stream in self._streams.values() for text in stream.texts]
        self._metrics.running.set(len(running))
        self._metrics.step_seconds.labels(_WORK).observe(seconds)
        self._metrics.step_texts.labels(_WORK).observe(len(running))
        self._metrics.step_tasks.labels(_WORK).observe(len({text.waiting.ticket.name for text in running}))
        self._metrics.step_fill.labels(_WORK).observe(len(running) / self._settings.max_running)
        if fresh:
            self._after({one.waiting.ticket.name: one.waiting.ticket.task for one in fresh})


def _settings(model: WritingModel, words: Mapping[str, Any], most_tokens: int) -> DecodeSettings:
    """How this request's texts are written: as the task says, but for what the request says.

    Raises:
        Refusal: settings that do not fit together (400).
    """
    own = model.settings_of({}).model_dump()
    said = {key: words[key] for key in _PLAIN if words.get(key) is not None}
    if said.get("temperature", own["temperature"]) == 0:
        said |= {"top_p": None, "top_k": None}
    else:
        said |= {"beams": 1, "returns": 1}
    chosen = {**own, **said, "stop": tuple(dict.fromkeys((*words.get("stop", ()), *own["stop"])))}
    chosen["max_new_tokens"] = min(chosen["max_new_tokens"], most_tokens)
    try:
        return DecodeSettings(**chosen)
    except ValidationError as error:
        raise bad_request(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _flows(text: _Text) -> bool:
    """Whether it can be written beside others."""
    model = text.model
    has_gates = isinstance(model.method, DeepConfig) and model.method.gate
    return text.settings.beams == 1 and model.backbone.takes_plan and not has_gates and not model.has_candidates


def _output_of(model: WritingModel) -> int:
    """Models with the same output layer are asked together."""
    return id(model.backbone.model) if model.lm_head is None else id(model)


def _grouped(items: Any, key: Callable[[Any], int]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
