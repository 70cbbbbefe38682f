"""SIGReg in closed form and sliced: CPU time, value on Gaussian rows, and whether their gradients point the same way.

python benchmarks/isotropy.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.losses.isotropy import SIGREG_NULL, sigreg_closed, sigreg_sliced

DIMENSION = 384
REFERENCE = 16_384
"""Slices that stand for all of them."""


def main() -> None:
    """Print a table for several batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"forward and backward, D = {DIMENSION}, {options.threads} thread(s); Gaussian rows should have 0")
    print("| rows | form | CPU-ms | value - null | cosine of the gradient with that of 16,384 slices, rank-96 rows |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        generator = torch.Generator().manual_seed(size)
        round_rows = torch.randn(size, DIMENSION, generator=generator)
        flat_rows = _flat(size, generator)
        reference = _gradient(lambda rows: _sliced(rows, REFERENCE), flat_rows)
        for name, form in _forms().items():
            spent = statistics.median(_seconds(form, round_rows) for _ in range(options.rounds)) * 1e3
            agreement = functional.cosine_similarity(_gradient(form, flat_rows).flatten(), reference.flatten(), dim=0)
            value = float(form(round_rows)) - SIGREG_NULL
            print(f"| {size:,} | {name} | {spent:.0f} | {value:+.3f} | {float(agreement):.3f} |", flush=True)


def _seconds(form: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    started = time.process_time()
    _gradient(form, rows)
    return time.process_time() - started


def _forms() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "closed": sigreg_closed,
        "256 slices": lambda rows: _sliced(rows, 256),
        "1,024 slices": lambda rows: _sliced(rows, 1024),
    }


def _sliced(rows: Tensor, slices: int) -> Tensor:
    return sigreg_sliced(rows, slices, torch.Generator().manual_seed(slices))


def _flat(size: int, generator: torch.Generator) -> Tensor:
    """Rows of rank 96 with the total variance of round ones."""
    narrow = torch.randn(size, 96, generator=generator) * 2
    directions: Tensor = torch.linalg.qr(torch.randn(DIMENSION, 96, generator=generator)).Q
    return narrow @ directions.T


def _gradient(form: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    given = rows.clone().requires_grad_()
    found: Tensor = torch.autograd.grad(form(given), given)[0]
    return found


if __name__ == "__main__":
    main()
