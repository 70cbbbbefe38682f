"""Draw curriculum.png: the share of each steering variant by epoch, in both spellings of the curriculum.

python docs/dataset/plot_curriculum.py [FILE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from jasper_rag.data.curriculum import Curriculum
from jasper_rag.dataset_layout import VARIANTS

EVEN = (0.25, 0.25, 0.25, 0.25)
SHOWN = {
    "zero_prob_* = .5, .1 over 100 epochs, linear": (Curriculum(EVEN, "linear", 0.5, 0.1, 100), 120),
    "the same, cosine": (Curriculum(EVEN, "cosine", 0.5, 0.1, 100), 120),
    "*_distance = .3, .7 over 10 epochs, linear": (Curriculum(EVEN, "linear", 0.7, 0.3, 10), 20),
}
COLOURS = ("#c9ced6", "#3b6fb6", "#d98a2b", "#4a9a6f")


def main(path: Path) -> None:
    """Write the picture.

    Args:
        path: PNG file.
    """
    figure, plots = plt.subplots(1, len(SHOWN), figsize=(11, 3.2), sharey=True, layout="constrained")
    for plot, (title, (curriculum, last)) in zip(plots, SHOWN.items(), strict=True):
        epochs = range(last + 1)
        shares = zip(*(curriculum.probabilities(epoch) for epoch in epochs), strict=True)
        plot.stackplot(epochs, *shares, labels=VARIANTS, colors=COLOURS)
        plot.set(title=title, xlabel="epoch", xlim=(0, last), ylim=(0, 1))
        plot.title.set_fontsize(10)
        plot.spines[["top", "right"]].set_visible(False)
    plots[0].set_ylabel("share of pairs")
    handles, names = plots[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside right center", frameon=False)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("curriculum.png"))
