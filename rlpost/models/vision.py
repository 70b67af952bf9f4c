"""Images and videos as inputs of Qwen vision towers, without torchvision: patches, grids, and how time is told."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.image_processing_base import ImageProcessingMixin

from rlpost.errors import DataError, ModelError
from rlpost.media.change import changed
from rlpost.media.decode import Clip, DecodeError, shared, written_at
from rlpost.media.sample import FrameSettings, smart_resize
from rlpost.models.encode import Visual
from rlpost.models.held import Held
from rlpost.types import Media

# Mean and standard deviation of the images that CLIP was trained on; Qwen2-VL and Qwen2.5-VL use the same.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class QwenVision:
    """Encodes media for a Qwen vision tower. `frames` says how videos are sampled, the pixel limits hold for images.

    A medium's `change` (what a contrast does to the frames) is applied after decoding, so every arm of a contrast
    shares one decoded copy and has the same number of tokens. At most `patches_mb` megabytes of patches are kept: equal
    media (the same file, window and change, or frames with the same content) give the very same tensors.
    """

    frames: FrameSettings = field(default_factory=FrameSettings)
    patch_size: int = 14
    merge: int = 2
    temporal: int = 2
    image_min_pixels: int = 56 * 56
    image_max_pixels: int = 256 * 28 * 28
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    limit_s: float = 30.0
    cache_mb: float = 512.0
    patches_mb: float = 512.0
    placeholders: Mapping[str, str] = field(
        default_factory=lambda: {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    )
    special_tokens: Sequence[str] = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

    def __post_init__(self):
        if self.frames.factor != self.patch_size * self.merge:
            raise ModelError(
                f"frames are sized to multiples of {self.frames.factor} but the model merges patches of "
                f"{self.patch_size} pixels {self.merge} by {self.merge}: set factor to {self.patch_size * self.merge}"
            )
        self.decoder = shared(self.frames, self.limit_s, self.cache_mb)
        self.held = Held(int(self.patches_mb * 2**20))

    def __call__(self, media: Media) -> Visual:
        """Model inputs of one medium. Raises DataError when it cannot be decoded; nothing ever stands in for it."""
        return self.held.get(
            _content(media), lambda: self._encoded(media), lambda v: sum(x.nbytes for x in v.features.values())
        )

    def _encoded(self, media: Media) -> Visual:
        clip = self.clip(media)
        if media.kind == "image":
            patches, grid = self.image(clip.frames[0])
            features = {"pixel_values": patches, "image_grid_thw": grid}
        else:
            patches, grid = self.video(clip.frames)
            features = {"pixel_values_videos": patches, "video_grid_thw": grid}
        tokens = int(grid.prod()) // self.merge**2
        if tokens * self.merge**2 != len(patches):
            raise ModelError(
                f"{len(patches)} patches do not fill a grid of {grid.tolist()[0]}: patch size and merge disagree"
            )
        visual = Visual(media.kind, features, tokens, shrunk=self._shrunk(clip, media.kind, int(grid[0, 0]), tokens))
        return visual if media.kind == "image" else self._timed(visual, media, clip)

    def _timed(self, visual: Visual, media: Media, clip: Clip) -> Visual:
        """The visual of a video with its times: here the seconds per grid step, from which the positions follow."""
        seconds = torch.tensor([self.temporal / clip.fps])
        return replace(visual, features={**visual.features, "second_per_grid_ts": seconds})

    def _shrunk(self, clip: Clip, kind: str, steps: int, tokens: int) -> tuple[tuple[str, int], ...]:
        """Why a medium has fewer tokens than it holds, each cause with the tokens that it cost."""
        high, factor = (self.image_max_pixels if kind == "image" else self.frames.max_pixels), self.frames.factor
        per = tokens // steps
        tall, wide = (max(1, round(side / factor)) for side in clip.size or clip.frames.shape[1:3])
        whole = max(tall * wide, per)
        more = clip.asked - 1 if kind == "image" else (clip.asked - len(clip.frames)) // self.temporal
        found = []
        if whole > per:
            article = "an" if kind == "image" else "a"
            found.append((f"{article} {kind} larger than max_pixels={high}", steps * (whole - per)))
        if more > 0 and kind == "image":
            found.append(("an animated image shown by its first frame", more * whole))
        elif more > 0:
            found.append((f"a video longer than max_frames={self.frames.max_frames}", more * whole))
        return tuple(found)

    def clip(self, media: Media) -> Clip:
        """Frames as the model sees them: decoded or given, with the medium's change applied."""
        if media.frames is None:
            clip = self.decoder(media)
            return clip._replace(frames=changed(clip.frames, media.change))
        frames = np.asarray(media.frames)
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise DataError(f"frames are {frames.dtype} of shape {frames.shape}: give uint8 of shape (F,H,W,3)")
        if media.kind == "video" and not media.fps:
            raise DataError("a video given as frames has no fps: set Media.fps, the temporal positions depend on it")
        return Clip(changed(frames, media.change), float(media.fps or 0.0))

    def image(self, frame: np.ndarray) -> tuple[Tensor, Tensor]:
        """Patches (P, 3*temporal*patch^2) and grid (1,3) of an image: one frame, repeated to fill a temporal patch."""
        frame = self._fit(frame, self.image_min_pixels, self.image_max_pixels)
        return self._patches(np.repeat(frame[None], self.temporal, axis=0))

    def video(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Patches and grid of (F,H,W,3) frames. An odd last frame is repeated to fill its temporal patch."""
        frames = np.stack([self._fit(f, self.frames.min_pixels, self.frames.max_pixels) for f in frames])
        missing = -len(frames) % self.temporal
        return self._patches(np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]))

    def _fit(self, frame: np.ndarray, low: int, high: int) -> np.ndarray:
        try:
            size = smart_resize(*frame.shape[:2], factor=self.frames.factor, min_pixels=low, max_pixels=high)
        except ValueError as error:
            raise DecodeError("an image", "its shape", str(error)) from error
        if frame.shape[:2] == size:
            return frame
        from rlpost.media.worker import resize

        return resize(frame, *size)

    def _patches(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Cut normalised frames into patches, in the order of merged blocks: block row, block column, row, column."""
        scaled = (frames.astype(np.float32) / 255.0 - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )
        count, height, width, _ = scaled.shape
        p, m, t = self.patch_size, self.merge, self.temporal
        steps, rows, columns = count // t, height // p, width // p
        blocks = scaled.reshape(steps, t, rows // m, m, p, columns // m, m, p, 3)
        # steps, block row, block column, row, column, channel, time, y, x
        blocks = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
        flat = np.ascontiguousarray(blocks).reshape(steps * rows * columns, 3 * t * p * p)
        return torch.from_numpy(flat), torch.tensor([[steps, rows, columns]])


@dataclass
class Qwen3Vision(QwenVision):
    """Encodes media for the vision tower of Qwen3-VL, which reads the times of a video as text between its frames.

    Each grid step is written `<1.5 seconds><|vision_start|>...<|vision_end|>`, in place of the template's placeholder
    and the start and end around it: so did the processor write it that the model was released with, and so does vLLM.
    The processor of transformers 5 leaves that outer start and end in place.
    """

    patch_size: int = 16
    image_min_pixels: int = 64 * 32 * 32
    image_max_pixels: int = 256 * 32 * 32
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    frames: FrameSettings = field(
        default_factory=lambda: FrameSettings(factor=32, min_pixels=128 * 32 * 32, max_pixels=128 * 32 * 32)
    )

    def _timed(self, visual: Visual, media: Media, clip: Clip) -> Visual:
        start, end = self.special_tokens[:2]
        part = f"{start}{self.placeholders['video']}{end}"
        times = _step_times(len(clip.frames), clip.fps, self.temporal, whole=media.frames is None)
        return replace(visual, text="".join(f"<{t:.1f} seconds>{part}" for t in times), wrapper=(start, end))


def _step_times(count: int, fps: float, temporal: int, *, whole: bool) -> list[float]:
    """Seconds of each grid step of `count` frames: the mean of the times of its first and its last frame.

    Frames that were given lie 1/fps apart. Frames sampled from a `whole` file include its first and its last, so they
    span count/fps seconds; that is right to one frame of the file, since its own rate is not known here.
    """
    apart = count / (count - 1) / fps if whole and count > 1 else 1 / fps
    times = [min(i, count - 1) * apart for i in range(count + -count % temporal)]
    return [(times[i] + times[i + temporal - 1]) / 2 for i in range(0, len(times), temporal)]


def _content(media: Media) -> Hashable:
    """Equal for media that show the same: a file, when it was written and the window, or the frames themselves."""
    if media.frames is None:
        written = written_at(media.path) if media.path else 0
        return (media.kind, media.path, media.start_s, media.end_s, written, media.change)
    frames = np.ascontiguousarray(media.frames)
    digest = hashlib.blake2b(frames.tobytes(), digest_size=16).digest()
    return (media.kind, digest, frames.shape, str(frames.dtype), media.fps, media.change)


# The beginning of a model's type, and what encodes its media.
ENCODERS: dict[str, type[QwenVision]] = {"qwen2_vl": QwenVision, "qwen2_5_vl": QwenVision, "qwen3_vl": Qwen3Vision}


def hub_media(
    model: Any, tokenizer: Any, source: str, revision: str | None, frames: FrameSettings | None = None
) -> QwenVision:
    """The media encoder of a loaded vision-language model, from its configuration and its saved preprocessor.

    Raises ModelError for an architecture whose media this project does not encode.
    """
    config = model.config
    vision = config.vision_config
    needed = ("patch_size", "spatial_merge_size", "temporal_patch_size")
    kind = next((k for name, k in ENCODERS.items() if config.model_type.startswith(name)), None)
    if kind is None or not all(hasattr(vision, n) for n in needed):
        raise ModelError(
            f"media of a {config.model_type} model cannot be encoded; use a Qwen2-VL, Qwen2.5-VL or Qwen3-VL, "
            "or a text model"
        )
    saved, _ = ImageProcessingMixin.get_image_processor_dict(source, revision=revision)
    size = saved.get("size") or {}
    factor, plain = vision.patch_size * vision.spatial_merge_size, kind()
    frames = replace(frames or FrameSettings(), factor=factor, frame_factor=vision.temporal_patch_size)
    names = {kind: tokenizer.convert_ids_to_tokens(getattr(config, f"{kind}_token_id")) for kind in ("image", "video")}
    edges = [tokenizer.convert_ids_to_tokens(getattr(config, f"vision_{edge}_token_id")) for edge in ("start", "end")]
    return kind(
        frames=frames,
        patch_size=vision.patch_size,
        merge=vision.spatial_merge_size,
        temporal=vision.temporal_patch_size,
        image_min_pixels=saved.get("min_pixels") or size.get("shortest_edge") or plain.image_min_pixels,
        image_max_pixels=saved.get("max_pixels") or size.get("longest_edge") or 1280 * factor**2,
        mean=tuple(saved.get("image_mean") or plain.mean),
        std=tuple(saved.get("image_std") or plain.std),
        placeholders=names,
        special_tokens=(*edges, *names.values()),
    )
