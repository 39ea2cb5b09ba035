"""Texts that are written token by token: rows of all tasks side by side, new ones join at any step, finished ones leave.

In: a queue. Out: pieces of texts while they are written, and `Written`. A step gives each running text its next token and then
reads the prompts of as many new ones as there is room for. Tasks that cannot share a flow (beams, encoder-decoders, models that
no context can enter, gated prompts) write theirs by themselves, one after the other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example, dialogue_messages
from ptune.decode import DecodeSettings, Flow, Line, Written, choose
from ptune.model import DialogueModel, PreparedTexts, WritingModel
from ptune.prompt import DeepConfig
from ptune.serve.engine import refusal_of
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.refusals import Refusal, bad_request, late
from ptune.serve.settings import ServeSettings
from ptune.serve.tickets import Waiting
from ptune.task import Task

__all__ = ["Writing"]

_MOST_TOKENS_HELD = 32_768
"""Tokens for whose keys and values running texts may come to have room: rows times the longest."""
_WORK = "write"
_PLAIN = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")


@dataclass(eq=False)
class _Text:
    """One text that is to be written, or is being written, since `began`."""

    waiting: Waiting
    model: WritingModel
    settings: DecodeSettings
    prepared: PreparedTexts
    line: Line
    began: float = 0.0

    @property
    def sample(self) -> int:
        """Its number among the samples of its row."""
        samples = self.waiting.ticket.order.samples
        return samples[self.waiting.place] if samples else 0

    @property
    def num_prompt_tokens(self) -> int:
        """That are read for it."""
        return len(self.prepared.encoded[0])

    @property
    def most_tokens(self) -> int:
        """That it may come to have, prompt included."""
        return self.num_prompt_tokens + self.settings.max_new_tokens

    @property
    def flows(self) -> bool:
        """Whether it can be written beside others."""
        method, backbone = self.model.method, self.model.backbone
        has_gates = isinstance(method, DeepConfig) and method.gate
        return self.settings.beams == 1 and backbone.takes_plan and not has_gates and not self.model.has_candidates


class _Stream:
    """Texts that grow side by side on one model's weights; room that was made for them stays until there are none.

    Args:
        backbone: the model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self.flow, self.texts = Flow(self._backbone), list[_Text]()
        self._rows, self._longest = 0, 0

    def add(self, text: _Text) -> None:
        """A text that is about to join the flow."""
        self._rows, self._longest = self._size_with(text)
        self.texts.append(text)

    def leave(self, number: int) -> None:
        """Takes a text out; the last one takes its number."""
        self.flow.leave(number)
        self.texts[number] = self.texts[-1]
        self.texts.pop()
        if not self.texts:
            self._rows, self._longest = 0, 0

    def room(self, text: _Text | None = None) -> int:
        """Tokens for whose keys and values there may be room, also once this text is in."""
        rows, longest = (self._rows, self._longest) if text is None else self._size_with(text)
        return rows * longest

    def _size_with(self, text: _Text) -> tuple[int, int]:
        return max(self._rows, len(self.texts) + 1), max(self._longest, text.most_tokens)


class Writing:
    """See the module's docstring; a kind of `Work`.

    Args:
        queue: texts that wait.
        settings: how many texts run, tokens of a step, and how many tokens a text may have.
        metrics: where steps are counted.
        after: is told which tasks were used.
    """

    weight = 2.0  # what is begun is to end soon: others wait for its place

    def __init__(
        self,
        queue: FairQueue,
        settings: ServeSettings,
        metrics: Metrics,
        after: Callable[[Mapping[str, Task]], None],
    ) -> None:
        self._queue, self._settings = queue, settings
        self._metrics, self._after = metrics, after
        self._streams: dict[int, _Stream] = {}
        self._ended: list[tuple[float, bool]] = []  # of each text that just ended: seconds it took, whether beside others
        self._is_short_of_room = False  # for keys and values, so that a text waits though there is a place
        queue.free_places = settings.max_running

    @property
    def num_running(self) -> int:
        """Texts that are being written."""
        return sum(len(stream.texts) for stream in self._streams.values())

    @property
    def _num_places(self) -> int:
        """How many texts run while others wait: all that may, unless there is no room for so many."""
        return max(1, self.num_running) if self._is_short_of_room else self._settings.max_running

    @property
    def has_work(self) -> bool:
        """Whether texts wait or are being written."""
        return len(self._queue) > 0 or self.num_running > 0

    def step(self) -> None:
        """One token for each running text; then new ones."""
        started = time.monotonic()
        self._drop()
        num_beside = self._num_places
        for stream in self._streams.values():
            if stream.texts:
                self._guarded(stream, lambda stream=stream: self._grow(stream))  # type: ignore[misc]
        fresh = self._admit()
        flowing, alone = [text for text in fresh if text.flows], [text for text in fresh if not text.flows]
        for texts in _grouped(flowing, lambda one: id(one.model.backbone.model)).values():
            stream = self._stream_of(texts[0])
            self._guarded(stream, lambda stream=stream, texts=texts: self._join(stream, texts))  # type: ignore[misc]
        for text in alone:
            self._write_alone(text)
        self._streams = {key: stream for key, stream in self._streams.items() if stream.texts}
        for seconds, flowed in self._ended:
            self._queue.pace.note_beside(seconds, num_beside if flowed else 1)
        self._ended = []
        is_held_up = (alone and len(self._queue)) or self._is_short_of_room
        self._queue.free_places = 0 if is_held_up else self._settings.max_running - self.num_running
        self._note(fresh, time.monotonic() - started)

    def give_up(self, refusal: Refusal) -> None:
        """Refuses all that wait or run."""
        self._queue.fail_all(lambda ticket: ticket.fail(refusal))
        streams, self._streams = self._streams, {}
        for stream in list(streams.values()):
            for text in list(stream.texts):
                text.waiting.ticket.fail(refusal)

    # -- new texts ---------------------------------------------------------------------------------------------------

    def _admit(self) -> list[_Text]:
        """Takes texts from the queue while there is room; one that cannot run in a flow is the last of its step."""
        fresh: list[_Text] = []
        tokens, self._is_short_of_room = 0, False
        while self.num_running < self._settings.max_running and (one := self._queue.take()) is not None:
            try:
                text = one.prepared or self._prepared(one)
            except Exception as error:
                one.ticket.answer(one.place, refusal_of(error))
                continue
            cost = text.num_prompt_tokens
            self._is_short_of_room = not self._has_room(text)
            if self._is_short_of_room or (fresh and tokens + cost > self._settings.tokens_per_step):
                one.prepared = text
                self._queue.put_back(one)
                break
            one.prepared, text.began = None, time.monotonic()
            if one.ticket.start():
                self._metrics.wait_seconds.observe(one.ticket.waited)
            one.ticket.num_tokens += cost
            tokens += cost
            fresh.append(text)
            if not text.flows:
                break
            self._stream_of(text).add(text)
        self._metrics.tokens.labels("read").inc(tokens)
        return fresh

    def _has_room(self, text: _Text) -> bool:
        """Whether keys and values stay within their bound; where no other text runs, this one may."""
        own = self._streams.get(id(text.model.backbone.model)) if text.flows else None
        others = sum(stream.room() for stream in self._streams.values() if stream is not own)
        room = text.most_tokens if own is None else own.room(text)
        return self.num_running == 0 or others + room <= _MOST_TOKENS_HELD

    def _stream_of(self, text: _Text) -> _Stream:
        backbone = text.model.backbone
        return self._streams.setdefault(id(backbone.model), _Stream(backbone))

    def _prepared(self, one: Waiting) -> _Text:
        """A row ready to be written.

        Raises:
            PtuneError: the task cannot read it, or there is no room for the answer.
            Refusal: settings that cannot be, or a conversation of too many messages.
        """
        model = one.ticket.task.model
        assert isinstance(model, WritingModel)
        settings = _settings(model, one.ticket.order.words, self._settings.limits.new_tokens)
        examples = one.ticket.task.examples([one.row])
        if isinstance(model, DialogueModel):
            _check_messages(examples[0], self._settings.limits.messages)
        prepared = model.prompts(examples)
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
        self._queue.free_places += 1  # who hears of this end may ask again before the step is over
        ticket.tell(place, piece, written)
        ticket.answer(place, written)
        self._ended.append((time.monotonic() - text.began, text.flows))
        self._metrics.texts.labels(ticket.name).inc()

    def _leave(self, stream: _Stream, is_over: Callable[[_Text], bool]) -> None:
        for number in reversed(range(len(stream.texts))):
            if is_over(stream.texts[number]):
                stream.leave(number)

    def _guarded(self, stream: _Stream, work: Callable[[], None]) -> None:
        """A fault takes the texts of its stream along, and no others."""
        try:
            work()
        except Exception as error:
            refusal = refusal_of(error)
            for text in stream.texts:
                text.waiting.ticket.fail(refusal)
            stream.clear()

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


def _check_messages(example: Example, most: int) -> None:
    """Counts before anything is rendered.

    Raises:
        DataError: the row holds no conversation.
        Refusal: one of too many messages (400).
    """
    try:
        num = len(dialogue_messages(example.fields, where=example.where))
    except RecursionError:
        raise bad_request("a row is nested too deeply", param="messages") from None
    if num > most:
        raise bad_request(f"a conversation has {num} messages, at most {most} are taken", param="messages")


def _output_of(model: WritingModel) -> int:
    """Models with the same output layer are asked together."""
    return id(model.backbone.model) if model.lm_head is None else id(model)


def _grouped(items: Any, key: Callable[[Any], int]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
