"""Measuring helpers that all benchmarks share: alternating times, the matrix peak, peak memory, and the facts of a run.

Everything to be compared is timed in one process, one call of each case after the other, so that a slow minute of the machine
meets all cases alike. Medians are reported. The share of the matrix peak is a stated count of operations over the time, against
an fp32 product of two matrices timed in the same process. Peak memory is the kernel's own high-water mark.
"""

import ctypes
import gc
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
PEAK_SHAPE = (2048, 2048, 2048)
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def alternate(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Times the cases in turn, after one call of each that is not counted.

    Args:
        cases: name -> what to time.
        repeats: rounds; each round calls every case once, in the order given, garbage collected before each.

    Returns:
        Seconds per case, one per round.
    """
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            gc.collect()
            started = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each case."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_peak(m: int = PEAK_SHAPE[0], k: int = PEAK_SHAPE[1], n: int = PEAK_SHAPE[2], repeats: int = 25) -> float:
    """GFLOP/s of an fp32 product [m, k] x [k, n] in this process, the best of several: 2 m k n operations over the time."""
    left, right, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)

    def product() -> object:
        return torch.mm(left, right, out=out)

    with torch.inference_mode():
        best = min(alternate({"product": product}, repeats)["product"])
    return 2 * m * k * n / best / 1e9


def facts() -> dict[str, object]:
    """What a result needs beside it to be judged: commit, machine, threads and versions."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cpu": _cpu_model(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("torch", "transformers", "peft")},
        },
    }


def rss_mb() -> float:
    """Memory of this process that is in RAM now, in MB (10^6 bytes)."""
    return psutil.Process().memory_info().rss / 1e6


def peak_memory(call: Callable[[], object]) -> float:
    """By how many MB (10^6 bytes) the memory of this process grew at its highest while `call` ran, over what it had before.

    On Linux the kernel keeps the highest RSS of a process exactly (VmHWM) and forgets it when asked (clear_refs), so nothing is
    sampled and nothing short is missed. Elsewhere a thread samples RSS every millisecond. No child is forked: OpenMP's threads
    do not survive that. Free heap memory is given back first, so that what earlier calls left behind is not reused unseen; for
    figures that are to be published, still measure each side in a fresh process (weights loaded, one warm-up call made). Memory
    of the weights is not in the figure: `trimmed_rss_mb()` before the call plus this is the whole.
    """
    before = trimmed_rss_mb()
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return max(0.0, _sampled_peak_mb(call) - before)
    call()
    return max(0.0, _high_water_mb() - before)


def trimmed_rss_mb() -> float:
    """Memory of this process once free heap memory was given back, MB."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return rss_mb()


def _high_water_mb() -> float:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _sampled_peak_mb(call: Callable[[], object]) -> float:
    highest, done = [rss_mb()], threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            highest[0] = max(highest[0], rss_mb())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()
    return max(highest[0], rss_mb())


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
