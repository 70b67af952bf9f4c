"""JSON over HTTP with a limit on everything: requests at once, time, tries, and the size of an answer."""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from rlpost import foreign
from rlpost.errors import ConfigError, ModelError
from rlpost.models.scorer.base import Meter
from rlpost.run import redact

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that may be gone at the next try
ALL_ALIKE = frozenset({401, 402, 403, 404, 405})  # statuses that every other request would get too
MAX_WAIT_S = 60.0
MAX_BYTES = 64_000_000

Read = Callable[[dict[str, Any]], Any]


class Refused(ModelError):
    """This request has no answer, while others may have one."""


class _Passing(Exception):
    """A fault that may be gone at the next try; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0, connected: bool = True):
        super().__init__(reason)
        self.wait_s, self.connected = wait_s, connected


class Wire:
    """Posts JSON to one server. `api_key_env` names the environment variable that holds the key; it is read when used.

    Raises ConfigError for an address or a key that cannot be used, ModelError where no answer can be had.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str | None,
        timeout_s: float,
        retries: int,
        backoff_s: float,
        concurrency: int,
        meter: Meter,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url={base_url!r} is no address; write http://host:port/v1")
        if timeout_s <= 0 or retries < 0 or backoff_s < 0 or concurrency < 1:
            raise ConfigError("a server needs timeout_s above 0, retries and backoff_s of 0 or more, concurrency of 1")
        if urlsplit(base_url).username is not None:  # client libraries write whole addresses to their logs
            raise ConfigError(f"base_url={redact.text(base_url)} holds credentials; name their variable in api_key_env")
        self.base_url = base_url.rstrip("/")
        self.api_key_env, self.timeout_s, self.retries = api_key_env, timeout_s, retries
        self.backoff_s, self.concurrency, self.meter = backoff_s, concurrency, meter
        self._answered = False
        self._jitter = random.Random()  # its own, so that waiting never moves the run's random state

    def post_all(self, path: str, bodies: Sequence[dict[str, Any]], read: Read, name: str) -> list[Any]:
        """What `read` makes of each answer, in order; a `Refused` stands in for a request without one.

        `read` raises ValueError, KeyError, IndexError or TypeError for an answer that is not of the expected form,
        which is then asked for again. Where this server has never answered any request, the first refusal is raised.
        """
        if not bodies:
            return []
        headers, stop = self._headers(), threading.Event()
        results: list[Any] = [None] * len(bodies)
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        with (
            httpx.Client(timeout=self.timeout_s, limits=limits, headers=headers) as client,
            ThreadPoolExecutor(min(self.concurrency, len(bodies))) as pool,
        ):
            futures = {
                pool.submit(self._persist, client, path, body, read, name, stop): place
                for place, body in enumerate(bodies)
            }
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
            except BaseException:
                stop.set()  # the others end at their next wait instead of trying on
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        refused = all(isinstance(result, Refused) for result in results)
        if refused and not self._answered:
            raise results[0]
        self._answered |= not refused
        return results

    def _persist(
        self, client: httpx.Client, path: str, body: dict[str, Any], read: Read, name: str, stop: threading.Event
    ) -> Any:
        """One request with its tries."""
        fault = _Passing("the run stopped")
        for attempt in range(self.retries + 1):
            if stop.is_set():
                break
            try:
                with self.meter.timed(name):
                    return self._once(client, path, body, read)
            except Refused as error:
                return error
            except _Passing as error:
                fault = error
            self.meter.add(f"{name}/faults")
            if attempt < self.retries:
                wait = min(MAX_WAIT_S, self.backoff_s * 2**attempt) * self._jitter.uniform(0.5, 1.0)
                stop.wait(max(wait, min(MAX_WAIT_S, fault.wait_s)))
        tries = f"{self.retries + 1} tries" if self.retries else "one try"
        if not fault.connected:
            raise ModelError(
                f"the server {self.base_url} cannot be reached after {tries} ({fault}); start it, or set base_url of "
                "the scorer to where it listens"
            )
        return Refused(f"the server {self.base_url} gave no usable answer to {path} after {tries}: {fault}")

    def _once(self, client: httpx.Client, path: str, body: dict[str, Any], read: Read) -> Any:
        try:
            status, headers, raw = self._exchange(client, path, body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Passing(self._safe(str(error)) or "no connection", connected=False) from error
        except httpx.TimeoutException as error:
            raise _Passing(f"no answer within {self.timeout_s:g} s") from error
        except httpx.InvalidURL as error:
            raise ConfigError(f"base_url {self.base_url} is no address: {error}") from error
        except httpx.HTTPError as error:
            raise _Passing(f"the answer broke off ({self._safe(str(error)) or type(error).__name__})") from error
        if status in PASSING:
            raise _Passing(f"status {status}, {self._said(raw)}", wait_s=_asked_wait(headers.get("retry-after")))
        if status != 200:
            kind = ModelError if status in ALL_ALIKE or status < 400 else Refused
            raise kind(f"the server {self.base_url} refused {path} with status {status}: {self._said(raw)}")
        try:
            return read(foreign.parsed(raw))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise _Passing(f"an answer of another form ({type(error).__name__}: {error}): {self._said(raw)}") from error

    def _exchange(self, client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[int, Any, bytes]:
        """Read to the end under one deadline: a server that sends a byte now and then must not hold us for ever."""
        deadline, parts, size = time.monotonic() + self.timeout_s, [], 0
        with client.stream("POST", f"{self.base_url}/{path}", json=body) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer took too long")
                if size > MAX_BYTES:
                    raise httpx.DecodingError(f"more than {MAX_BYTES} bytes")
            return response.status_code, response.headers, b"".join(parts)

    def _headers(self) -> dict[str, str]:
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"the environment variable {self.api_key_env} (api_key_env of a scorer) is not set")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"the environment variable {self.api_key_env} holds no key: it has a space or a line end")
        return {"Authorization": f"Bearer {key}"}

    def _said(self, raw: bytes) -> str:
        """The start of what the server wrote, its message where it is JSON."""
        text = raw.decode("utf-8", "replace")
        try:
            found = foreign.parsed(text)
            error = found.get("error", found.get("detail", found.get("message")))
            text = str(error.get("message", error) if isinstance(error, dict) else error if error else text)
        except (ValueError, AttributeError):
            pass
        return self._safe(" ".join(text.split())[:200]) or "an empty answer"

    def _safe(self, text: str) -> str:
        """Text from the network without the key, which servers like to quote."""
        key = os.environ.get(self.api_key_env or "", "").strip()
        return redact.text(text.replace(key, redact.HIDDEN) if key else text)


def _asked_wait(value: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 where there is none."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
