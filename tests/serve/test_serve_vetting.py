"""Bundles from anywhere: whatever their bytes say, they are refused with a reason before a tensor is read, or are whole."""

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptune.bundle import CARD
from ptune.errors import BundleError, PtuneError
from ptune.serve.folder import look, name_problem, signature_of
from ptune.serve.vetting import Changing, read_files, vet
from serving import save_task
from tiny import tiny_backbone

PROMPT = "prompt.safetensors"
LIMIT = 10_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("bundles")
    save_task(root, "good")
    return read_files(root / "good", signature_of(root / "good"), LIMIT)


def tensors(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[Any], first: Any, last: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def with_card(files: dict[str, bytes], change: Any) -> dict[str, bytes]:
    card = json.loads(files[CARD])
    change(card)
    return {**files, CARD: json.dumps(card).encode()}


def test_a_good_bundle_is_known_by_its_content(files: dict[str, bytes]) -> None:
    first, again = vet(files, tiny_backbone("llama")), vet(dict(reversed(files.items())), tiny_backbone("llama"))
    assert first.digest == again.digest and len(first.digest) == 64
    other = with_card(files, lambda card: card.update(seed=99))
    assert vet(other, tiny_backbone("llama")).digest != first.digest


BAD_HEADERS = {
    "no header": b"1234",
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a header of a gigabyte": struct.pack("<Q", 2**30) + b"{}" + b" " * 100,
    "no JSON": tensors(b"{"),
    "a list": tensors(b"[]"),
    "deep JSON": tensors(b"[" * 100_000),
    "an absurd size": tensors({"prior": tensor([2**40, 2**20], 0, 8)}, b"12345678"),
    "an absurd size with its offsets": tensors({"prior": tensor([2**40], 0, 2**42)}, b"12345678"),
    "a negative length": tensors({"prior": tensor([-2, -1], 0, 8)}, b"12345678"),
    "a length that is no number": tensors({"prior": tensor(["2"], 0, 8)}, b"12345678"),
    "a truth value for a length": tensors({"prior": tensor([True, 2], 0, 8)}, b"12345678"),
    "an unknown type": tensors({"prior": tensor([2], 0, 8, "PICKLE")}, b"12345678"),
    "tensors that overlap": tensors({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, b"12345678"),
    "a hole": tensors({"prior": tensor([2], 8, 16)}, b"1234567812345678"),
    "more bytes than declared": tensors({"prior": tensor([2], 0, 8)}, b"123456789"),
    "many dimensions": tensors({"prior": tensor([1] * 50 + [2], 0, 8)}, b"12345678"),
}


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_tensor_files_that_lie(files: dict[str, bytes], content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="damaged"):
            vet({**files, PROMPT: content}, tiny_backbone("llama"))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


BAD_CARDS: dict[str, tuple[Any, str]] = {
    "another backbone": (lambda c: c["backbone"].update(fingerprint="0" * 64, name="other"), "made for other"),
    "a backbone that is text": (lambda c: c.update(backbone="x"), "damaged"),
    "no backbone": (lambda c: c.pop("backbone"), "damaged"),
    "a task that is a list": (lambda c: c.update(task=[]), "damaged"),
    "a template that is a number": (lambda c: c["task"].update(template=7), "not text"),
    "a newer format": (lambda c: c.update(format=99), "format 99"),
    "a billion learned tokens": (lambda c: c["task"].update(template="{text}{soft:1000000000}{mask}"), "in place of a number"),
    "many learned tokens": (lambda c: c["task"].update(template="{text}{soft:9999}{mask}"), "9,999 learned"),
    "more learned tokens than positions": (lambda c: c["task"].update(template="{text}{soft:65}{mask}"), "more than 64"),
    "a hundred thousand labels": (lambda c: c["task"].update(labels=["x"] * 100_000), "more than 10,000 labels"),
}


@pytest.mark.parametrize(("change", "words"), BAD_CARDS.values(), ids=BAD_CARDS)
def test_cards_that_cannot_be(files: dict[str, bytes], change: Any, words: str) -> None:
    with pytest.raises(PtuneError, match=words):
        vet(with_card(files, change), tiny_backbone("llama"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"null", b"[]", b'"x"', b"{}", b"[" * 100_000])
def test_cards_that_are_none(files: dict[str, bytes], content: bytes) -> None:
    with pytest.raises(BundleError, match="damaged"):
        vet({**files, CARD: content}, tiny_backbone("llama"))


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000, 0xFF800000], ids=["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite(files: dict[str, bytes], bits: int) -> None:
    content = bytearray(files[PROMPT])
    content[-4:] = struct.pack("<I", bits)
    with pytest.raises(BundleError, match="not finite"):
        vet({**files, PROMPT: bytes(content)}, tiny_backbone("llama"))


def test_rows_of_another_width(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_task(tmp_path, "wide")
    path = tmp_path / "wide" / PROMPT
    kept = load_file(path)
    save_file({**kept, "rows": torch.zeros(3, 33)}, path)
    found = read_files(tmp_path / "wide", signature_of(tmp_path / "wide"), LIMIT)
    with pytest.raises(BundleError, match="3 x 33"):
        vet(found, tiny_backbone("llama"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(files: dict[str, bytes], data: st.DataObject) -> None:
    """Any bytes in the place of others: a `PtuneError`, or a whole bundle; nothing else."""
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    try:
        vetted = vet({**files, name: bytes(content[:cut])}, tiny_backbone("llama"))
    except PtuneError:
        return
    assert all(bool(one.isfinite().all()) for one in vetted.bundle.tensors.values())


def test_a_bundle_that_changes_while_it_is_read(tmp_path: Path) -> None:
    save_task(tmp_path, "one")
    before = signature_of(tmp_path / "one")
    save_task(tmp_path, "one", 1)
    with pytest.raises(Changing):
        read_files(tmp_path / "one", before, LIMIT)


def test_sizes_are_checked_before_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_task(tmp_path, "one")
    with (tmp_path / "one" / PROMPT).open("r+b") as file:
        file.truncate(2**40)  # a terabyte with nothing in it
    monkeypatch.setattr("ptune.serve.vetting.os.open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(BundleError, match="1,099,511,"):
        read_files(tmp_path / "one", signature_of(tmp_path / "one"), LIMIT)


@pytest.mark.parametrize("name", ["a", "reviews-2.b_c", "中文", "Ä", "0", "a" * 64])
def test_names_of_tasks(name: str) -> None:
    assert not name_problem(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "a b", "a/b", "a\\b", "a\x00", "a\n", "a" * 65, "A\u0308", "%2e", "\u202ea"]
)
def test_names_that_are_none(name: str) -> None:
    assert name_problem(name)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "out"
    save_task(root, "real")
    save_task(outside, "foreign")
    (root / "inside").symlink_to(root / "real")
    (root / "escape").symlink_to(outside / "foreign")
    (root / "loop").symlink_to(root / "loop")
    (root / "parts").mkdir()
    (root / "parts" / CARD).symlink_to(outside / "foreign" / CARD)
    (root / "parts" / PROMPT).write_bytes((outside / "foreign" / PROMPT).read_bytes())
    (root / "tensors").mkdir()
    (root / "tensors" / CARD).write_bytes((outside / "foreign" / CARD).read_bytes())
    (root / "tensors" / PROMPT).symlink_to(outside / "foreign" / PROMPT)
    (root / "nowhere").mkdir()
    (root / "nowhere" / CARD).symlink_to(root / "none")
    found = look(root)
    assert not found["real"].problem and not found["inside"].problem
    for name in ("escape", "parts", "tensors"):
        assert found[name].path is None and "leads out" in found[name].problem
    assert "leads nowhere" in found["nowhere"].problem
    assert "loop" not in found or found["loop"].path is None
