"""What a training run measured: kept, written after every epoch, drawn, exported and, if wished, sent to W&B."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from jasper_rag.atomic_files import replacing, write_json, write_text
from jasper_rag.errors import InputError
from jasper_rag.training.trainer_config import higher_is_better
from jasper_rag.training.wandb_run import WandbRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS, HISTORY = "metrics.jsonl", "training_history.csv"
LOSS_PLOT, STEERING_PLOT = "loss_curves.png", "steering_distribution.png"

_FORMATS = (".png", ".pdf", ".svg")
_DPI = 200

Row = dict[str, Any]


class TrainingMonitor:
    """Metrics by epoch, in memory and in `metrics.jsonl`; plots and exports from them.

    An epoch is one row: what is logged again for it joins the row. Rows with different values of "step" are different
    rows. The file is replaced as a whole, so that a killed run leaves no half of a line.

    Args:
        output_dir: Where everything is written; created with the first file.
        use_wandb: Send metrics and plots to Weights & Biases as well; that it is missing or fails is a warning.
        wandb_project: Project there.
        wandb_name: Name of the run there; None: it makes one up.
        wandb_config: Settings shown there: a mapping of plain values, or a model of settings.
    """

    def __init__(
        self,
        output_dir: str | Path = "runs",
        use_wandb: bool = False,
        wandb_project: str = "jasper-rag",
        wandb_name: str | None = None,
        wandb_config: Mapping[str, Any] | BaseModel | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.history: list[Row] = []
        self._wandb: WandbRun | None = None
        if use_wandb:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            config = wandb_config.model_dump(mode="json") if isinstance(wandb_config, BaseModel) else wandb_config
            self._wandb = WandbRun(wandb_project, wandb_name, config or {}, self.output_dir)

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    @property
    def num_epochs_logged(self) -> int:
        """Epochs that have a row."""
        return len({row["epoch"] for row in self.history})

    def log_metrics(self, epoch: int, metrics_dict: Mapping[str, Any]) -> None:
        """Add what an epoch measured, and write `metrics.jsonl`.

        Args:
            epoch: From 0.
            metrics_dict: Metric -> value: numbers, also of numpy and torch (0-d), text, truth values or None.

        Raises:
            TypeError: A value is something else.
        """
        values = {name: _plain(name, value) for name, value in metrics_dict.items()} | {"epoch": epoch}
        self._add(values)
        self._write_metrics()
        if self._wandb is not None:
            self._wandb.log(values)

    def restore(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Go on after these rows, e.g. those of a checkpoint: others are forgotten, in `metrics.jsonl` too."""
        self.history = []
        for row in history:
            self._add({name: _plain(name, value) for name, value in row.items()})
        self._write_metrics()

    def plot_losses(self, path: str | Path | None = None) -> Path | None:
        """Draw every loss with train and val, retrieval by steering mode, learning rate and momentum.

        Args:
            path: PNG, PDF or SVG; None: `loss_curves.png` in the output directory.

        Returns:
            The file; None where nothing was logged that could be drawn.

        Raises:
            InputError: `path` is of another format.
        """
        from jasper_rag.training.training_plots import loss_figure

        return self._save("losses", loss_figure(self.history), Path(path or self.output_dir / LOSS_PLOT))

    def plot_steering_distribution(self, path: str | Path | None = None) -> Path | None:
        """Draw the shares of the steering variants by epoch; arguments, result and errors as `plot_losses`.

        They are the metrics `train/steering_zero`, `..._centroid`, `..._keyword` and `..._residual`, or
        `train/steering_variant_<0 to 3>_frac`. The default file is `steering_distribution.png`.
        """
        from jasper_rag.training.training_plots import steering_figure

        figure = steering_figure(self.history)
        return self._save("steering_distribution", figure, Path(path or self.output_dir / STEERING_PLOT))

    def export_history(self, path: str | Path | None = None) -> Path:
        """Write all rows as CSV, one column per metric, and as JSON beside it.

        Args:
            path: Of the CSV file; None: `training_history.csv` in the output directory.

        Returns:
            The CSV file. In it an empty cell is a metric that the epoch has not; in the JSON null is NaN or infinity.
        """
        path = Path(path or self.output_dir / HISTORY)
        table = path.with_suffix(".csv") if path.suffix == ".json" else path
        columns = list(dict.fromkeys(["epoch", *(name for row in self.history for name in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_text(table, text.getvalue())
        write_json(table.with_suffix(".json"), [_finite(row) for row in self.history])
        return table

    def get_summary_table(self) -> list[Row]:
        """One row per numeric metric: "metric", "first", "last", "best" and "best_epoch".

        Best is the highest of accuracies and retrieval metrics, and the lowest of all others.
        """
        names = dict.fromkeys(name for row in self.history for name in row if name not in ("epoch", "step"))
        table = []
        for name in names:
            course = [(row["epoch"], row[name]) for row in self.history if _is_number(row.get(name))]
            if not course:
                continue
            choose = max if higher_is_better(name) else min
            epoch, best = choose(course, key=lambda point: point[1])
            first, last = course[0][1], course[-1][1]
            table.append({"metric": name, "first": first, "last": last, "best": best, "best_epoch": epoch})
        return table

    def finish(self) -> None:
        """Close the W&B run, if there is one."""
        if self._wandb is not None:
            self._wandb.finish()

    def _add(self, values: Row) -> None:
        """Join the row of the same epoch and step, or become a new one in its place."""
        place = (values["epoch"], values.get("step"))
        for row in reversed(self.history):
            if (row["epoch"], row.get("step")) == place:
                row.update(values)
                return
        self.history.append({"epoch": values["epoch"], **values})
        self.history.sort(key=lambda row: (row["epoch"], row.get("step") or 0))

    def _write_metrics(self) -> None:
        lines = [json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) for row in self.history]
        write_text(self.output_dir / METRICS, "".join(f"{line}\n" for line in lines))

    def _save(self, name: str, figure: Figure | None, path: Path) -> Path | None:
        suffix = path.suffix.lower()
        if suffix not in _FORMATS:
            remedy = f"Give a name that ends in one of {', '.join(_FORMATS)}."
            raise InputError(
                f"plots are not written as {suffix or 'files without a suffix'}.", path=path, remedy=remedy
            )
        if figure is None:
            return None
        with replacing(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=_DPI)
        if self._wandb is not None and suffix == ".png":
            self._wandb.log_image(name, path, self.history[-1]["epoch"])
        return path


def read_history(path: str | Path) -> list[Row]:
    """The rows of a `metrics.jsonl`.

    Raises:
        InputError: The file is missing, or a line is not a row.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", path=path, remedy="Give the metrics.jsonl of a run.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"not JSON: {error}.", path=path, line=number, remedy="Remove the line.") from error
        if not isinstance(row, dict) or not _is_number(row.get("epoch")):
            raise InputError("has no epoch.", path=path, line=number, remedy="Remove the line.")
        rows.append(row)
    return rows


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it; numbers of numpy and torch become Python's."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)
    if item is None or math.prod(getattr(value, "shape", ())) != 1:
        raise TypeError(f"metric {name!r} must be a number, text, true, false or None, got {type(value).__name__}")
    return item()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(row: Mapping[str, Any]) -> Row:
    """The row with null for what JSON has no number for."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
