"""The Hub's HTTP API, as far as ``huggingface_hub`` 2.4 uses it for models (shapes measured: shared/facts/hub.md)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_server.faults import Fault, Faults
from tests.hub_server.store import Blob, Commit, HubError, Repo, Store, check_path, is_large

TOKENS = {"hf_owner": "spikes", "hf_guest": "guest"}
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_REV = r"(?P<rev>[^/]+)"


class HubServer(ThreadingHTTPServer):
    """The server. Large files are served from another origin (``localhost`` instead of 127.0.0.1), as the real Hub does.

    Attributes:
        store: its repositories.
        faults: what it will do wrong.
        log: method and path of every request.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = Store()
        self.faults = Faults()
        self.log: list[tuple[str, str]] = []
        self.stopped = False
        self._working = 0
        self._done = threading.Condition()

    @property
    def url(self) -> str:
        """Endpoint, for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """Where large files are served."""
        return f"http://localhost:{self.server_port}"

    @contextmanager
    def work(self) -> Iterator[None]:
        """While a request is answered."""
        with self._done:
            self._working += 1
        try:
            yield
        finally:
            with self._done:
                self._working -= 1
                self._done.notify_all()

    def wait_until_done(self) -> None:
        """Until every request that has begun is answered, or dropped."""
        with self._done:
            assert self._done.wait_for(lambda: not self._working, timeout=600)

    def fault(self, kind: str, **settings: Any) -> None:
        """Plan a fault; see :class:`tests.hub_server.Fault`."""
        self.faults.add(Fault(kind, **settings))


@contextmanager
def serve(port: int = 0) -> Iterator[HubServer]:
    """A running server, until the block ends."""
    server = HubServer(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped = True  # connections that clients keep open get no answer any more
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: HubServer
    ROUTES: ClassVar[list[tuple[str, str, str]]] = [
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", rf"/api/models/{_REPO}/preupload/{_REV}", "preupload"),
        ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/_lfs/(?P<sha>[0-9a-f]{64})", "upload"),
        ("POST", r"/_lfs/verify", "uploaded"),
        ("POST", rf"/api/models/{_REPO}/commit/{_REV}", "commit"),
        ("POST", rf"/api/models/{_REPO}/tag/{_REV}", "tag"),
        ("GET", rf"/api/models/{_REPO}", "info"),
        ("GET", rf"/api/models/{_REPO}/revision/{_REV}", "info"),
        ("GET", rf"/api/models/{_REPO}/tree/{_REV}(?:/(?P<path>.*))?", "tree"),
        ("GET", rf"/api/models/{_REPO}/refs", "refs"),
        ("PUT", rf"/api/models/{_REPO}/settings", "settings"),
        ("GET", rf"/api/models/{_REPO}/auth-check", "auth_check"),
        ("HEAD|GET", rf"/{_REPO}/resolve/{_REV}/(?P<path>.+)", "resolve"),
        ("HEAD|GET", r"/_cdn/(?P<sha>[0-9a-f]{64})/(?P<path>.+)", "cdn"),
    ]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Keep quiet."""

    def handle_any(self) -> None:
        """Answer with the first route that fits, or with its error."""
        with self.server.work():
            self._handle()

    def _handle(self) -> None:
        if self.server.stopped:
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        path = parts.path
        self.server.log.append((self.command, self.path))
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        if len(self.body) < length:  # whoever sent it is gone: nothing is done by halves
            self.close_connection = True
            return
        self.query = parse_qs(parts.query)
        slow = self.server.faults.take("slow", path)
        if slow is not None:
            time.sleep(slow.seconds)
        try:
            route, found = self._route(path)
            route(**found)
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            self.answer({"error": error.message, **error.details}, status=error.status, headers=headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - their names in the base class

    def _route(self, path: str) -> tuple[Callable[..., None], dict[str, str]]:
        """Who answers, and with which parts of the address.

        Raises:
            HubError: nobody; or the server was told to fail.
        """
        if self.server.faults.take("error", path) is not None:
            raise HubError(500, "the server was told to fail")
        for methods, pattern, name in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match is not None and self.command in methods.split("|"):
                found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                return getattr(self, f"on_{name}"), found
        raise HubError(404, f"no such address: {self.command} {path}", "EntryNotFound")

    # Answers.

    def answer(self, data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """JSON."""
        self.raw(json.dumps(data).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def raw(self, data: bytes, status: int, headers: dict[str, str], *, promised: int | None = None) -> None:
        """Bytes; ``promised`` more or fewer than they are."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) if promised is None else promised))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        if promised is not None and promised != len(data):
            self.close_connection = True

    @property
    def user(self) -> str | None:
        """Who asks.

        Raises:
            HubError: an unknown token.
        """
        given = self.headers.get("Authorization")
        if given is None:
            return None
        name = TOKENS.get(given.removeprefix("Bearer ").strip())
        if name is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return name

    def readable(self, repo: str) -> Repo:
        """A repository that the user may see."""
        return self.server.store.get(repo, self.user)

    def writable(self, repo: str) -> Repo:
        """A repository that the user may change.

        Raises:
            HubError: without a token, or of somebody else.
        """
        user = self.user
        if user is None:
            raise HubError(401, "a token is needed to write")
        found = self.server.store.get(repo, user)
        if found.owner != user:
            raise HubError(403, f"{user} may not write to {repo}")
        return found

    def json(self) -> Any:
        """The request's body."""
        return json.loads(self.body or b"{}")

    # Routes.

    def on_whoami(self) -> None:
        """Who the token belongs to."""
        user = self.user
        if user is None:
            raise HubError(401, "Invalid username or password.")
        self.answer({"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def on_create(self) -> None:
        """A new repository."""
        user, wanted = self.user, self.json()
        if user is None:
            raise HubError(401, "a token is needed to create a repository")
        owner = wanted.get("organization") or user
        if owner != user:
            raise HubError(403, f"{user} may not create repositories of {owner}")
        private = wanted.get("private") or wanted.get("visibility") == "private"
        name = f"{owner}/{wanted['name']}"
        made = {"url": f"{self.server.url}/{name}", "id": name, "name": name}
        try:
            self.server.store.create(name, private=bool(private))
        except HubError as error:
            raise HubError(error.status, error.message, **made) from None
        self.answer(made)

    def on_validate(self) -> None:
        """Every model card is fine."""
        self.answer({"errors": [], "warnings": []})

    def on_preupload(self, repo: str, rev: str) -> None:
        """Which files are large, and which are there already."""
        files = self.writable(repo).at(rev).files
        answers = []
        for file in self.json()["files"]:
            path = check_path(file["path"])
            there = files.get(path)
            mode = "lfs" if is_large(path, file["size"]) else "regular"
            oid = None if there is None else there.sha256 if mode == "lfs" else there.oid
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer({"files": answers})

    def on_batch(self, repo: str) -> None:
        """Where to put large files."""
        self.writable(repo)
        objects = []
        for wanted in self.json()["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.store.uploaded:
                verify = {"href": f"{self.server.url}/_lfs/verify", "header": {}}
                upload = {"href": f"{self.server.url}/_lfs/{wanted['oid']}", "header": {}}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        self.answer({"transfer": "basic", "objects": objects})

    def on_upload(self, sha: str) -> None:
        """A large file, which must be what its name says."""
        if hashlib.sha256(self.body).hexdigest() != sha:
            raise HubError(400, "the content is not what its sha256 says")
        self.server.store.uploaded[sha] = self.body
        self.raw(b"", 200, {})

    def on_uploaded(self) -> None:
        """Whether a large file has arrived."""
        wanted = self.json()
        if len(self.server.store.uploaded.get(wanted["oid"], b"")) != wanted["size"]:
            raise HubError(404, "that file has not arrived")
        self.answer({"success": True})

    def on_commit(self, repo: str, rev: str) -> None:
        """All changes at once, or none."""
        with self.server.store.lock:
            self._commit(self.writable(repo), rev)

    def _commit(self, found: Repo, rev: str) -> None:
        if self.server.faults.take("moved_parent", self.path) is not None:
            found.commit("somebody else's", {**found.at(rev).files, "other.txt": Blob.regular(b"other")}, rev)
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        base = found.at(rev)
        if header.get("parentCommit") not in (None, base.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(base.files)
        for line in lines:
            self._apply(files, line["key"], line["value"])
        made = found.commit(header.get("summary", ""), files, rev)
        if self.server.faults.take("interrupted", self.path) is not None:
            self.close_connection = True
            return
        url = f"{self.server.url}/{found.name}/commit/{made.oid}"
        self.answer({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        if key == "header":
            return
        path = check_path(value["path"])
        if key == "file":
            files[path] = Blob.regular(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            data = self.server.store.uploaded.get(value["oid"])
            if data is None:
                raise HubError(400, f"the large file {path} has not been uploaded")
            files[path] = Blob.large(value["oid"], data)
        elif key == "deletedFile":
            files.pop(path, None)
        elif key == "deletedFolder":
            for inner in [name for name in files if name.startswith(f"{path}/")]:
                del files[inner]

    def on_tag(self, repo: str, rev: str) -> None:
        """A new tag."""
        found, wanted = self.writable(repo), self.json()
        if wanted["tag"] in found.tags:
            raise HubError(409, f"the tag {wanted['tag']} exists already")
        found.tags[wanted["tag"]] = found.at(rev).oid
        self.answer({"success": True})

    def on_info(self, repo: str, rev: str = "main") -> None:
        """What a repository is, and its files."""
        found = self.readable(repo)
        state = found.at(rev)
        siblings = []
        for path, blob in self._listed(state).items():
            entry: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                entry |= {"size": blob.size, "blobId": blob.oid}
                if blob.sha256 is not None:
                    entry["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 130}
            siblings.append(entry)
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(state.when))
        self.answer(
            {
                "id": repo, "modelId": repo, "author": found.owner, "sha": state.oid, "lastModified": when,
                "createdAt": when, "private": found.private, "gated": "manual" if found.gated else False,
                "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
            }
        )  # fmt: skip

    def _listed(self, state: Commit) -> dict[str, Blob]:
        files = dict(sorted(state.files.items()))
        if self.server.faults.take("evil_tree", self.path) is not None:
            files["../../../../evil.txt"] = Blob.regular(b"evil")
        return files

    def on_tree(self, repo: str, rev: str, path: str = "") -> None:
        """All files below a folder."""
        state = self.readable(repo).at(rev)
        entries = []
        for name, blob in self._listed(state).items():
            if path and not name.startswith(f"{path}/"):
                continue
            entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": name}
            if blob.sha256 is not None:
                entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}
            entries.append(entry)
        self.answer(entries)

    def on_refs(self, repo: str) -> None:
        """Branches and tags."""
        found = self.readable(repo)
        kinds = {"branches": ("heads", found.branches), "tags": ("tags", found.tags)}
        self.answer(
            {
                key: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]
                for key, (kind, refs) in kinds.items()
            }
            | {"converts": []}
        )

    def on_settings(self, repo: str) -> None:
        """Private and gated."""
        found, wanted = self.writable(repo), self.json()
        found.private = bool(wanted.get("private", found.private))
        found.gated = bool(wanted.get("gated", found.gated))
        self.answer({})

    def on_auth_check(self, repo: str) -> None:
        """Whether the files may be read."""
        self._require_granted(self.readable(repo))
        self.answer({})

    def _require_granted(self, repo: Repo) -> None:
        if repo.gated and self.user not in {repo.owner, *repo.granted}:
            raise HubError(403 if self.user else 401, f"Access to model {repo.name} is restricted", "GatedRepo")

    def on_resolve(self, repo: str, rev: str, path: str) -> None:
        """A file, or for large ones where to get it."""
        found = self.readable(repo)
        self._require_granted(found)
        state = found.at(rev)
        blob = state.files.get(path)
        headers = {} if self.server.faults.take("no_commit", path) is not None else {"X-Repo-Commit": state.oid}
        if blob is None:
            raise HubError(404, f"Entry not found: {path}", "EntryNotFound")
        if blob.sha256 is None:
            self._content(blob, path, headers | {"ETag": f'"{blob.oid}"'})
            return
        where = f"{self.server.cdn}/_cdn/{blob.sha256}/{path}"
        linked = {"Location": where, "X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
        self.raw(b"", 302, headers | linked | {"ETag": f'"{blob.sha256}"'})

    def on_cdn(self, sha: str, path: str) -> None:
        """A large file, or a part of it."""
        data = self.server.store.uploaded.get(sha)
        if data is None:
            raise HubError(404, "no such file")
        self._content(Blob.large(sha, data), path, {"ETag": f'"{sha}"'})

    def _content(self, blob: Blob, path: str, headers: dict[str, str]) -> None:
        data, status, start = blob.data, 200, 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is not None:
            start, stop = int(wanted[1]), min(int(wanted[2] or blob.size - 1), blob.size - 1)
            if start >= blob.size:
                raise HubError(416, "the range lies behind the end")
            data, status = data[start : stop + 1], 206
            headers = headers | {"Content-Range": f"bytes {start}-{stop}/{blob.size}"}
        promised = len(data)
        if self.command == "GET":
            fault = self.server.faults.take("corrupt", path)
            if fault is not None and data:
                at = min(max(fault.at - start, 0), len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            fault = self.server.faults.take("truncate", path)
            if fault is not None:
                data = data[: max(fault.at - start, 0)]
        self.raw(data, status, headers | {"Accept-Ranges": "bytes"}, promised=promised)
