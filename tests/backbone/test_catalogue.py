"""The catalogue's entries are complete and consistent, and a folder of the cache is whole or absent."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.backbone.catalogue import (
    CARD,
    ModelEntry,
    cache_dir,
    catalogue,
    check_disk,
    entry,
    is_whole,
    local_folder,
    model_folder,
    whole_folder,
)
from ptune.errors import BackboneError

HASH = "a" * 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["sha256", "files", "x"]), inner),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("model", catalogue().values(), ids=lambda model: model.name)
def test_entry_is_complete(model: ModelEntry) -> None:
    assert model.kind in {"encoder", "decoder", "encoder-decoder"}
    assert model.licence_url.startswith("https://")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.hub_id)
    assert all(re.fullmatch(r"[a-z]{2,3}", language) for language in model.languages)
    assert model.memory_mb == round(model.parameters * 4 / 10**6)
    assert model.memory_mb < model.disk_mb
    assert model.note.endswith(".") and "\n" not in model.note
    assert all(wheel.members for wheel in model.wheels)
    hashes = [wheel.sha256 for wheel in model.wheels] + [model.sha256]
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in hashes)


def test_quantised_weights_say_so_and_start_text_with_a_token() -> None:
    quantised = [model for model in catalogue().values() if model.gguf_sha256]
    assert {model.name for model in quantised} >= {"smollm2-135m-q4", "gemma-3-270m-q4"}
    for model in quantised:
        assert model.name.endswith("-q4") and "4-bit" in model.title and "fingerprint" in model.note
        assert model.text_start.startswith("<")


def test_minilm_has_no_masked_lm_head() -> None:
    assert (entry("minilm-l6").kind, entry("minilm-l6").masked_lm) == ("encoder", False)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(BackboneError, match=r"'smollm2-135m'.*did you mean 'smollm2-135m-q4'.*ptune models list"):
        entry("smollm2-135m")
    with pytest.raises(BackboneError, match=r"'zzz' in the catalogue \(`ptune models list`"):
        entry("zzz")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTUNE_CACHE", "~/models")
    assert cache_dir() == Path.home() / "models"
    monkeypatch.delenv("PTUNE_CACHE")
    assert cache_dir().name in {"ptune", "Cache"}


def test_folder_appears_whole_with_its_card(cache: Path) -> None:
    model = entry("minilm-l6")
    assert local_folder(model) is None
    with whole_folder(model_folder(model), sha256=model.sha256, name=model.name) as fresh:
        (fresh / "config.json").write_text("{}")
        assert local_folder(model) is None
    assert local_folder(model) == cache / "models" / "minilm-l6"
    card = json.loads((model_folder(model) / CARD).read_text())
    assert card["name"] == "minilm-l6" and card["sha256"] == model.sha256 and card["files"] == {"config.json": 2}
    assert set(card["versions"]) == {"ptune", "torch", "transformers", "gguf"}


def test_damage_and_other_versions_are_noticed(cache: Path) -> None:
    with whole_folder(cache / "m", sha256=HASH) as fresh:
        (fresh / "config.json").write_text("{}")
    assert is_whole(cache / "m", HASH) and not is_whole(cache / "m", "b" * 64)
    (cache / "m" / "config.json").write_text("{")
    assert not is_whole(cache / "m", HASH)
    (cache / "m" / "config.json").unlink()
    assert not is_whole(cache / "m", HASH)


def test_interruption_leaves_nothing(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(cache / "m", sha256=HASH) as fresh:
        (fresh / "model.safetensors").write_text("half")
        raise KeyboardInterrupt
    assert list(cache.iterdir()) == []


def test_damaged_folder_is_replaced_and_a_whole_one_is_kept(cache: Path) -> None:
    (cache / "m").mkdir(parents=True)
    (cache / "m" / "half").touch()
    with whole_folder(cache / "m", sha256=HASH) as fresh:
        (fresh / "first").touch()
    with whole_folder(cache / "m", sha256=HASH) as fresh:  # as if another process had been first
        (fresh / "second").touch()
    assert {file.name for file in (cache / "m").iterdir()} == {"first", CARD}
    assert [folder.name for folder in cache.iterdir()] == ["m"]


def test_scratch_of_killed_processes_is_swept(cache: Path) -> None:
    old, new = cache / ".m-old", cache / ".m-new"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (0, time.time() - 2 * 24 * 3600))
    with whole_folder(cache / "m", sha256=HASH):
        pass
    assert not old.exists() and new.exists()


def test_unwritable_cache_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackboneError, match="PTUNE_CACHE"), whole_folder(tmp_path / "file" / "m", sha256=HASH):
        pass


def test_full_disk_is_refused_beforehand(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "there", 0, "it")
    with pytest.raises(BackboneError, match=r"it needs 9{12} MB of disk, \d+ MB are free"):
        check_disk(tmp_path / "not" / "there", 10**12 - 1, "it")


@given(card=JSON)
def test_no_card_makes_reading_fail(card: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "card"
    folder.mkdir(exist_ok=True)
    (folder / CARD).write_text(json.dumps(card))
    assert not is_whole(folder, HASH)
