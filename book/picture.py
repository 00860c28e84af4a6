"""The picture of the landing page: VGPO on three completions, drawn from numbers.

``python book/picture.py`` writes ``book/_static/vgpo-light.svg`` and
``vgpo-dark.svg``. The focus scores are those of three answers of the small model to
one question, by the state that is about to write each token; a test holds them to the
model. Everything after them is computed by the equations of :doc:`method`.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev

FOCUS = [
    [
        0.4897,
        0.5391,
        0.532,
        0.8832,
        0.5221,
        0.5921,
        0.4876,
        0.6537,
        0.552,
        0.8036,
        0.5786,
        0.5337,
        0.5144,
        0.5587,
        0.5555,
        0.5982,
        0.601,
        0.517,
        0.5215,
        0.5886,
        0.5395,
        0.5712,
    ],
    [
        0.4897,
        0.5391,
        0.532,
        0.8832,
        0.5221,
        0.5921,
        0.4876,
        0.6537,
        0.5313,
        0.8046,
        0.8155,
        0.5873,
        0.5859,
        0.5292,
        0.4723,
        0.553,
        0.6012,
        0.5136,
        0.5284,
        0.5897,
        0.4648,
        0.5402,
    ],
    [
        0.4897,
        0.5391,
        0.532,
        0.8832,
        0.5221,
        0.5921,
        0.4876,
        0.6537,
        0.552,
        0.8036,
        0.5786,
        0.5337,
        0.5144,
        0.5587,
        0.5555,
        0.5982,
        0.6016,
        0.6036,
        0.508,
        0.526,
        0.5874,
        0.532,
        0.5692,
    ],
]
ANSWERS = ["8", "15", "8"]
REWARDS = [1, 0, 1]
STRENGTH, TAIL_RATIO, TOP_RATIO = 0.3, 0.5, 0.2

PANEL_WIDTH, PANEL_HEIGHT, GAP = 264, 214, 24
BAR, STEP = 6.6, 8.4


@dataclass(frozen=True)
class Palette:
    """Colours of one variant; the background stays transparent."""

    text: str
    quiet: str
    frame: str
    bar: str
    accent: str
    plus: str
    minus: str


LIGHT = Palette(
    "#1f2933", "#52606d", "#b8c2cc", "#8fa3b8", "#c2570c", "#1f6fb2", "#c2570c"
)
DARK = Palette(
    "#e6e9ed", "#aeb8c2", "#5b6773", "#7b90a6", "#f2994a", "#6fb1e8", "#f2994a"
)


def gates(focus: list[float]) -> list[bool]:
    """Eq. 6: the top ``TOP_RATIO`` of the scores in the tail."""
    start = len(focus) - int(len(focus) * TAIL_RATIO)
    tail = sorted(focus[start:], reverse=True)
    threshold = tail[max(1, int(len(tail) * TOP_RATIO)) - 1]
    return [t >= start and score >= threshold for t, score in enumerate(focus)]


def compensate(focus: list[float]) -> list[float]:
    """Eq. 5 with the linear schedule."""
    return [
        score * (1 + gate * STRENGTH * (t + 1) / len(focus))
        for t, (score, gate) in enumerate(zip(focus, gates(focus), strict=True))
    ]


def centred(values: list[float]) -> list[float]:
    """Min-max to [0, 1], then minus the mean (Eq. 7-8, Eq. 10-11)."""
    low, high = min(values), max(values)
    scaled = [(value - low) / (high - low) for value in values]
    return [value - mean(scaled) for value in scaled]


def advantages() -> list[list[float]]:
    """Eq. 12: one advantage for every token of every completion."""
    base = [(r - mean(REWARDS)) / pstdev(REWARDS) for r in REWARDS]
    return [
        [a * (1 + psi) * (1 + phi) for psi in row]
        for a, (phi, row) in zip(base, terms(), strict=True)
    ]


def text(x, y, content, colour, size=14, weight="normal", anchor="start"):
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}" text-anchor="{anchor}">{content}</text>'
    )


def rect(x, y, width, height, fill, extra=""):
    return (
        f'<rect x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" '
        f'height="{height:.4g}" fill="{fill}"{extra}/>'
    )


def panel(number: int, title: str, caption: str, body: list[str], p: Palette) -> str:
    column, row = (number - 1) % 2, (number - 1) // 2
    x = 2 + column * (PANEL_WIDTH + GAP)
    y = 2 + row * (PANEL_HEIGHT + GAP)
    border = f' stroke="{p.frame}" stroke-width="1.5" rx="8"'
    return "\n".join(
        [
            f'<g transform="translate({x} {y})">',
            rect(0, 0, PANEL_WIDTH, PANEL_HEIGHT, "none", border),
            text(14, 27, f"{number}  {title}", p.text, 16, "bold"),
            *body,
            text(14, PANEL_HEIGHT - 13, caption, p.quiet, 13),
            "</g>",
        ]
    )


def prompt(p: Palette) -> list[str]:
    """The grid of coloured digits and the question that was asked of it."""
    tiles = [
        ("#f29cbb", "8", 0, 0),
        ("#22201f", "7", 1, 0),
        ("#e3cd2a", "4", 0, 1),
        ("#2f8a4c", "1", 1, 1),
    ]
    drawn = []
    for colour, digit, i, j in tiles:
        x, y = 30 + i * 54, 50 + j * 54
        drawn.append(rect(x, y, 50, 50, colour, ' rx="3"'))
        drawn.append(rect(x + 7, y + 7, 36, 36, "#ffffff", ' rx="2"'))
        drawn.append(text(x + 25, y + 34, digit, "#1f2933", 26, "bold", "middle"))
    drawn.append(text(152, 84, "black", p.text, 16))
    drawn.append(text(152, 106, "+ green ?", p.text, 16))
    return drawn


def baseline(i: int) -> float:
    return 74 + i * 46


def label(i: int, p: Palette) -> str:
    mark, colour = ("right", p.plus) if REWARDS[i] else ("wrong", p.minus)
    return text(PANEL_WIDTH - 10, baseline(i), mark, colour, 13, anchor="end")


def rollouts(p: Palette) -> list[str]:
    drawn = []
    for i, focus in enumerate(FOCUS):
        for t in range(len(focus)):
            x, y = 16 + t * STEP, baseline(i) - 14
            drawn.append(rect(x, y, BAR, 14, p.bar, ' rx="2"'))
        drawn.append(label(i, p))
        drawn.append(
            text(
                PANEL_WIDTH - 10,
                baseline(i) - 16,
                ANSWERS[i],
                p.text,
                13,
                "bold",
                "end",
            )
        )
    return drawn


def bars(p: Palette, raised: bool) -> list[str]:
    """Focus scores as bars; with ``raised``, what compensation adds on top."""
    drawn = []
    for i, focus in enumerate(FOCUS):
        base, weights, gated = baseline(i), compensate(focus), gates(focus)
        for t, (score, weight) in enumerate(zip(focus, weights, strict=True)):
            x, height = 16 + t * STEP, 42 * score
            colour = p.accent if raised and gated[t] else p.bar
            drawn.append(rect(x, base - height, BAR, height, colour))
            if raised and gated[t]:
                extra = 42 * (weight - score)
                frame = f' stroke="{p.accent}" stroke-width="1.5"'
                drawn.append(
                    rect(
                        x + 0.75, base - height - extra, BAR - 1.5, extra, "none"
                    ).replace("/>", frame + "/>")
                )
        drawn.append(label(i, p))
    return drawn


def terms() -> list[tuple[float, list[float]]]:
    """phi and psi of every completion (Eq. 7-11)."""
    weights = [compensate(focus) for focus in FOCUS]
    between = centred([sum(row) for row in weights])
    return [(phi, centred(row)) for row, phi in zip(weights, between, strict=True)]


def reweight(p: Palette) -> list[str]:
    """psi of every token as a bar, phi of every completion as a number."""
    drawn = [text(16, 46, "ψ", p.text, 15, "bold")]
    drawn.append(text(PANEL_WIDTH - 10, 46, "φ", p.text, 15, "bold", "end"))
    for i, (phi, row) in enumerate(terms()):
        middle = baseline(i) - 8
        for t, value in enumerate(row):
            height = 20 * abs(value)
            top = middle - height if value > 0 else middle
            drawn.append(rect(16 + t * STEP, top, BAR, height, p.bar))
        drawn.append(
            f'<line x1="14" y1="{middle:g}" x2="{16 + len(row) * STEP:g}" '
            f'y2="{middle:g}" stroke="{p.frame}"/>'
        )
        written = f"{phi:+.2f}".replace("-", "−")
        drawn.append(
            text(PANEL_WIDTH - 10, middle + 4, written, p.text, 13, anchor="end")
        )
    return drawn


def reshaped(p: Palette) -> list[str]:
    drawn = []
    for i, row in enumerate(advantages()):
        middle = baseline(i) - 12
        for t, value in enumerate(row):
            height = 9 * abs(value)
            top = middle - height if value > 0 else middle
            colour = p.plus if value > 0 else p.minus
            drawn.append(rect(16 + t * STEP, top, BAR, height, colour))
        drawn.append(
            f'<line x1="14" y1="{middle:g}" x2="{16 + len(row) * STEP:g}" '
            f'y2="{middle:g}" stroke="{p.frame}"/>'
        )
        drawn.append(label(i, p))
    return drawn


def draw(p: Palette) -> str:
    """The whole picture as one SVG document."""
    width = 2 * PANEL_WIDTH + GAP + 4
    height = 3 * PANEL_HEIGHT + 2 * GAP + 4
    panels = [
        panel(1, "Prompt", "an image and a question", prompt(p), p),
        panel(2, "Rollouts", "a group of answers, each rewarded", rollouts(p), p),
        panel(3, "Focus ρ", "how near each token is to the image", bars(p, False), p),
        panel(4, "Compensation", "late tokens near the image rise", bars(p, True), p),
        panel(5, "Re-weighting", "tokens within, answers between", reweight(p), p),
        panel(6, "Advantage", "Â (1 + ψ) (1 + φ) for each token", reshaped(p), p),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="system-ui, sans-serif">',
            "<title>VGPO in six steps</title>",
            *panels,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    folder = Path(__file__).parent / "_static"
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        (folder / f"vgpo-{name}.svg").write_text(draw(palette), encoding="utf-8")
