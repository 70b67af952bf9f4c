"""Keeps secrets out of files: what has a secret's name or shape, and the values of secrets wherever they turn up.

Every file of a run folder is written through `rlpost.run.files`, which takes out the values of secret-looking variables
of the environment and of those that the configuration held, also from completions, errors and the report.
"""

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"

# `hf_token` and `api_key` are secrets; `max_tokens`, `token_weight` and the tokenizer's `eos_token` are not.
_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key|private_?key|secret_?key)$",
    re.IGNORECASE,
)
_TOKENIZER_KEY = re.compile(
    r"(?:^|[_.\-])(?:bos|eos|pad|unk|sep|cls|mask|stop|image|video|vision|think|special|per)_token$", re.IGNORECASE
)
# Names of variables: HF_TOKEN, AWS_SECRET_ACCESS_KEY and PGPASSWORD, but not TOKENIZERS_PARALLELISM.
_SECRET_VARIABLE = re.compile(
    r"(?:TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:^|_|API|ACCESS|PRIVATE|SECRET)KEYS?|(?:^|_)(?:AUTH|AUTHORIZATION|PW|PASS))(?:_|$)",
    re.IGNORECASE,
)
SHORTEST = 6  # what is shorter, or a number, cannot be told from other text and is known by its key only
# Each begins where a word begins, or goes back a bounded way: a text of any length is read in linear time.
_CREDENTIALS = re.compile(
    r"(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]*://(?P<user>[^/\s@?#:]*):(?P<password>[^/\s@?#]+)@", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?<![a-z0-9+.\-])(?P<scheme>[a-z][a-z0-9+.\-]*://)[^/\s@?#]+@", re.IGNORECASE)
_QUERY = re.compile(
    r"(?P<key>[?&](?:[\w\-]{0,100}_)?(?:token|secret|password|api_?key|access_?key|signature|sig)=)[^&\s#]+",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(?P<key>\b[\w.\-]{0,100}?(?:token|secret|password|passwd|api_?key|access_?key|private_?key))(?P<sign>\s*[:=]\s*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s,}\]&]+)",
    re.IGNORECASE,
)
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_\-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"
    r"|AKIA[0-9A-Z]{16}|(?<=Bearer )[A-Za-z0-9._~+/=\-]{8,}|(?<=Basic )[A-Za-z0-9+/=]{8,})"
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
    return values(text(value)) if isinstance(value, str) else value  # before a writer decides on quotes


_learnt: set[str] = set()


def learn(value: Any, key: str = "") -> None:
    """Remember the secrets of a configuration, so that `values` finds them in whatever is written later."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            learn(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            learn(item, key)
    elif isinstance(value, str):
        _learnt.update(filter(_is_telling, [value] if is_secret(key) else []))
        _learnt.update(filter(_is_telling, _in_addresses(value)))


def values(content: str) -> str:
    """`content` without the value of any secret that is known by name, in whatever escaped form it stands."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        for form in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            content = content.replace(form, HIDDEN)
        for form in {html.escape(secret), html.escape(secret).replace("&#x27;", "&#39;"), quote(secret, safe="")}:
            content = content.replace(form, HIDDEN)
    return content


def _secrets() -> set[str]:
    found = set(_learnt)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and not os.path.exists(value):  # the place of a secret is none
            found.add(value)
        elif "://" in value:
            found.update(_in_addresses(value))
    return set(filter(_is_telling, found))


def _in_addresses(value: str) -> Iterator[str]:
    for match in _CREDENTIALS.finditer(value):
        yield from {match["password"], unquote(match["password"])}
    for match in _QUERY.finditer(value):
        secret = match[0].removeprefix(match["key"])
        yield from {secret, unquote(secret)}


def _is_telling(value: str) -> bool:
    """Numbers, words of YAML and special tokens such as </think> are no secrets."""
    return len(value) >= SHORTEST and not re.fullmatch(r"[\d.\-+]*|true|false|\*+|<.*>", value, re.IGNORECASE)
