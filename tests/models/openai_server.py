"""A small OpenAI-compatible server for tests: real HTTP on localhost in front of a real (tiny) model, with faults.

`faults` is a list of names that the next requests take in turn: a status such as "503", "hang", "drip", "garbage" (no
JSON), "deep" (JSON without end), "huge" (a number above all floats), "shape" (JSON of another form) or "cut" (a body
that ends early). Every request is noted in `seen`.
"""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from rlpost.models.tiny import text
from rlpost.rollout.engine import Sampling, sample
from rlpost.types import Prompt, Task


class TinyServer(ThreadingHTTPServer):
    """Serves `tiny` on a free port of localhost."""

    daemon_threads = True

    def __init__(self, key: str | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bundle, self.key = text(), key
        self.faults: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.refuse = ""  # a prompt that holds this text gets status 400, every time
        self.echo = True
        self.active = self.most_active = 0
        self.lock, self.released = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: TinyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.seen.append({"path": self.path, "body": body, "headers": dict(self.headers)})
            fault = server.faults.pop(0) if server.faults else ""
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        try:
            self._answer(body, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.active -= 1

    def _answer(self, body, fault):
        server = self.server
        if fault == "hang":
            server.released.wait(20)
            return
        if fault == "drip":
            self._start(200, 1000)
            while not server.released.wait(0.1):
                self.wfile.write(b" ")
            return
        if fault == "cut":
            self._start(200, 1000)
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
            return
        if fault == "garbage":
            return self._send(200, b"<html>busy</html>")
        if fault == "deep":
            return self._send(200, b"[" * 100_000)
        if fault == "deep error":
            return self._send(503, b"[" * 100_000)
        if fault == "huge":
            return self._send(200, b'{"data": [{"index": 0, "embedding": [1' + b"0" * 400 + b"]}]}")
        if fault == "shape":
            return self._send(200, b'{"choices": []}')
        if fault:
            return self._send(int(fault), json.dumps({"error": {"message": f"fault {fault}"}}).encode())
        if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            told = f"wrong key {self.headers.get('Authorization')}"
            return self._send(401, json.dumps({"error": {"message": told}}).encode())
        if server.refuse and server.refuse in json.dumps(body):
            return self._send(400, b'{"error": {"message": "the prompt was refused"}}')
        made = {"/v1/chat/completions": chat, "/v1/completions": complete, "/v1/embeddings": embed}.get(self.path)
        if made is None:
            return self._send(404, b'{"detail": "Not Found"}')
        with server.lock:
            found = made(server, body)
        self._send(200, json.dumps(found).encode())

    def _start(self, status, length):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()

    def _send(self, status, raw):
        self._start(status, len(raw))
        self.wfile.write(raw)


def chat(server, body):
    encoder = server.bundle.encoder
    prompt = encoder.prompt(Task("t", body["messages"]))
    how = Sampling(max_tokens=body["max_tokens"], temperature=body["temperature"])
    generator = torch.Generator().manual_seed(body.get("seed", 0))
    [found] = sample(server.bundle.model, encoder, [prompt], 1, how, generator)
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": encoder.decode(found.tokens)}}]}


@torch.no_grad()
def complete(server, body):
    ids = torch.tensor([body["prompt"]])
    logp = torch.log_softmax(server.bundle.model(input_ids=ids).logits[0].float(), -1)
    own = [None, *logp[:-1].gather(-1, ids[0, 1:, None])[:, 0].tolist(), float(logp[-1].max())]
    logprobs = {"token_logprobs": own if server.echo else own[-1:]}
    return {"choices": [{"index": 0, "text": "", "logprobs": logprobs}]}


@torch.no_grad()
def embed(server, body):
    rows = []
    for place, one in enumerate(body["input"]):
        ids = torch.tensor([server.bundle.encoder.tokenizer(one)["input_ids"]])
        states = server.bundle.model.base_model(input_ids=ids).last_hidden_state[0]
        rows.append({"index": place, "embedding": states.mean(0).tolist()})
    return {"data": rows[::-1]}  # the order of rows is not promised, their index is


@contextmanager
def serving(**options):
    """A running server that ends with the block, and hangs no longer."""
    server = TinyServer(**options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def closed_port() -> int:
    """A port of localhost that nothing listens on."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def greedy(bundle, prompt: Prompt, tokens: int) -> str:
    """A greedy completion through transformers' own generation."""
    inputs = bundle.encoder.collate([prompt])
    found = bundle.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return bundle.encoder.decode(found[0][len(prompt.ids) :].tolist())


def wait_until(ready, limit_s: float) -> bool:
    """Poll until `ready()` holds."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.2)
    return False
