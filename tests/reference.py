"""Eq. 3-12 once more: one token at a time, in Python floats, as the paper has them.

Slow on purpose and independent of the package: lists in, lists out. Masks are
lists of 0/1; a value outside its row's mask is 0.
"""

import math
from fractions import Fraction


def prototype(states, image_mask):
    """Eq. 3, per row; zeros without an image token."""
    result = []
    for row, mask in zip(states, image_mask, strict=True):
        chosen = [state for state, is_image in zip(row, mask, strict=True) if is_image]
        width = len(row[0])
        result.append(
            [
                math.fsum(state[d] for state in chosen) / len(chosen)
                for d in range(width)
            ]
            if chosen
            else [0.0] * width
        )
    return result


def focus_score(states, prototypes):
    """Eq. 4; 0 in a row without image, 0.5 for a zero state."""
    result = []
    for row, vector in zip(states, prototypes, strict=True):
        length = math.sqrt(math.fsum(x * x for x in vector))
        scores = []
        for state in row:
            norm = math.sqrt(math.fsum(x * x for x in state))
            if length == 0:
                scores.append(0.0)
            elif norm == 0:
                scores.append(0.5)
            else:
                product = math.fsum(a * b for a, b in zip(state, vector, strict=True))
                scores.append((product / norm / length + 1) / 2)
        result.append(scores)
    return result


def schedule(mask, kind="linear", exponent=2.0, step_ratio="0.5"):
    """Eq. 5's t/T_i and its two variants."""
    result = []
    for row in mask:
        total, seen, values = sum(row), 0, []
        for real in row:
            seen += real
            if not real:
                values.append(0.0)
            elif kind == "linear":
                values.append(seen / total)
            elif kind == "exponential":
                values.append((seen / total) ** exponent)
            else:
                values.append(float(Fraction(seen, total) >= Fraction(step_ratio)))
        result.append(values)
    return result


def gate(focus, mask, tail_ratio="0.5", top_ratio="0.2"):
    """Eq. 6, with ratios as decimal strings; of equal scores the later token."""
    result = []
    for row, real in zip(focus, mask, strict=True):
        places = [place for place, is_real in enumerate(real) if is_real]
        border = (1 - Fraction(tail_ratio)) * len(places)
        tail = [place for t, place in enumerate(places, start=1) if t > border]
        kept = max(1, math.floor(Fraction(top_ratio) * len(tail)))
        best = sorted(tail, key=lambda place: (row[place], place), reverse=True)
        result.append([int(place in best[:kept]) for place in range(len(row))])
    return result


def compensate(focus, mask, strength, gates, progress):
    """Eq. 5."""
    return [
        [
            rho * (1 + g * strength * p) if real else 0.0
            for rho, real, g, p in zip(*row, strict=True)
        ]
        for row in zip(focus, mask, gates, progress, strict=True)
    ]


def _min_max(values):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.0 for v in values]


def intra(weights, mask):
    """Eq. 7-8."""
    result = []
    for row, real in zip(weights, mask, strict=True):
        places = [place for place, is_real in enumerate(real) if is_real]
        psi = [0.0] * len(row)
        if places:
            scaled = _min_max([row[place] for place in places])
            mean = math.fsum(scaled) / len(scaled)
            for place, value in zip(places, scaled, strict=True):
                psi[place] = value - mean
        result.append(psi)
    return result


def inter(weights, mask, group_ids, accumulation="sum"):
    """Eq. 9-11; rows without tokens or with all weights 0 stay out."""
    sums = {}
    for i, (row, real) in enumerate(zip(weights, mask, strict=True)):
        tokens = [w for w, is_real in zip(row, real, strict=True) if is_real]
        if any(w != 0 for w in tokens):
            sums[i] = math.fsum(tokens)
            if accumulation == "mean":
                sums[i] /= len(tokens)
    phi = [0.0] * len(weights)
    for group in set(group_ids):
        members = [i for i in sums if group_ids[i] == group]
        if members:
            scaled = _min_max([sums[i] for i in members])
            mean = math.fsum(scaled) / len(scaled)
            for i, value in zip(members, scaled, strict=True):
                phi[i] = value - mean
    return phi


def advantages(values, psi, phi):
    """Eq. 12."""
    return [
        [a * (1 + p) * (1 + f) for p in row]
        for a, row, f in zip(values, psi, phi, strict=True)
    ]
