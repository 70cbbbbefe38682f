"""A map of topics: one disc per topic, its area the number of sources, near topics beside each other; a dot per source.

Centres start from classical scaling of the centroids' distances (Torgerson 1952): with B = -1/2 J D J, D_ij =
2 - 2 c_i . c_j and J = I - 1/K, the two leading eigenvectors of B times the roots of their eigenvalues. From there each
topic is drawn to the few most similar ones, and discs that overlap push each other apart.

Within a disc the dots fill a sunflower spiral: sources far more similar to their own centroid than to any other stand
in the middle, doubtful ones at the rim, on the side of the topics they are similar to. No random number is drawn: the
same vectors give the same map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors

Plane = NDArray[np.float64]
IntArray = NDArray[np.int64]

ASPECT = 1.4
"""Width over height that the topics are drawn towards."""

_ROUNDS, _SETTLING = 600, 0.15
_MOST_PAIRS = 128 * 128
"""Pairs of topics up to which all rounds are run; with more of them fewer."""
_NEIGHBOURS, _SHARPNESS = 5, 0.08
_GAP = 0.09
_LEAN = 0.03
"""Cosine by which one topic must be nearer than another to draw a dot e times as hard."""
_BESIDE, _NO_EXTENT = 1e-3, 1e-6
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True, slots=True)
class TopicMap:
    """Places in the plane; y points down, and all discs lie in [0, width] x [0, 1].

    Args:
        centres: float64 [K, 2].
        radii: float64 [K].
        points: float64 [N, 2], of the sources.
        width: Of the map; its height is 1.
    """

    centres: Plane
    radii: Plane
    points: Plane
    width: float


def topic_map(vectors: Vectors, assignment: IntArray, centroids: Vectors) -> TopicMap:
    """Lay out topics and their sources.

    Args:
        vectors: float32 [N, D], unit rows.
        assignment: int64 [N], topic of each source; every topic has one.
        centroids: float32 [K, D], unit rows.
    """
    sizes = np.bincount(assignment, minlength=len(centroids))
    radii = 0.5 * np.sqrt(sizes / sizes.sum())
    centres = _centres(np.asarray(centroids @ centroids.T, dtype=np.float64), sizes, radii)
    points = np.empty((len(vectors), 2))
    for topic in range(len(centroids)):
        members = np.flatnonzero(assignment == topic)
        points[members] = _disc(vectors[members], topic, centroids, centres, float(radii[topic]))
    low = (centres - radii[:, None]).min(axis=0)
    extent = (centres + radii[:, None]).max(axis=0) - low
    scale = 1 / extent[1]
    return TopicMap((centres - low) * scale, radii * scale, (points - low) * scale, float(extent[0] * scale))


def places_of(asked: Vectors, found: TopicMap, vectors: Vectors, assignment: IntArray, centroids: Vectors) -> Plane:
    """Where other vectors stand on a map, float64 [Q, 2]: in the disc of the nearest centroid, as a source would.

    The distance from the centre is that which a share of the disc's area leaves inside: the share of the topic's
    sources that belong to it more clearly. The side is that of the other topics the vector is similar to.

    Args:
        asked: float32 [Q, D], unit rows.
        found: The map of the four arguments of `topic_map`.
        vectors: As given to `topic_map`.
        assignment: As given to `topic_map`.
        centroids: As given to `topic_map`.
    """
    topics = np.asarray(asked @ centroids.T).argmax(axis=1)
    places = np.empty((len(asked), 2))
    for topic in np.unique(topics).tolist():
        rows = np.flatnonzero(topics == topic)
        margins, _ = _leaning(vectors[assignment == topic], topic, centroids, found.centres)
        margin, angle = _leaning(asked[rows], topic, centroids, found.centres)
        clearer = len(margins) - np.searchsorted(np.sort(margins), margin, side="right")
        distance = found.radii[topic] * np.sqrt(clearer / max(len(margins), 1))
        places[rows] = found.centres[topic] + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return places


def _centres(similarity: Plane, sizes: IntArray, radii: Plane) -> Plane:
    """Centres of discs that do not overlap, [K, 2]."""
    count = len(similarity)
    if count == 1:
        return np.zeros((1, 2))
    centres = _classical_scaling(similarity)
    bonds = _bonds(similarity)
    apart = radii[:, None] + radii[None] + _GAP / np.sqrt(count)
    # Of two discs that overlap the smaller one gives way further.
    yielding = 0.7 * sizes[None] / (sizes[:, None] + sizes[None])
    rounds = max(int(_ROUNDS * min(1.0, _MOST_PAIRS / count**2)), 80)
    for step in range(rounds):
        heat = 1 - step / rounds
        across, down, distance = _differences(centres)
        pull = 0.06 * bonds * np.maximum(1 - apart / distance, 0) - 0.016 * heat * radii / distance**2
        force = _summed(pull, across, down) - 0.02 * centres * np.array([1 / ASPECT, ASPECT])
        centres = centres + (0.3 + 0.7 * heat) * force
        for _ in range(8 if heat < _SETTLING else 3):
            across, down, distance = _differences(centres)
            overlap = np.maximum(apart / distance - 1, 0)
            np.fill_diagonal(overlap, 0)
            if not overlap.any():
                break
            centres = centres - _summed(overlap * yielding, across, down)
    return centres


def _differences(centres: Plane) -> tuple[Plane, Plane, Plane]:
    """From each centre to each other one: across, down, and as the crow flies, [K, K] each."""
    across, down = (centres[None, :, axis] - centres[:, None, axis] for axis in (0, 1))
    return across, down, np.sqrt(across * across + down * down) + 1e-9


def _summed(weights: Plane, across: Plane, down: Plane) -> Plane:
    """Weighted sum of the ways to all others, [K, 2]."""
    return np.stack([np.einsum("kj,kj->k", weights, across), np.einsum("kj,kj->k", weights, down)], axis=1)


def _classical_scaling(similarity: Plane) -> Plane:
    """The two leading coordinates, each scaled to 1 and with its largest entry positive, [K, 2]."""
    count = len(similarity)
    centring = np.eye(count) - 1 / count
    values, directions = np.linalg.eigh(-0.5 * centring @ (2 - 2 * similarity) @ centring)
    places: Plane = directions[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    largest = places[np.abs(places).argmax(axis=0), [0, 1]]
    # Equal centroids, or all of them on one line, must not stay there: nothing would push them apart.
    turn = np.arange(count) * _GOLDEN_ANGLE
    beside = _BESIDE * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return places / np.where(np.abs(largest) > _NO_EXTENT, largest, 1.0) + beside


def _bonds(similarity: Plane) -> Plane:
    """How hard each topic is drawn to each other one, [K, K]: to the five most similar, the nearest with 1."""
    other = similarity - 4 * np.eye(len(similarity))
    nearest = np.argsort(-other, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(other) - 1)]
    gains = np.take_along_axis(other, nearest, axis=1)
    bonds = np.zeros_like(similarity)
    np.put_along_axis(bonds, nearest, np.exp((gains - gains[:, :1]) / _SHARPNESS), axis=1)
    return np.maximum(bonds, bonds.T)


def _disc(members: Vectors, topic: int, centroids: Vectors, centres: Plane, radius: float) -> Plane:
    """Places of the sources of one topic, [m, 2]."""
    margin, angle = _leaning(members, topic, centroids, centres)
    order = np.argsort(-margin, kind="stable")
    slots = np.arange(len(members))
    turn = np.mod(slots * _GOLDEN_ANGLE, 2 * np.pi)
    slot_of = np.empty(len(members), dtype=np.int64)
    ring = max(round(2.2 * np.sqrt(len(members))), 1)
    for start in range(0, len(members), ring):
        slot_of[order[start : start + ring]] = _matched(
            angle[order[start : start + ring]], slots[start : start + ring], turn
        )
    distance = radius * np.sqrt((slot_of + 0.5) / max(len(members), 1))
    places: Plane = centres[topic] + distance[:, None] * np.stack(
        [np.cos(turn[slot_of]), np.sin(turn[slot_of])], axis=1
    )
    return places


def _leaning(members: Vectors, topic: int, centroids: Vectors, centres: Plane) -> tuple[Plane, Plane]:
    """By how much cosine each member belongs to its topic rather than the next one, [m]; and to which side, [m]."""
    similarity = np.asarray(members @ centroids.T, dtype=np.float64)
    own = similarity[:, topic].copy()
    similarity[:, topic] = -np.inf
    margin, angle = own, np.zeros(len(own))
    if len(centroids) > 1:
        nearest = similarity.max(axis=1, keepdims=True)
        pull = np.exp((similarity - nearest) / _LEAN)
        direction = centres - centres[topic]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
        angle = np.arctan2(*(pull @ direction).T[::-1])
        margin = own - nearest[:, 0]
    return margin, angle


def _matched(angles: Plane, slots: IntArray, turn: Plane) -> IntArray:
    """Which slot of a ring each dot takes: in the order of their angles, turned so that they fit best."""
    around = np.argsort(np.mod(angles, 2 * np.pi), kind="stable")
    ordered = slots[np.argsort(turn[slots], kind="stable")]
    wanted, offered = np.exp(1j * angles[around]), np.exp(1j * turn[ordered])
    fits = [float((wanted * np.conj(np.roll(offered, shift))).real.sum()) for shift in range(len(ordered))]
    taken = np.empty(len(slots), dtype=np.int64)
    taken[around] = np.roll(ordered, int(np.argmax(fits)))
    return taken
