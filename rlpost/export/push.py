"""Uploading an exported folder to the Hugging Face hub. The token is the hub client's own and is never shown."""

from pathlib import Path

from rlpost.errors import ConfigError, ModelError
from rlpost.run import redact


def ready(repo: str) -> None:
    """Refuse before any work what could not be uploaded: a bad name, no network by choice, nobody logged in."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--push {repo} is no name on the hub: {error}") from error
    if constants.is_offline_mode():
        raise ConfigError("--push needs the hub, and HF_HUB_OFFLINE is set: unset it, or export without --push")
    if get_token() is None:
        raise ConfigError("--push needs an account on the hub: `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo: str, message: str) -> str:
    """Upload the folder as one commit; a new repository is private. Returns the address of the commit.

    Raises ModelError where the hub refuses or cannot be reached; the folder stays where it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # of httpx, of the hub, of the disk
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the hub did not take {repo}: {redact.text(reason)}. The folder {folder} is whole; try again with: "
            f"hf upload {repo} {folder}"
        ) from error
    return str(done.commit_url)
