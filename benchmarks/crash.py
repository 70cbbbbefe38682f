"""Kill `jasper fit` at random moments: what is on disk must be all old or all new, and the same command must go on.

    python benchmarks/crash.py                       # 100 kills with the demo model, minutes
    python benchmarks/crash.py --kills 10 --encoder tiny
    python benchmarks/crash.py --cold                # each fit in a new interpreter, not forked from a warm one

Every kill is a SIGKILL. Half of the fits begin with nothing, half replace an older run of another seed; of each half,
one half begins with an empty embedding cache and spends its time there, the other with a full one. After a kill the run
directory must be as before to the byte, or hold the whole new run, and load. Then the same command runs again, with the
cache that was left, and must give what an uninterrupted fit gives: every file to the byte, but for the seconds in
metrics.json and the report. Exit code 1 on any difference.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import multiprocessing.context
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

SIZE = 300
WORDS = re.findall(
    r"\w+",
    """apple river stone window garden letter music winter bridge candle forest market silver thunder castle desert
    engine feather harbour island jungle kitchen ladder mirror needle ocean pencil rabbit saddle temple wagon yellow""",
)
PHASES = (
    ("evaluate", ("/jasper_rag/evaluation/",)),
    ("train", ("/jasper_rag/training/",)),
    ("embed", ("/jasper_rag/embedding/", "/jasper_rag/encoder_choice.py")),
    ("save", ("/jasper_rag/run_directory.py", "/jasper_rag/atomic_")),
    ("evaluate", ("/jasper_rag/retrieval/", "/jasper_rag/fitting/")),
)
"""Phase, and files of which one is on the stack; the first that fits, else it is the start or the end."""

Content = Mapping[str, bytes]


@dataclass(frozen=True)
class Survival:
    """What one kill left and what came of it; `faults` are differences from what must be."""

    moment: float
    replacing: bool
    cached: bool
    phase: str
    left: str
    reused: int
    faults: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, look, run again; 0 if nothing was ever lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the data")
    parser.add_argument("--encoder", choices=["demo", "tiny"], default="demo", help="tiny: a vector for each word")
    parser.add_argument("--cold", action="store_true", help="a new interpreter for every fit: slower")
    parser.add_argument("--output", type=Path, help="write every kill here as JSON")
    options = parser.parse_args(arguments)
    # One thread and no hub: every fit does the same, and a fork copies no running threads.
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # The killed ones have left semaphores behind, which is nothing to warn about.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    with tempfile.TemporaryDirectory(prefix="jasper-crash-") as folder:
        survivals = Bench(Path(folder), options.encoder, options.seed, cold=options.cold).kill(options.kills)
    print(table(survivals))
    if options.output is not None:
        from jasper_rag.atomic_files import write_json

        write_json(options.output, [asdict(survival) for survival in survivals])
    return int(any(survival.faults for survival in survivals))


class Bench:
    """One data set in `folder`, its uninterrupted runs, and fits that are killed."""

    def __init__(self, folder: Path, encoder: str, seed: int, *, cold: bool) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._context: multiprocessing.context.BaseContext
        if cold:
            self._context = multiprocessing.get_context("spawn")
        else:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["jasper_rag.run_directory", "sentence_transformers", __name__])
        self._arguments = ["--data", str(write_set(folder / "words", self._random)), "--offline"]
        if encoder == "tiny":
            self._arguments += ["--encoder", str(write_encoder(folder / "encoder"))]
        self._uninterrupted("old", 1)
        self._old, self._cache = content(folder / "old" / "run"), folder / "new" / "cache"
        self._uninterrupted("first", 0)  # warms the caches of the system, too
        self._seconds = {cached: self._uninterrupted("new", 0) for cached in (False, True)}
        self._expected = timeless(content(folder / "new" / "run"))
        if found := differences(self._expected, timeless(content(folder / "first" / "run"))):
            raise SystemExit(f"two fits that nobody killed differ in {found}")

    def kill(self, count: int) -> list[Survival]:
        """`count` fits killed at moments spread over the time that one takes, in random order."""
        plans = []
        for cached, share in ((True, count // 2), (False, count - count // 2)):
            for number in range(share):
                moment = (number + self._random.random()) / share * self._seconds[cached]
                plans.append((moment, number % 2 == 1, cached))
        self._random.shuffle(plans)
        survivals = []
        for moment, replacing, cached in plans:
            survivals.append(self._killed(moment, replacing=replacing, cached=cached))
            print(f"{len(survivals)}/{count}: {survivals[-1]}", file=sys.stderr, flush=True)
        return survivals

    def _uninterrupted(self, name: str, seed: int) -> float:
        started = time.perf_counter()
        process = self._start(self._folder / name, seed)
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"a fit that nobody killed failed:\n{(self._folder / name / 'log').read_text()}")
        return time.perf_counter() - started

    def _start(self, folder: Path, seed: int) -> BaseProcess:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stack").unlink(missing_ok=True)
        arguments = ["fit", *self._arguments, "--output-dir", str(folder / "run"), "--seed", str(seed)]
        process: BaseProcess = self._context.Process(target=run_fit, args=(arguments, folder))  # type: ignore[attr-defined]
        process.start()
        return process

    def _killed(self, moment: float, *, replacing: bool, cached: bool) -> Survival:
        folder = self._folder / "killed"
        while True:
            shutil.rmtree(folder, ignore_errors=True)
            if replacing:
                shutil.copytree(self._folder / "old" / "run", folder / "run")
            if cached:
                shutil.copytree(self._cache, folder / "cache")
            process = self._start(folder, 0)
            process.join(moment)
            phase = ask_phase(process, folder / "stack")
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                break
            moment *= self._random.random()  # it was faster than the measured one, and had ended
        left, faults = self._examined(folder / "run", replacing)
        process = self._start(folder, 0)
        process.join()
        if process.exitcode != 0:
            faults.append(f"the second try failed: {(folder / 'log').read_text()[-500:]}")
        else:
            found = differences(timeless(content(folder / "run")), self._expected)
            faults += [f"after the second try another {name}" for name in found]
        reused = sum(int(n) for n in re.findall(r"(\d+) reused", (folder / "log").read_text()))
        return Survival(round(moment, 3), replacing, cached, phase, left, reused, tuple(faults))

    def _examined(self, run: Path, replacing: bool) -> tuple[str, list[str]]:
        """Which run stands there after a kill, as a reader sees it, and what is wrong with it."""
        from jasper_rag.errors import InputError
        from jasper_rag.jasper import Jasper

        visible = run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir())
        if not visible and not replacing:
            return "nothing", []
        try:
            Jasper.load(run, offline=True)
        except InputError as error:
            return "broken", [f"does not load: {error}"]
        found = {name: data for name, data in content(run).items() if not name.startswith(".")}
        if replacing and found == self._old:
            return "old", []
        return "new", [f"neither old nor new: {name}" for name in differences(timeless(found), self._expected)]


def run_fit(arguments: Sequence[str], folder: Path) -> None:
    """`jasper` with these arguments, in a process of its own; what it says goes to `log`, on SIGUSR1 its stack too."""
    from jasper_rag.cli.main import main as jasper

    os.environ["JASPER_CACHE"] = str(folder / "cache")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(log, standard)
    stack = (folder / "stack.tmp").open("w")
    faulthandler.register(signal.SIGUSR1, file=stack)
    (folder / "stack.tmp").rename(folder / "stack")
    sys.argv = ["jasper", *arguments]
    jasper()


def ask_phase(process: BaseProcess, stack: Path) -> str:
    """What a fit is doing, from its stack; asked for just before it is killed."""
    if not stack.exists() or not process.is_alive() or process.pid is None:
        return "start"
    os.kill(process.pid, signal.SIGUSR1)
    for _ in range(1_000):
        text = stack.read_text(encoding="utf-8")
        if f"in {run_fit.__name__}\n" in text:  # the last frame of ours: the stack is complete
            return next((phase for phase, files in PHASES if any(file in text for file in files)), "start")
        time.sleep(0.001)
    return "start"


def content(directory: Path) -> Content:
    """Every file below `directory`, hidden ones too."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def timeless(files: Content) -> Content:
    """Without what tells how long something took: the report, and the seconds in metrics.json."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if not key.endswith("seconds")}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    kept = dict(files)
    if "metrics.json" in kept:
        kept["metrics.json"] = json.dumps(strip(json.loads(kept["metrics.json"]))).encode()
    if "report.html" in kept:
        kept["report.html"] = kept["report.html"].rstrip()[-7:]
    return kept


def differences(one: Content, other: Content) -> list[str]:
    """Names of the files that are not the same."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def write_set(folder: Path, generator: random.Random) -> Path:
    """A BEIR folder: documents of six words, each with a question made of three of them."""
    (folder / "qrels").mkdir(parents=True)
    documents, questions, judgements = [], [], ["query-id\tcorpus-id\tscore"]
    for number in range(SIZE):
        words = generator.sample(WORDS, 6)
        documents.append({"_id": f"d{number}", "title": f"Note {number}", "text": f"{' '.join(words)}."})
        questions.append({"_id": f"q{number}", "text": f"{', '.join(generator.sample(words, 3))}?"})
        judgements.append(f"q{number}\td{number}\t1")
    for name, rows in (("corpus", documents), ("queries", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels" / "all.tsv").write_text("\n".join([*judgements, ""]), encoding="utf-8")
    return folder


def write_encoder(folder: Path) -> Path:
    """A sentence-transformers folder with a random vector for each word."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: row for row, word in enumerate(["[UNK]", *sorted(set(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(vocabulary), 64)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)
    return folder


def table(survivals: Sequence[Survival]) -> str:
    """Kills by phase, what they left, and every fault."""
    heads = ["killed in", "kills", "left nothing", "left the old run", "left the new run", "second try equal", "faults"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for phase in ("start", "embed", "train", "evaluate", "save", "all"):
        chosen = [one for one in survivals if phase in (one.phase, "all")]
        left = Counter(one.left for one in chosen)
        equal = sum(not any("second try" in fault for fault in one.faults) for one in chosen)
        faults = sum(bool(one.faults) for one in chosen)
        cells = [phase, len(chosen), left["nothing"], left["old"], left["new"], f"{equal} of {len(chosen)}", faults]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    replaced = [one for one in survivals if one.replacing]
    lines.append(f"\n{len(replaced)} kills over an older run; {sum(one.left == 'old' for one in replaced)} left it.")
    lines.append(f"{sum(one.reused for one in survivals):,} embeddings were taken over by second tries.")
    lines += [f"kill at {one.moment} s ({one.phase}): {fault}" for one in survivals for fault in one.faults]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
