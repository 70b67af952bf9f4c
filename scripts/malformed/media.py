"""Image and video files that are cut, damaged, empty, mislabelled or odd, each named by one row of a dataset."""

import functools
import io
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from rlpost.media.write import write_mp4
from scripts.fuzz_inputs import GOOD, MARK, Case, Maker

GREY = 100


def put(kind: str, medium: str, suffix: str, *variants: Callable[[random.Random], bytes], **facts: Any) -> Maker:
    """A row whose file has these bytes, beside rows with sound files."""

    def make(rng: random.Random, folder: Path) -> Case:
        name = f"odd.{suffix}"
        (folder / name).write_bytes(rng.choice(variants)(rng))
        return _case(kind, medium, name, rng, folder, **facts)

    return make


def named(kind: str, medium: str, *values: Any, **facts: Any) -> Maker:
    """A row that names its medium in an odd way."""

    def make(rng: random.Random, folder: Path) -> Case:
        (folder / "sub").mkdir()
        return _case(kind, medium, rng.choice(values), rng, folder, **facts)

    return make


def _case(kind: str, medium: str, value: Any, rng: random.Random, folder: Path, **facts: Any) -> Case:
    (folder / "good.png").write_bytes(png(np.full((60, 60, 3), GREY, np.uint8)))
    (folder / "good.mp4").write_bytes(video())
    good = {"image": "good.png", "video": "good.mp4"}[medium]
    rows = [{"prompt": f"row {i}", medium: good} for i in range(GOOD)]
    rows.insert(rng.randrange(GOOD + 1), {"prompt": MARK, medium: value})
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return Case(kind, str(folder / "data.jsonl"), **facts)


def png(pixels: np.ndarray, **how: Any) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **how)


def encoded(image: Image.Image, format: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **how)
    return stream.getvalue()


def noise(rng: random.Random, height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (height, width, 3)).astype(np.uint8)


def header(width: int, height: int) -> bytes:
    """A PNG that says it has this size, with hardly any data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@functools.lru_cache(maxsize=8)
def video(frames: int = 16, seed: int = 0) -> bytes:
    """A moving pattern as H.264, 8 frames per second."""
    blocks = np.random.default_rng(seed).integers(0, 256, (14, 14, 3)).astype(np.uint8)
    still = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "a.mp4", np.stack([np.roll(still, i, 1) for i in range(frames)]), 8)
        return (Path(folder) / "a.mp4").read_bytes()


@functools.lru_cache(maxsize=1)
def sound_only() -> bytes:
    """An mp4 with an audio stream and no video."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return stream.getvalue()


@functools.lru_cache(maxsize=1)
def no_frames() -> bytes:
    """An mp4 with a video stream that holds nothing."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        empty: Any = container.add_stream("libx264", rate=8)
        empty.width = empty.height = 64
        empty.pix_fmt = "yuv420p"
        container.start_encoding()
    return stream.getvalue()


def cut(content: bytes) -> Callable[[random.Random], bytes]:
    return lambda rng: content[: rng.randrange(40, len(content) * 9 // 10)]


def damaged(rng: random.Random) -> bytes:
    """A video with several damaged places in the data of its frames."""
    content = bytearray(video())
    start, end = content.find(b"mdat") + 200, content.find(b"moov") - 200
    start, end = (start, end) if end > start else (content.find(b"mdat") + 200, len(content) - 200)
    for _ in range(6):
        at, size = rng.randrange(start, end - 200), rng.choice([16, 64, 200])
        content[at : at + size] = rng.choice([rng.randbytes(size), bytes(size)])
    return bytes(content)


def no_index(rng: random.Random) -> bytes:
    """The table of frames overwritten."""
    content = bytearray(video())
    at = content.find(b"moov") + 4
    content[at : at + 400] = rng.randbytes(400)
    return bytes(content)


def other_codec(rng: random.Random) -> bytes:
    return video().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC")


def sixteen(rng: random.Random) -> bytes:
    """Grey of 16 bits: 100 in the upper byte, anything in the lower."""
    low = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (60, 60))
    return encoded(Image.fromarray((GREY * 256 + low).astype(np.uint16)), "PNG")


def animated(rng: random.Random) -> bytes:
    first, *more = [
        Image.new("RGB", (60, 60), (GREY,) * 3),
        *(Image.new("RGB", (60, 60), (i * 40,) * 3) for i in range(3)),
    ]
    return encoded(first, "GIF", save_all=True, append_images=more, duration=100)


def grey(frames: np.ndarray) -> bool:
    """Whether the frames show the grey that was written, up to what a codec rounds."""
    return frames.ndim == 4 and abs(float(frames.mean()) - GREY) < 3


def _flat(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (60, 60), colour)


RGB = (GREY,) * 3
ALL: list[tuple[str, Callable[[str], Maker]]] = [
    ("image: zero bytes", lambda k: put(k, "image", "png", lambda r: b"")),
    ("image: PNG cut", lambda k: put(k, "image", "png", lambda r: cut(png(noise(r)))(r))),
    ("image: JPEG cut", lambda k: put(k, "image", "jpg", lambda r: cut(encoded(Image.fromarray(noise(r)), "JPEG"))(r))),
    (
        "image: text or noise",
        lambda k: put(k, "image", "png", lambda r: MARK.encode() * 20, lambda r: r.randbytes(3000)),
    ),
    ("image: damaged PNG", lambda k: put(k, "image", "png", lambda r: _flipped(png(noise(r)), r))),
    (
        "image: decompression bomb",
        lambda k: put(k, "image", "png", lambda r: header(r.randrange(12_000, 60_000), 60_000)),
    ),
    ("image: 0 pixels wide", lambda k: put(k, "image", "png", lambda r: header(0, 60), lambda r: header(60, 0))),
    (
        "image: narrower than 1:200",
        lambda k: put(
            k,
            "image",
            "png",
            lambda r: png(np.zeros((1, 500, 3), np.uint8)),
            lambda r: png(np.zeros((900, 2, 3), np.uint8)),
        ),
    ),
    ("image: a video file", lambda k: put(k, "image", "png", lambda r: video())),
    (
        "image: not a file name",
        lambda k: named(
            k,
            "image",
            "",
            5,
            {"path": None},
            {"bytes": "abc"},
            {"path": 7},
            ["good.png", 3],
            "nul\0.png",
            "x" * 5000,
            "~no-such-user/a.png",
            {"a": 1},
        ),
    ),
    (
        "image: not there, a folder, a URL",
        lambda k: named(k, "image", "none.png", "sub", "https://127.0.0.1:9/a.png", ["good.png", "none.png"]),
    ),
    (
        "image: path traversal",
        lambda k: named(k, "image", "../" * 30 + "etc/passwd", "../" * 30 + "etc/none.png", "/etc/hostname"),
    ),
    ("video: zero bytes", lambda k: put(k, "video", "mp4", lambda r: b"")),
    ("video: cut", lambda k: put(k, "video", "mp4", cut(video()), lambda r: video()[: r.randrange(8, 40)])),
    (
        "video: text, noise, an image",
        lambda k: put(
            k, "video", "mp4", lambda r: MARK.encode() * 99, lambda r: r.randbytes(9000), lambda r: png(noise(r))
        ),
    ),
    ("video: damaged in the middle", lambda k: put(k, "video", "mp4", damaged)),
    ("video: damaged index", lambda k: put(k, "video", "mp4", no_index)),
    ("video: no frames", lambda k: put(k, "video", "mp4", lambda r: no_frames())),
    ("video: audio only", lambda k: put(k, "video", "mp4", lambda r: sound_only())),
    ("video: unknown codec", lambda k: put(k, "video", "mp4", other_codec)),
    ("video: one frame", lambda k: put(k, "video", "mp4", lambda r: video(1, r.randrange(3)))),
    (
        "video: not there, a folder, a URL",
        lambda k: named(
            k, "video", "none.mp4", "sub", "http://127.0.0.1:9/a.mp4", "../" * 30 + "etc/passwd", 5, ["good.mp4", None]
        ),
    ),
    (
        "sound: wrong extension",
        lambda k: put(k, "image", "jpg", lambda r: png(np.full((60, 60, 3), GREY, np.uint8)), sound=True, check=grey),
    ),
    ("sound: animated GIF, its first frame", lambda k: put(k, "image", "gif", animated, sound=True, check=grey)),
    (
        "sound: CMYK, palette, grey, alpha",
        lambda k: put(
            k,
            "image",
            "img",
            lambda r: encoded(_flat("CMYK", (0, 0, 0, 255 - GREY)), "JPEG"),
            lambda r: encoded(_flat("L", GREY), "PNG"),
            lambda r: encoded(_flat("RGB", RGB).convert("P"), "PNG"),
            lambda r: encoded(_flat("RGBA", (*RGB, 255)), "PNG"),
            lambda r: encoded(_flat("LA", (GREY, 255)), "PNG"),
            sound=True,
            check=grey,
        ),
    ),
    ("sound: 16 bits per channel", lambda k: put(k, "image", "png", sixteen, sound=True, check=grey)),
    ("sound: a video named .avi", lambda k: put(k, "video", "avi", lambda r: video(), sound=True)),
]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    """A PNG with damage in its pixels, which its checksums tell."""
    changed = bytearray(content)
    at = content.find(b"IDAT") + 4 + rng.randrange(100, len(content) - 200)
    changed[at % (len(content) - 20)] ^= 0x55
    return bytes(changed)


MAKERS: dict[str, Maker] = {kind: make(kind) for kind, make in ALL}
