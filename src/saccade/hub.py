"""The Hugging Face hub: single files, and models of transformers from a folder or a hub id.

Weights come from safetensors only; what fails is one sentence.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.extras import require
from saccade.files import read_json
from saccade.trust import may_fetch

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def hub_answers() -> bool:
    """Tell whether the hub's name resolves, so that an offline machine need not wait for five retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def no_retries(*, cached: bool = False) -> Iterator[None]:
    """Without a connection, let the hub's client look in its cache at once, not after long attempts.

    Args:
        cached: Do so with a connection, too: nothing is fetched.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or cached or not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def fetch_file(hub_id: str, filename: str = "model.safetensors", *, cached: bool = False) -> Path:
    """Fetch a weights file from the hub, or find it in the local cache; with `cached` only there.

    Raises:
        WeightsError: Not there, or no connection; the sentence names the id and the way around.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, filename, local_files_only=cached or not hub_answers()))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if cached:
            raise WeightsError(
                f"{hub_id} stands in a file and is not in the hub's cache here; hub ids in files are not fetched "
                "without your word, so name it yourself with --weights, or add --allow-address"
            ) from None
        raise WeightsError(
            f"{hub_id}: the hub cannot be reached or has no {filename} under this id ({type(error).__name__}); "
            f"fetch it where there is a connection and pass the file with --weights"
        ) from None


def config_path(source: str, *, extra: str, flag: str, example: str) -> Path:
    """Find a model's `config.json`; of the hub's, the one of the revision that is fetched.

    Args and errors as for `model_type_of`.
    """
    path = Path(source)
    if not path.is_dir():
        if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
            raise WeightsError(
                f"{source}: no such folder; expected the folder of a model of transformers, or a hub id such as "
                f"{example}"
            )
        hub = require("transformers.utils.hub", extra, "to open models of the hub")
        with fetching(source, "config.json", flag=flag):
            path = Path(hub.cached_file(source, "config.json")).parent
    if not (path / "config.json").is_file():
        raise WeightsError(f"{source}: no config.json in this folder; expected a model saved by transformers")
    return path / "config.json"


@dataclass
class _Config:
    """What `config.json` of a model of transformers says, as far as we look."""

    model_type: str


def model_type_of(source: str, *, extra: str, flag: str, example: str) -> str:
    """Return the `model_type` of a model, reading no more than its `config.json`.

    Args:
        source: Folder, or hub id (owner/name).
        extra: The extra that brings transformers.
        flag: How the user passes the folder, for the error.
        example: A hub id that would do, for the error.

    Raises:
        WeightsError: No such folder, nothing of transformers in it, or a hub that cannot be reached.
    """
    path = config_path(source, extra=extra, flag=flag, example=example)
    try:
        return read_json(path, _Config, error=WeightsError).model_type
    except WeightsError:
        raise WeightsError(
            f"{source}: config.json names no model_type; expected a model saved by transformers"
        ) from None


def load_network(
    kind: Any, source: str, *, dtype: str, flag: str, trust: str | None = None, **options: Any
) -> torch.nn.Module:
    """Build a network of transformers with all its weights.

    Args:
        kind: Its class.
        source: Folder, or hub id (owner/name).
        dtype: One of `DTYPES`.
        flag: How the user passes the folder, for the error.
        trust: As for `fetching`.
        options: More for `from_pretrained`.

    Raises:
        WeightsError: Weights that are missing, incomplete or damaged, or a hub that cannot be reached.
    """
    with fetching(source, "its weights (*.safetensors)", flag=flag, trust=trust), quiet():
        model, facts = kind.from_pretrained(
            source, dtype=DTYPES[dtype], use_safetensors=True, output_loading_info=True, **options
        )
    lost = sorted(facts["missing_keys"]) + sorted(name for name, *_ in facts["mismatched_keys"])
    if lost:
        raise WeightsError(
            f"{source}: the weights lack {len(lost)} tensors that {kind.__name__} has, such as {lost[0]}; expected "
            "the whole model"
        )
    return model


@contextlib.contextmanager
def fetching(source: str, what: str, *, flag: str, trust: str | None = None) -> Iterator[None]:
    """Turn the many ways in which files cannot be had into one sentence.

    Args:
        source: Folder, or hub id.
        what: What is being read.
        flag: How the user passes a folder.
        trust: Flag by which a user lets a model's own code run, where there is one.

    Raises:
        WeightsError: In place of what transformers raises.
        ConfigError: The model brings code of its own.
    """
    try:
        # Files of a folder can name other models, which nobody asked for.
        with no_retries(cached=Path(source).is_dir() or not may_fetch(source)):
            yield
    except SaccadeError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            way = (
                f"unless you say so; add {trust} if you trust its makers"
                if trust
                else "here; take another model"
            )
            raise ConfigError(f"{source} brings code of its own, which is not run {way}") from None
        if Path(source).is_dir():
            raise WeightsError(f"{source}: {what} cannot be read ({text[:120]})") from None
        if not may_fetch(source):
            raise WeightsError(
                f"{source} stands in a file and {what} is not in the hub's cache here; hub ids in files are not "
                f"fetched without your word: get it with `hf download {source}`, or add --allow-address"
            ) from None
        raise WeightsError(
            f"{source} is no folder here, and {what} cannot be fetched from the hub; get it where there is a "
            f"connection with `hf download {source} --local-dir FOLDER` and pass {flag} FOLDER"
        ) from None
    except Exception as error:  # safetensors raises its own kind
        if type(error).__name__ != "SafetensorError":
            raise
        raise WeightsError(f"{source}: a weights file is damaged ({error})") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and reports off the screen meanwhile; what matters we say ourselves."""
    logging = require("transformers.utils.logging", "pseudo", "to open models of the hub")
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
