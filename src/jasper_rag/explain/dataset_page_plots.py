"""Plots of the dataset page and the report as inline SVG: bars and shares."""

from __future__ import annotations

from collections.abc import Sequence

from jasper_rag.explain.report_markup import escape


def bar(share: float, colour: str = "") -> str:
    """A horizontal bar as wide as its share of the place it has.

    Args:
        share: In [0, 1].
        colour: Fill; empty: the page's accent.
    """
    fill = f' fill="{colour}"' if colour else ""
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" width="100" height="6"/><rect width="{100 * share:.2f}" height="6"{fill}/></svg>'
    )


def stacked(shares: Sequence[tuple[str, float]], label: str) -> str:
    """Shares of one whole, side by side; colours come from the class of each.

    Args:
        shares: (class, share) from left to right.
        label: For those who listen to the page.
    """
    parts, start = [], 0.0
    for kind, share in shares:
        parts.append(f'<rect class="{kind}" x="{100 * start:.2f}" width="{100 * share:.2f}" height="10"/>')
        start += share
    return (
        f'<svg class="stacked" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
