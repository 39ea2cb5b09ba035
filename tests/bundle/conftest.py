"""A hub that runs in the test: the routes of the Hugging Face hub that creating, uploading and downloading use, in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_stand_in"


@dataclass
class Repository:
    """Files by name, and what was said at each commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def described(self, path: str) -> dict[str, object]:
        content = self.files[path]
        return {"path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@dataclass
class Hub:
    """The stand-in: its address, its repositories, and the requests that came."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


def handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.look_up()

        def do_HEAD(self) -> None:
            self.look_up()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.seen()
            if path == "/api/validate-yaml":
                front = json.loads(body)["content"]
                self.answer({"errors": [] if front.startswith("---\n") else [{"message": "no YAML"}], "warnings": []})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.refuse(401, "Invalid username or password.")
            elif path == "/api/repos/create":
                self.create(json.loads(body))
            else:
                self.write(path, body)

        def write(self, path: str, body: bytes) -> None:
            owner, name, action = path.removeprefix("/api/models/").split("/")[:3]
            repository = hub.repositories[f"{owner}/{name}"]
            if action == "preupload":
                names = [file["path"] for file in json.loads(body)["files"]]
                self.answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
            else:
                self.commit(repository, f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])

        def create(self, wanted: dict) -> None:
            owner = wanted.get("organization") or "anna"
            name = f"{owner}/{wanted['name']}"
            if owner not in ("anna", "team"):
                self.refuse(403, f"You don't have the rights to create a model under the namespace {owner!r}")
            elif name in hub.repositories:
                self.answer({"url": f"{hub.url}/{name}"}, status=409)
            else:
                hub.repositories[name] = Repository(private=wanted.get("visibility") == "private")
                self.answer({"url": f"{hub.url}/{name}"})

        def commit(self, repository: Repository, name: str, lines: list[dict]) -> None:
            for line in lines:
                if line["key"] == "header":
                    repository.messages.append(line["value"]["summary"])
                else:
                    repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{hub.url}/{name}/commit/{repository.sha}"
            self.answer({"success": True, "commitUrl": url, "commitOid": repository.sha})

        def look_up(self) -> None:
            parts = self.seen().removeprefix("/api/models/").strip("/").split("/")
            repository = hub.repositories.get("/".join(parts[:2]))
            if repository is None or (repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
                self.refuse(404, "Repository not found", code="RepoNotFound")
            elif parts[2:3] == ["resolve"]:
                self.file(repository, "/".join(parts[4:]))
            elif parts[2:3] == ["tree"]:
                self.answer([{"type": "file", **described} for described in map(repository.described, repository.files)])
            else:
                names = [{"rfilename": path} for path in repository.files]
                facts = {"id": "/".join(parts[:2]), "private": repository.private, "sha": repository.sha}
                self.answer({**facts, "siblings": names})

        def file(self, repository: Repository, path: str) -> None:
            if path not in repository.files:
                self.refuse(404, "Entry not found", code="EntryNotFound")
                return
            headers = {"ETag": f'"{repository.described(path)["oid"]}"', "X-Repo-Commit": repository.sha}
            self.send(200, repository.files[path], "application/octet-stream", headers)

        def seen(self) -> str:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            return path

        def answer(self, value: object, status: int = 200) -> None:
            self.send(status, json.dumps(value).encode(), "application/json", {})

        def refuse(self, status: int, why: str, code: str = "") -> None:
            headers = {"X-Error-Message": why, **({"X-Error-Code": code} if code else {})}
            self.send(status, json.dumps({"error": why}).encode(), "application/json", headers)

        def send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A running hub at `HF_ENDPOINT`, with a login and an empty cache."""
    import huggingface_hub

    made = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
