"""A stand-in for the Hugging Face Hub on localhost, enough for ``huggingface_hub`` to download.

Files with a model's weights are served as the Hub serves large files: their ETag is the SHA-256.
Every request is noted, so that a test can say which of them fetched a file.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

LARGE = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx")


@dataclass
class Repository:
    """Files of one model at one commit; branch ``main``."""

    files: Mapping[str, bytes]
    gated: bool = False
    token: str | None = None
    """Opens a gated model."""

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, data in sorted(self.files.items()):
            digest.update(name.encode() + data)
        return digest.hexdigest()


@dataclass
class Hub:
    """The models that are served, and the requests that came."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for, in order; clears the notes."""
        names = [
            path.split("/resolve/")[1].partition("/")[2]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        ]
        self.requests.clear()
        return names


@contextmanager
def serve(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """The stand-in, at a free port, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name in a repository."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlparse(self.path).path)
        hub.requests.append((self.command, path))
        if path.startswith("/api/models/"):
            parts = path.removeprefix("/api/models/").split("/")
            self._api(hub, "/".join(parts[:2]), parts[2:])
        elif "/resolve/" in path:
            model, _, rest = path.strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(hub, model, revision, name)
        else:
            self._send(404)

    def _api(self, hub: Hub, model: str, rest: list[str]) -> None:
        repository = self._find(hub, model, rest[1] if len(rest) > 1 else "main")
        if repository is None:
            return
        if rest[:1] == ["tree"]:
            tree = [_entry(name, data) for name, data in repository.files.items()]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
            return
        info = {
            "id": model,
            "modelId": model,
            "sha": repository.commit,
            "private": False,
            "tags": [],
            "siblings": [{"rfilename": name} for name in repository.files],
        }
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, hub: Hub, model: str, revision: str, name: str) -> None:
        repository = self._find(hub, model, revision)
        if repository is None:
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self._send(403, headers={"X-Error-Code": "GatedRepo"})
            return
        if name not in repository.files:
            self._send(404, headers={"X-Error-Code": "EntryNotFound"})
            return
        data = repository.files[name]
        etag = _etag(name, data)
        headers = {
            "X-Repo-Commit": repository.commit,
            "ETag": f'"{etag}"',
            "Accept-Ranges": "bytes",
        }
        if name.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        start = self.headers.get("Range")
        if start is not None:
            first = int(start.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self._send(206, data[first:], headers)
            return
        self._send(200, data, headers)

    def _find(self, hub: Hub, model: str, revision: str) -> Repository | None:
        repository = hub.repositories.get(model)
        if repository is None:
            self._send(401, headers={"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in ("main", repository.commit):
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(name: str, data: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file",
        "path": name,
        "size": len(data),
        "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
    }
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 130}
    return entry
