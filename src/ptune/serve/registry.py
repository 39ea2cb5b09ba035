"""The tasks that a server answers for: found in the folder, checked, put into memory when asked for, least recently used out.

In: the folder, again and again. Out: for a task's name the version that answers now. A version is one content of a bundle,
known by its hash; while a bundle is replaced, the old version answers until the new one is whole, checked and built. A bundle
that went bad never replaces a good one that is in memory; the reason is listed. Folders are read on a thread of their own.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ptune.errors import BundleError, PtuneError
from ptune.serve.engine import Engine, kind_of_task, task_bytes
from ptune.serve.folder import Place, Signature, look
from ptune.serve.logs import log
from ptune.serve.metrics import Metrics
from ptune.serve.refusals import Refusal, no_task, not_ready, refused_task
from ptune.serve.settings import ServeSettings
from ptune.serve.vetting import Changing, Files, Vetted, read_files, vet
from ptune.serve.worker import Worker
from ptune.task import Task

__all__ = ["Entry", "Registry", "Version"]

_TRIES = 5
_PAUSE = 0.5
_DAMAGED = "it cannot be put on the backbone"


@dataclass(eq=False)
class Version:
    """One content of a task's bundle.

    Args:
        digest: SHA-256 of its files.
        card: `bundle.json`.
        fields: the names that a row must have.
        task: in memory, or None.
        num_bytes: memory that it takes there.
    """

    digest: str
    card: Mapping[str, Any]
    fields: tuple[str, ...] = ()
    task: Task | None = None
    num_bytes: int = 0


@dataclass(eq=False)
class Entry:
    """One name in the folder.

    Args:
        name: the task's.
        place: where its bundle was seen last.
        version: what answers now, or None where nothing does.
        reason: why the newest content is not served; empty where it is.
        is_pinned: whether it stays in memory.
        used_at: when it was asked for last.
    """

    name: str
    place: Place
    version: Version | None = None
    reason: str = ""
    is_pinned: bool = False
    used_at: float = 0.0
    num_loads: int = 0
    seen: Signature | None = None
    bad: Signature | None = None
    num_tries: int = 0
    missing_since: float | None = None
    again_at: float = inf
    loading: "asyncio.Future[None] | None" = None
    since: float = field(default_factory=time.time)

    @property
    def state(self) -> str:
        """`resident`, `ready` (loaded when asked for), `refused`, or `new` (not looked at yet)."""
        if self.version is None:
            return "refused" if self.reason else "new"
        return "ready" if self.version.task is None else "resident"

    @property
    def may_go(self) -> bool:
        """Whether it may be put out of memory: not while it is pinned, and not while its folder could not give it back."""
        return not self.is_pinned and not self.reason and self.missing_since is None

    def to_dict(self) -> dict[str, Any]:
        """What anyone may know of it."""
        known: dict[str, Any] = {"task": self.name, "state": self.state}
        if self.version is not None:
            card, task = self.version.card, self.version.card["task"]
            known |= {"kind": kind_of_task(card), "version": self.version.digest[:16], "fields": list(self.version.fields)}
            known |= {"labels": [str(label) for label in task.get("labels") or ()], "template": task["template"]}
            known |= {"method": str(task["method"].get("name"))}
        if self.reason:
            known["replacement_refused" if self.version else "reason"] = self.reason
        return known


class Registry:
    """See the module's docstring.

    Args:
        settings: folder, memory, how often to look.
        engine: builds tasks, on the worker's thread.
        worker: that thread.
        metrics: residency and loads.

    `num_bytes` is the memory that all tasks take now.
    """

    def __init__(self, settings: ServeSettings, engine: Engine, worker: Worker, metrics: Metrics) -> None:
        self._settings, self._engine, self._worker, self._metrics = settings, engine, worker, metrics
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ptune-folder")
        self._is_stopping = threading.Event()
        self._scanner = threading.Thread(target=self._scan_again, name="ptune-scan", daemon=True)
        self.is_ready = False
        self.num_bytes = 0

    # -- asked for from the event loop -------------------------------------------------------------------------------

    @property
    def entries(self) -> list[Entry]:
        """All names, sorted."""
        with self._lock:
            return [self._entries[name] for name in sorted(self._entries)]

    def entry(self, name: str) -> Entry:
        """What is known under a name.

        Raises:
            Refusal: nothing (404), or nothing yet (503).
        """
        entry = self._entries.get(name)
        if entry is None:
            raise no_task(name) if self.is_ready else not_ready()
        return entry

    async def acquire(self, name: str) -> tuple[Entry, Version, Task]:
        """The version of a task that answers now, in memory.

        Raises:
            Refusal: there is none, it is not served (with the reason), or it cannot be loaded now.
        """
        for _ in range(_TRIES):
            entry = self.entry(name)
            entry.used_at = time.monotonic()
            version = entry.version
            if version is None:
                raise refused_task(name, entry.reason) if entry.reason else not_ready(f"the task {name!r} is being looked at")
            task = version.task
            if task is not None:
                return entry, version, task
            await self._load(entry)
        raise not_ready(f"the task {name!r} is being replaced")

    async def _load(self, entry: Entry) -> None:
        """Reads and builds it, once for all who wait."""
        if entry.loading is None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._reader, self._check, entry, True)
            entry.loading = future
            future.add_done_callback(lambda _: setattr(entry, "loading", None))
        await asyncio.shield(entry.loading)

    # -- asked for by admins -----------------------------------------------------------------------------------------

    async def pin(self, name: str, wanted: bool) -> Entry:
        """Keeps a task in memory, or no longer."""
        if wanted:
            await self.acquire(name)
        entry = self.entry(name)
        entry.is_pinned = wanted
        return entry

    def unload(self, name: str) -> Entry:
        """Puts a task out of memory; requests that it was accepted for are still answered.

        Raises:
            Refusal: it is pinned, or its folder could not give it back (409).
        """
        entry = self.entry(name)
        if not entry.may_go:
            what = "is pinned; unpin it first" if entry.is_pinned else "would be lost: its folder holds no good copy"
            raise Refusal(409, "not_now", f"the task {name!r} {what}", param="task")
        with self._lock:
            self._put_out(entry)
        return entry

    async def reload(self) -> None:
        """Looks at the folder now, also at what was refused.

        Raises:
            Refusal: the folder cannot be read (409).
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._reader, lambda: self.scan(again=True))
        except OSError as error:
            log("scan_failed", level="error", error=f"{type(error).__name__}: {error}")
            raise Refusal(409, "not_now", "the folder of bundles cannot be read; the server's log says why") from None

    # -- the folder --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to look at the folder."""
        self._scanner.start()

    def stop(self) -> None:
        """Looks no more."""
        self._is_stopping.set()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _scan_again(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._reader.submit(self.scan).result()
            except RuntimeError:  # the reader was shut down
                return
            except Exception as error:
                log("scan_failed", level="error", error=f"{type(error).__name__}: {error}")
            self._is_stopping.wait(self._settings.scan_seconds)

    def scan(self, *, again: bool = False) -> None:
        """Looks at every name once; reads what changed.

        Args:
            again: reads what was refused too, whether it changed or not.

        Raises:
            OSError: the folder cannot be read; all stays as it was.
        """
        found = look(self._settings.folder)
        now = time.monotonic()
        for name, place in found.items():
            with self._lock:
                entry = self._entries.get(name)
                if entry is None:
                    entry = self._entries[name] = Entry(name, place)
                entry.place, entry.missing_since = place, None
            is_due = now >= entry.again_at or (again and entry.reason)
            if entry.seen is None or entry.seen != place.signature or place.problem or is_due:
                self._check(entry, False)
            if self._is_stopping.is_set():
                return
        for name in [name for name in self._entries if name not in found]:
            self._miss(self._entries[name], now)
        self.is_ready = True
        self._count()

    def _miss(self, entry: Entry, now: float) -> None:
        """A bundle is away for a moment while it is replaced; only what stays away is gone."""
        entry.missing_since = entry.missing_since or now
        entry.seen = None
        if entry.version is None or now - entry.missing_since >= 2 * self._settings.scan_seconds:
            with self._lock:
                self._set_bytes(entry, 0)
                self._entries.pop(entry.name, None)
            self._metrics.forget(entry.name)
            log("task_gone", task=entry.name)

    def _check(self, entry: Entry, to_load: bool) -> None:
        """Reads a place: a new content is checked and built, then answers in the old one's stead."""
        try:
            entry.again_at = inf
            self._read(entry, to_load)
            entry.num_tries, entry.bad = 0, None
            return
        except PtuneError as error:
            reason = f"{error.what}" + (f" ({error.fix})" if error.fix else "")
        except Exception as error:  # perhaps not the bundle's own fault, and over without a change of it
            entry.again_at = time.monotonic() + _TRIES * self._settings.scan_seconds
            reason = self._excuse(entry, error)
        signature = entry.place.signature
        if reason and (entry.version is None or entry.bad == signature):
            self._refuse(entry, reason)
            return
        entry.bad, entry.seen = signature, None  # perhaps half replaced: only what is bad twice is bad
        if to_load:
            time.sleep(min(_PAUSE, self._settings.scan_seconds))
            with suppress(OSError):
                entry.place = look(self._settings.folder).get(entry.name, entry.place)

    @staticmethod
    def _excuse(entry: Entry, error: Exception) -> str:
        """Why a bundle cannot be served now; empty while it may just be in the writing."""
        if isinstance(error, Changing):
            entry.num_tries += 1
            return f"it cannot be read{f' ({error})' if str(error) else ''}" if entry.num_tries >= _TRIES else ""
        reason = f"{_DAMAGED} ({type(error).__name__})"
        if entry.reason != reason:
            log("bundle_failed", level="error", task=entry.name, error=f"{type(error).__name__}: {error}")
        return reason

    def _read(self, entry: Entry, to_load: bool) -> None:
        place = entry.place
        entry.seen = place.signature
        if place.path is None:
            raise BundleError(place.problem)
        files: Files = read_files(place.path, place.signature, self._settings.limits.bundle_bytes)
        vetted = vet(files, self._engine.backbone)
        old = entry.version
        if old is not None and old.digest == vetted.digest and (old.task is not None or not to_load):
            entry.reason = ""
            return
        self._put_in(entry, vetted)

    def _put_in(self, entry: Entry, vetted: Vetted) -> None:
        started = time.monotonic()
        task = self._worker.call(lambda: self._engine.build(vetted)).result()
        version = Version(vetted.digest, vetted.card, task.field_names, task)
        with self._lock:
            is_new = entry.version is None or entry.version.digest != vetted.digest
            self._set_bytes(entry, 0)
            entry.version, entry.reason = version, ""
            self._set_bytes(entry, task_bytes(task))
            entry.since = time.time() if is_new else entry.since
            entry.used_at = entry.used_at or time.monotonic()
            entry.num_loads += 1
            self._metrics.resident.labels(entry.name).set(1)
            self._make_room(entry)
        seconds = time.monotonic() - started
        self._metrics.loads.labels(entry.name).inc()
        self._metrics.load_seconds.observe(seconds)
        log("task_new" if is_new else "task_loaded", task=entry.name, version=vetted.digest[:16], ms=round(1000 * seconds, 1))

    def _refuse(self, entry: Entry, reason: str) -> None:
        """Lists why the newest content is not served; one in memory goes on answering."""
        with self._lock:
            if entry.version is not None and entry.version.task is None:
                entry.version = None
            if entry.reason != reason:
                log("task_refused", level="warning", task=entry.name, reason=reason, answers=entry.version is not None)
            entry.reason = reason

    # -- memory ------------------------------------------------------------------------------------------------------

    def used(self, tasks: Mapping[str, Task]) -> None:
        """After a step: counts what the tasks of these names take now, and makes room."""
        with self._lock:
            for name, task in tasks.items():
                entry = self._entries.get(name)
                if entry is not None and entry.version is not None and entry.version.task is task:
                    self._set_bytes(entry, task_bytes(task))
            self._make_room(None)

    def _make_room(self, fresh: Entry | None) -> None:
        """Puts the least recently used out until the rest fits; the one that was asked for stays."""
        if self.num_bytes <= self._settings.task_bytes:
            return
        resident = [one for one in self._entries.values() if one.state == "resident" and one.may_go and one is not fresh]
        for entry in sorted(resident, key=lambda one: one.used_at):
            if self.num_bytes <= self._settings.task_bytes:
                return
            self._put_out(entry)

    def _put_out(self, entry: Entry) -> None:
        if entry.version is not None and entry.version.task is not None:
            self._set_bytes(entry, 0)
            entry.version.task = None
            self._metrics.resident.labels(entry.name).set(0)
            self._metrics.evictions.labels(entry.name).inc()

    def _set_bytes(self, entry: Entry, num_bytes: int) -> None:
        if entry.version is not None:
            self.num_bytes += num_bytes - entry.version.num_bytes
            entry.version.num_bytes = num_bytes
            self._metrics.bytes.labels(entry.name).set(num_bytes)

    def _count(self) -> None:
        with self._lock:
            states = [entry.state for entry in self._entries.values()]
        for state in ("resident", "ready", "refused", "new"):
            self._metrics.tasks.labels(state).set(states.count(state))
