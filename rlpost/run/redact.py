"""Keeps secrets out of files: values under secret-looking keys, credentials in addresses, well-known key shapes."""

import re
from typing import Any

HIDDEN = "***"

# `hf_token` and `api_key` are secrets; `max_tokens`, `token_weight` and the tokenizer's `eos_token` are not.
_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key|private_?key|secret_?key)$",
    re.IGNORECASE,
)
_TOKENIZER_KEY = re.compile(
    r"(?:^|[_.\-])(?:bos|eos|pad|unk|sep|cls|mask|stop|image|video|vision|think|special|per)_token$", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*://)[^/\s@?#]+@", re.IGNORECASE)
_QUERY = re.compile(
    r"(?P<key>[?&](?:[\w\-]*_)?(?:token|secret|password|api_?key|access_?key|signature|sig)=)[^&\s#]+", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?P<key>\b[\w.\-]*?(?:token|secret|password|passwd|api_?key|access_?key|private_?key))(?P<sign>\s*[:=]\s*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s,}\]&]+)",
    re.IGNORECASE,
)
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_\-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"
    r"|AKIA[0-9A-Z]{16}|(?<=Bearer )[A-Za-z0-9._\-]{8,})"
)


def is_secret(key: str) -> bool:
    """Whether a configuration key of this name holds a secret."""
    return bool(_SECRET_KEY.search(key)) and not _TOKENIZER_KEY.search(key)


def text(value: str) -> str:
    """`value` without credentials in addresses, values assigned to secret keys, and keys of well-known shapes."""

    def assigned(match: re.Match) -> str:
        secret = is_secret(match["key"].rsplit(".", 1)[-1]) and match["value"] not in ("null", "None", "''", '""')
        return f"{match['key']}{match['sign']}{HIDDEN}" if secret else match[0]

    value = _ADDRESS.sub(rf"\g<scheme>{HIDDEN}@", value)
    value = _QUERY.sub(rf"\g<key>{HIDDEN}", value)
    return _KNOWN.sub(HIDDEN, _ASSIGNED.sub(assigned, value))


def tree(value: Any, key: str = "") -> Any:
    """A copy of nested dictionaries and lists with every secret replaced by `***`."""
    if isinstance(value, dict):
        return {name: tree(item, str(name)) for name, item in value.items()}
    if value is not None and value != "" and not isinstance(value, bool) and is_secret(key):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [tree(item, key) for item in value]
    return text(value) if isinstance(value, str) else value
