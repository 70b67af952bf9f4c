"""Decode images and videos in a process of its own, which is killed when it hangs; keep what was decoded."""

import atexit
import functools
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from rlpost.errors import DataError
from rlpost.media.sample import FrameSettings
from rlpost.types import Media


class Clip(NamedTuple):
    """Decoded frames (F,H,W,3) uint8 and their frames per second after sampling (0 for an image).

    `size` is height and width in the file (None: that of the frames), `asked` how many frames a larger limit would
    show: what `fps` asks for, or all frames of an animated image.
    """

    frames: np.ndarray
    fps: float
    size: tuple[int, int] | None = None
    asked: int = 0


class DecodeError(DataError):
    """A medium cannot be decoded. `cause` is what the ledger counts; no other medium ever takes its place."""

    def __init__(self, path: str, cause: str, detail: str):
        self.path, self.cause = path, cause
        super().__init__(f"{path} cannot be decoded ({cause}): {detail}")


@functools.lru_cache(maxsize=4)
def shared(settings: FrameSettings, limit_s: float, cache_mb: float) -> "Decoder":
    """The process's decoder with these settings: models and stages that follow each other share what is decoded."""
    return Decoder(settings, limit_s=limit_s, cache_mb=cache_mb)


class Decoder:
    """Decodes on demand. One worker process per decoder and process, one cache of at most `cache_mb` megabytes."""

    def __init__(self, settings: FrameSettings, *, limit_s: float = 30.0, cache_mb: float = 512.0):
        self.settings, self.limit_s, self.cache_bytes = settings, limit_s, int(cache_mb * 2**20)
        self.cache: OrderedDict[tuple, Clip] = OrderedDict()
        self.held = 0
        self.lock = threading.Lock()
        self.worker: subprocess.Popen[bytes] | None = None
        self.command = [sys.executable, "-m", "rlpost.media.worker"]
        self.owner = 0

    def __getstate__(self) -> dict[str, object]:
        return {"settings": self.settings, "limit_s": self.limit_s, "cache_mb": self.cache_bytes / 2**20}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["settings"], limit_s=state["limit_s"], cache_mb=state["cache_mb"])

    def __call__(self, media: Media) -> Clip:
        """The frames of a file. Raises DecodeError; the medium's `change` is not applied here."""
        if media.path is None:
            raise DataError(f"a {media.kind} has neither a path nor frames: give one of them")
        key = (media.kind, media.path, media.start_s, media.end_s, written_at(media.path))
        with self.lock:
            if key in self.cache:
                self.cache.move_to_end(key)
                return self.cache[key]
            clip = self._decode(media)
            self._keep(key, clip)
        return clip

    def close(self) -> None:
        """End the worker. The next call starts another."""
        if self.worker is not None and self.owner == os.getpid():
            self.worker.kill()
            self.worker.wait()
            for pipe in (self.worker.stdin, self.worker.stdout):
                if pipe is not None:
                    pipe.close()
            atexit.unregister(self.close)
        self.worker = None

    def _keep(self, key: tuple, clip: Clip) -> None:
        if clip.frames.nbytes > self.cache_bytes:
            return
        self.cache[key] = clip
        self.held += clip.frames.nbytes
        while self.held > self.cache_bytes:
            self.held -= self.cache.popitem(last=False)[1].frames.nbytes

    def _decode(self, media: Media) -> Clip:
        path = str(media.path)
        if os.path.isdir(path):
            raise DecodeError(path, "not a file", "it is a folder: name the file in it")
        if not os.path.isfile(path):
            raise DecodeError(path, "file missing", "there is no such file: check the dataset's media folder")
        worker = self._started()
        assert worker.stdin is not None
        request = {"kind": media.kind, "path": path, "start_s": media.start_s, "end_s": media.end_s}
        request["settings"] = self.settings.as_dict()
        try:
            worker.stdin.write(json.dumps(request).encode() + b"\n")
            worker.stdin.flush()
            until = time.monotonic() + self.limit_s
            header = json.loads(self._read(struct.unpack("<I", self._read(4, until))[0], until))
            body = self._read(header["bytes"], until)
        except TimeoutError:
            self.close()
            raise DecodeError(path, "timeout", f"no answer within {self.limit_s} s, the worker was ended") from None
        except (EOFError, BrokenPipeError) as error:
            code = worker.poll()
            self.close()
            raise DecodeError(path, "decoder died", f"exit status {code}; is the extra `video` installed?") from error
        except BaseException:
            # An interrupt between request and answer would leave the answer in the pipe for the next question.
            self.close()
            raise
        if "error" in header:
            raise DecodeError(path, "decode error", header["error"])
        frames = np.frombuffer(body, np.uint8).reshape(header["shape"])
        return Clip(frames, header["fps"], tuple(header["size"]), header["asked"])

    def _started(self) -> subprocess.Popen[bytes]:
        # A forked child must not talk to its parent's worker.
        if self.worker is None or self.owner != os.getpid() or self.worker.poll() is not None:
            self.worker = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            self.owner = os.getpid()
            atexit.register(self.close)
        return self.worker

    def _read(self, size: int, until: float) -> bytes:
        parts, left = [], size
        assert self.worker is not None and self.worker.stdout is not None
        pipe = self.worker.stdout
        with selectors.DefaultSelector() as ready:
            ready.register(pipe, selectors.EVENT_READ)
            while left:
                if not ready.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                part = os.read(pipe.fileno(), min(left, 1 << 20))
                if not part:
                    raise EOFError
                parts.append(part)
                left -= len(part)
        return b"".join(parts)


def written_at(path: str) -> int:
    """When a file was last written, so that a new file under an old name is decoded anew; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):  # also a name that no file can have; what reads it says so
        return 0
