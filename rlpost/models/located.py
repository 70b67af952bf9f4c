"""Where a model lies: told before anything heavy is imported."""

from pathlib import Path

from rlpost.errors import ModelError


def located(path: str) -> str:
    """A folder as an absolute path, a hub name as it is; a local path that does not exist is refused here."""
    local = Path(path).expanduser()
    if local.is_dir():
        if not (local / "config.json").exists():
            adapter = (local / "adapter_config.json").exists()
            raise ModelError(
                f"{path} has no config.json"
                + (
                    ": it is a LoRA adapter; merge it into its base model first"
                    if adapter
                    else "; give the folder of a saved model"
                )
            )
        return str(local)
    if local.exists():
        raise ModelError(
            f"{path} is a file; model.path takes a folder that save_pretrained wrote, or a name on the hub"
        )
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or not path:
        raise ModelError(f"the model folder {path!r} does not exist; check model.path")
    return path
