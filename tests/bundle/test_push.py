"""Up to a hub and down again, through huggingface_hub itself and over HTTP, against a small hub that runs in the test."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

import ptune
from ptune.bundle import push_bundle, read_bundle
from ptune.bundle.hub import hub_name
from ptune.cli import main
from ptune.errors import BundleError
from tiny import tiny_backbone

FILES = ["README.md", "bundle.json", "prompt.safetensors"]


@pytest.fixture
def task() -> ptune.Task:
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
    words = {"good": ["good"], "bad": ["bad"]}
    return ptune.fit(train=rows, template="{text}{soft:3} It was{mask}", labels=words, backbone=tiny_backbone("llama"), steps=2)


@pytest.fixture
def bundle(task: ptune.Task, tmp_path: Path) -> Path:
    """A saved task that shows two training texts."""
    task.facts["data"] = {**task.facts["data"], "examples": {"good": ["a good day"], "bad": ["a bad day"]}}
    return task.save(tmp_path / "bundle")


def test_up_and_down_again_gives_the_same_task(hub, bundle, task):
    assert push_bundle(bundle, "anna/reviews") == f"{hub.url}/anna/reviews"
    kept = hub.repositories["anna/reviews"]
    assert sorted(kept.files) == FILES and kept.messages == ["Upload a task of ptune"] and not kept.private
    for name in FILES[1:]:
        assert kept.files[name] == (bundle / name).read_bytes()
    card = kept.files["README.md"].decode()
    assert ModelCard(card).data.library_name == "ptune" and 'ptune.load("anna/reviews")' in card
    examples = task.examples(["a great day", "bad"])
    for name in ("hub:anna/reviews", "anna/reviews"):
        loaded = ptune.load(name, backbone=tiny_backbone("llama"))
        assert torch.equal(loaded.scores(examples), task.scores(examples))
    assert read_bundle("hub:anna/reviews").card == read_bundle(bundle).card


def test_a_name_alone_is_the_users_own(hub, bundle):
    assert push_bundle(bundle, "reviews") == f"{hub.url}/anna/reviews"
    assert b'ptune.load("anna/reviews")' in hub.repositories["anna/reviews"].files["README.md"]


def test_again_is_a_second_commit(hub, bundle, task):
    push_bundle(bundle, "team/reviews")
    task.facts["seed"] = 7
    task.save(bundle)
    push_bundle(bundle, "team/reviews")
    assert len(hub.repositories["team/reviews"].messages) == 2
    assert read_bundle("hub:team/reviews").card["seed"] == 7


def test_only_the_bundle_goes_up(hub, bundle):
    (bundle / "notes.txt").write_text("mine")
    push_bundle(bundle, "anna/reviews")
    assert sorted(hub.repositories["anna/reviews"].files) == FILES


def test_private_stays_private(hub, bundle):
    push_bundle(bundle, "anna/secret", private=True)
    assert hub.repositories["anna/secret"].private
    push_bundle(bundle, "anna/secret", private=True)
    push_bundle(bundle, "anna/open")
    with pytest.raises(BundleError, match=r"anna/open: the repository exists and is public \(choose another name"):
        push_bundle(bundle, "anna/open", private=True)
    assert len(hub.repositories["anna/open"].messages) == 1


def test_examples_may_stay_at_home(hub, bundle):
    push_bundle(bundle, "anna/with")
    push_bundle(bundle, "anna/without", with_examples=False)
    for name, shown in (("anna/with", True), ("anna/without", False)):
        held = b"".join(hub.repositories[name].files[file] for file in FILES[:2])
        assert (b"a good day" in held) == shown
        assert "train_rows" in read_bundle(f"hub:{name}").card["data"]


def test_a_cached_task_needs_no_hub(hub, bundle, monkeypatch):
    push_bundle(bundle, "anna/reviews")
    first = read_bundle("hub:anna/reviews")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert read_bundle("hub:anna/reviews").card == first.card


def test_what_the_hub_refuses(hub, bundle, monkeypatch):
    with pytest.raises(BundleError, match=r"somebody/x: the repository cannot be made or opened: .*403.*another owner"):
        push_bundle(bundle, "somebody/x")
    with pytest.raises(BundleError, match=r"anna/x: the repository cannot be made .*401.*\(log in with `hf auth"):
        push_bundle(bundle, "anna/x", token="hf_wrong")
    with pytest.raises(BundleError, match=r"a/b/c: the repository cannot be made"):
        push_bundle(bundle, "a/b/c")
    push_bundle(bundle, "anna/secret", private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for name in ("anna/none", "anna/secret"):
        with pytest.raises(BundleError, match=f"there is no folder '{name}', and no task of that name can be fetched .*404"):
            read_bundle(name)


def test_a_repository_without_a_bundle(hub, bundle):
    push_bundle(bundle, "anna/reviews")
    del hub.repositories["anna/reviews"].files["bundle.json"]
    with pytest.raises(BundleError, match="there is no bundle in"):
        read_bundle("hub:anna/reviews")


def test_a_hub_that_is_not_there(hub, bundle, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BundleError, match=r"anna/x: the repository cannot be made .*the network and HF_ENDPOINT"):
        push_bundle(bundle, "anna/x")
    with pytest.raises(BundleError, match=r"no task of that name can be fetched from the hub: .*the network and HF_ENDPOINT"):
        read_bundle("hub:anna/x")


def test_nothing_goes_up_that_is_no_bundle(hub, tmp_path):
    with pytest.raises(BundleError, match="there is no bundle in"):
        push_bundle(tmp_path, "anna/x")
    assert hub.requests == []


def test_which_names_mean_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/demo").mkdir(parents=True)
    assert hub_name("hub:anna/reviews") == hub_name(Path("hub:anna/reviews")) == hub_name("anna/reviews") == "anna/reviews"
    for folder in ("runs/demo", "runs/dmo", "reviews", "./anna/reviews", "a/b/c", "/anna/reviews", tmp_path, "../x", "anna/"):
        assert hub_name(folder) is None, folder


def test_on_the_command_line(hub, bundle, capsys):
    assert main(["push", str(bundle), "anna/reviews"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{hub.url}/anna/reviews\n"
    assert "note: 2 training texts go along as examples; --no-examples leaves them out" in said.err
    assert main(["push", str(bundle), "reviews", "--no-examples", "--private", "--token", "hf_stand_in", "--json"]) == 2
    assert "error: anna/reviews: the repository exists and is public" in capsys.readouterr().err
    assert main(["push", str(bundle), "second", "--no-examples", "--private", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": f"{hub.url}/anna/second"}
    assert main(["push", "nowhere", "anna/x"]) == 2
    assert "error: nowhere: there is no bundle in nowhere" in capsys.readouterr().err
