"""A stand-in for the hub: the calls that creating a repository and uploading a folder make, kept in memory."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """`files` are the uploaded ones by path, `refuse` a status that every call is answered with."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.calls: list[tuple[str, str | None]] = []
        self.created: dict[str, Any] = {}
        self.refuse = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/repos/create"):
            self.created = json.loads(body)
            return {"url": f"{self.address}/me/model"}
        if "/preupload/" in path:
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            return {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]}
        if "/commit/" in path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return {"success": True, "commitOid": "c0ffee", "commitUrl": f"{self.address}/me/model/commit/c0ffee"}
        return {"id": "me/model", "sha": "0", "siblings": []}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.calls.append((self.path, self.headers.get("Authorization")))
            found = {"error": "Forbidden, hf_" + "A" * 20} if hub.refuse else hub.answer(self.path, body)
            content = json.dumps(found).encode()
            self.send_response(hub.refuse or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Silent."""

    return Handler
