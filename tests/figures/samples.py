"""A figure of each kind that tells series apart, from small made-up tables."""

from collections import namedtuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo import figures
from vgpo.testbed import IMAGE_FAMILIES, World

RNG = np.random.default_rng(0)
Split = namedtuple("Split", "fewer_looks weaker_looks other_tokens total")


def bounded(table: dict) -> pd.DataFrame:
    """A table with an interval of 0.1 around its last column."""
    frame = pd.DataFrame(table)
    value = frame.iloc[:, -1]
    return frame.assign(low=value - 0.05, high=value + 0.05)


def crossed(**levels) -> dict[str, list]:
    """Columns of every combination of levels, and a value of each."""
    index = pd.MultiIndex.from_product(levels.values(), names=levels.keys())
    columns = index.to_frame(index=False).to_dict("list")
    return columns | {"value": RNG.random(len(index)).tolist()}


def named(table: dict, value: str) -> pd.DataFrame:
    return bounded(table).rename(columns={"value": value})


SCORES = ["focus", "focus_prediction"]
ALIGNMENTS = ["token", "prediction"]
BLIND = ["grey picture", "= before"]
ROLES = [
    "value read", "colour read", "= before a read", "number repeated", "result",
    "sign", "word", "end", "=", "box",
]  # fmt: skip


def decay() -> Figure:
    kinds = ["image", "query", "generated"]
    groups = ["sum", "count", "chart"]
    table = crossed(kind=kinds, group=groups, progress=range(0, 101, 20))
    return figures.decay_figure(named(table, "mean"))


def ratio_length() -> Figure:
    table = pd.DataFrame(crossed(of=["sum", "count", "chart"], length=range(20, 60)))
    return figures.ratio_length_figure(table.rename(columns={"value": "ratio"}), "of")


def auroc() -> Figure:
    tables = [
        named(crossed(part=parts, score=ALIGNMENTS + BLIND), "auroc")
        for parts in (["sum", "count"], range(5))
    ]
    return figures.auroc_figure(*tables)


def role_auroc() -> Figure:
    table = named(crossed(role=ROLES, score=ALIGNMENTS + BLIND), "auroc")
    return figures.role_auroc_figure(table.assign(others=20))


def attention_correlation() -> Figure:
    table = crossed(
        focus=ALIGNMENTS, attention=ALIGNMENTS, scope=["pooled", "within"],
        layer=range(4),
    )  # fmt: skip
    return figures.attention_correlation_figure(named(table, "r"))


def dependence() -> Figure:
    table = pd.DataFrame(crossed(role=ROLES, n=range(3)))
    return figures.dependence_figure(
        table.assign(
            drop_image=table["value"], focus=RNG.random(len(table)),
            focus_prediction=RNG.random(len(table)),
        )
    )  # fmt: skip


def robustness() -> Figure:
    table = {"read_probability": RNG.random(4)}
    for name in [*ALIGNMENTS, "auroc"]:
        table[name] = RNG.random(4)
        table[f"{name}_low"] = table[name] - 0.05
        table[f"{name}_high"] = table[name] + 0.05
    return figures.robustness_figure(
        pd.DataFrame(table, index=["noise", "grey", "flip", "crop"])
    )


def states() -> Figure:
    points = pd.DataFrame(RNG.normal(size=(600, 2)), columns=["x", "y"])
    points["cosine"] = RNG.uniform(-1, 1, 600)
    return figures.states_figure(points.assign(kind=RNG.choice(ROLES[:6], 600)))


def chain() -> pd.DataFrame:
    example = World().example(1, family="sum")
    table = pd.DataFrame(
        {
            "token": [token.text for token in example.chain],
            "source": [token.source for token in example.chain],
        }
    )
    table["focus"] = 0.5 + 0.3 * RNG.normal(size=len(table)).clip(-1, 1)
    table["focus_prediction"] = table["focus"].shift(-1).fillna(0.5)
    place = np.arange(len(table))
    table["tail"] = place >= len(table) // 2
    table["gated"] = table["tail"] & (place % 5 == 0)
    table["weight"] = table["focus"] * (1 + 0.3 * table["gated"])
    return table


def focus_chain() -> Figure:
    return figures.focus_chain_figure(chain())


def compensation() -> Figure:
    place = np.arange(1, len(chain()) + 1) / len(chain())
    schedules = pd.DataFrame(
        {"linear": place, "exponential": place**2, "step": place > 0.5}, dtype=float
    )
    return figures.compensation_figure(0.3 * schedules, dict.fromkeys(SCORES, chain()))


def gate_precision() -> Figure:
    table = crossed(
        score=SCORES + BLIND,
        tail_ratio=[0.25, 0.5, 1.0],
        top_ratio=[0.1, 0.2, 0.3, 0.4],
    )
    return figures.gate_precision_figure(
        named(table, "precision").assign(base=0.3, best=0.9)
    )


def psi_strength() -> Figure:
    table = pd.DataFrame(crossed(part=["head", "shut", "gated"], strength=range(4)))
    tables = dict.fromkeys(SCORES, table.rename(columns={"value": "psi"}))
    return figures.psi_strength_figure(tables)


def along_the_chain() -> Figure:
    ways = ["tail, gated", "full, gated", "full, no gate"]
    table = crossed(
        score=SCORES, compensation=ways, chain=range(3), progress=np.arange(1, 6) / 5
    )
    return figures.along_the_chain_figure(pd.DataFrame(table))


def log() -> pd.DataFrame:
    names = ["reward", *(f"visual/{n}" for n in (
        "focus_early", "focus_late", "psi_std", "phi_std", "phi_length_corr"
    ))]  # fmt: skip
    table = pd.DataFrame(RNG.random((12, len(names))), columns=names)
    return table.assign(step=range(1, 13))


def reward() -> Figure:
    return figures.reward_figure({"dapo": log(), "vgpo": log()})


def visual_metrics() -> Figure:
    return figures.visual_metrics_figure(log())


def layers() -> Figure:
    columns = ["reads", "looks", "knows"]
    table = pd.DataFrame({c: RNG.random(4) for c in columns}).assign(layer=range(4))
    for column in columns:
        table[f"{column}_low"] = table[column] - 0.05
        table[f"{column}_high"] = table[column] + 0.05
    return figures.layers_figure(table, columns, table[["layer", "reads"]] / 2)


def reads() -> Figure:
    tables = {
        name: named({"n": range(1, 6), "value": RNG.random(5)}, "value").set_index("n")
        for name in ("right", "looks", "certain")
    }
    return figures.reads_figure(tables)


def decay_split() -> Figure:
    def part(value):
        return value, value - 0.01, value + 0.01, 50

    split = Split(part(-0.06), part(-0.01), part(0.015), part(-0.055))
    return figures.decay_split_figure(dict.fromkeys(["sum", "count", "chart"], split))


def cold_start() -> Figure:
    table = {"step": range(500, 4500, 500), "stage": [0, 0, 1, 1, 2, 2, 4, 4]}
    for family in IMAGE_FAMILIES:
        table[f"sampled_{family}"] = np.linspace(0, RNG.random(), 8)
        table[f"greedy_{family}"] = np.linspace(0, RNG.random(), 8)
    return figures.cold_start_figure(
        pd.DataFrame(table), IMAGE_FAMILIES, (1, 2, 4, 6, 9)
    )


def looking() -> Figure:
    names = ["true", "swapped", "blank", "never_looks"]
    table = pd.DataFrame(RNG.random((4, 4)), columns=names, index=list(IMAGE_FAMILIES))
    return figures.looking_figure(table)


def training_memory() -> Figure:
    ways = pd.DataFrame(
        {"bytes": [1e11, 2e10, 8e9]}, index=["all weights", "LoRA", "QLoRA"]
    )
    return figures.training_memory_figure({"3B": ways, "7B": 2.3 * ways})


def entropy_term() -> Figure:
    lines = {name: RNG.random(5) for name in ("dapo", "papo", "vgpo")}
    return figures.entropy_term_figure(lines)


def signal_lags() -> Figure:
    table = crossed(label=["focus", "attention", "entropy"], lag=range(-2, 3))
    return figures.signal_lags_figure({"values": named(table, "auroc")})


def clamp() -> Figure:
    return figures.clamp_figure(RNG.random(200) * 2)


def course() -> Figure:
    table = pd.DataFrame(crossed(arm=["dapo", "vgpo", "oracle"], step=range(1, 6)))
    for name in ("low", "high", "difference", "difference_low", "difference_high"):
        table[name] = RNG.random(len(table))
    return figures.course_figure(table.assign(seeds=6), "dapo", "reward")


SERIES = {
    make.__name__: make
    for make in (
        decay, ratio_length, auroc, role_auroc, attention_correlation, dependence,
        robustness, states, focus_chain, compensation, gate_precision, psi_strength,
        along_the_chain, reward, visual_metrics, layers, reads, decay_split, cold_start,
        looking, training_memory, entropy_term, signal_lags, clamp,
        course,
    )
}  # fmt: skip
"""Figures in which colours mean something, by name."""
