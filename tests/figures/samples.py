"""A figure of each kind that tells series apart, from small made-up tables."""

from collections import namedtuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo import figures
from vgpo.figures.forgetting import FOREST_MARKS
from vgpo.figures.signals import KIND_COLOURS
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


def schedules() -> Figure:
    place = np.linspace(0, 1, 20)
    table = pd.DataFrame(
        {"linear": place, "exponential": place**2, "step": place > 0.5},
        index=place, dtype=float,
    )  # fmt: skip
    return figures.schedules_figure(table, (0.25, 0.5, 0.75))


def differences(arms: int = 4) -> pd.DataFrame:
    table = named({"arm": [f"arm {i}" for i in range(arms)], "value": RNG.random(arms)},
                  "difference")  # fmt: skip
    return table.assign(seeds=6)


def ablations() -> Figure:
    tables = dict.fromkeys(["vgpo", "dapo"], differences().set_index("arm"))
    return figures.ablations_figure(tables)


def arms() -> Figure:
    return figures.arms_figure(dict.fromkeys(["reward", "accuracy"], differences()),
                               "dapo")  # fmt: skip


def sweeps() -> Figure:
    table = named(crossed(number=["β", "γ"], level=[0.1, 0.3, 0.5]), "difference")
    return figures.sweeps_figure(table, "accuracy")


def attention_split() -> Figure:
    shares = RNG.dirichlet([1, 1, 3], 40)
    table = pd.DataFrame(shares, columns=["image", "query", "generated"])
    return figures.attention_split_figure(table.assign(token="word"))


def ratio() -> Figure:
    table = pd.DataFrame(
        crossed(of=["sum", "count"], correct=[True, False], n=range(9))
    )
    means = named(crossed(of=["sum", "count"], correct=[True, False]), "value")
    nulls = dict.fromkeys(["untrained", "uniform"], means)
    return figures.ratio_figure(
        table.rename(columns={"value": "ratio"}), means, "of", nulls
    )


def runs() -> Figure:
    phi, alone = RNG.uniform(-1, 1, (2, 40)), np.arange(40) > 30
    return figures.runs_figure(*phi, 0.1, alone)


def departures() -> Figure:
    table = pd.DataFrame(crossed(selection=["1 groups", "2 focus"], prompt=range(5)))
    return figures.departures_figure(table.rename(columns={"value": "change"}))


def ended(value: str) -> pd.DataFrame:
    table = pd.DataFrame({value: RNG.random(4)}, index=["a", "b", "c", "all"])
    low, high = table[value] - 0.05, table[value] + 0.05
    return table.assign(**{f"{value}_low": low, f"{value}_high": high})


def accuracy_by_set() -> Figure:
    return figures.accuracy_by_set_figure(
        {"one": ended("greedy"), "two": ended("greedy")}
    )


def difference() -> Figure:
    return figures.difference_figure(ended("difference").assign(detectable=0.1), "less")


def sight() -> Figure:
    each = [
        ended("drop").assign(view=view, accuracy=0.8).rename_axis("set").reset_index()
        for view in ("patches", "noise", "blank", "swapped")
    ]
    return figures.sight_figure(pd.concat(each))


ARMS = ["dapo", "vgpo_token", "vgpo_prediction", "shuffled", "oracle_reads", "vppo"]


def attention_shift() -> Figure:
    answers = {name: pd.DataFrame({"share": RNG.random(20)}) for name in ARMS[:5]}
    return figures.attention_shift_figure(answers, {"share": "second half"})


def before_after() -> Figure:
    table = named(crossed(part=["sampled", "greedy"], arm=ARMS), "value")
    return figures.before_after_figure(table.assign(before=0.4), ARMS)


def temperature() -> Figure:
    table = pd.DataFrame(crossed(temperature=[0, 0.5, 1.0], arm=ARMS))
    return figures.temperature_figure(table.assign(before=0.4), ARMS)


def focus_around_reads() -> Figure:
    table = pd.DataFrame(crossed(lag=range(-2, 2), read=range(5)))
    return figures.focus_around_reads_figure(table.rename(columns={"value": "focus"}))


def occlusion() -> Figure:
    table = named({"value": RNG.random(3)}, "value").set_axis(["a", "b", "c"])
    return figures.occlusion_figure(table)


def forest() -> Figure:
    nulls = list(FOREST_MARKS)
    table = named(crossed(null=nulls, question_seed=range(5)), "difference")
    return figures.forest_figure({"misread": table, "look_away": table}, paper=0.148)


def probe() -> Figure:
    def line():
        return named({"value": RNG.random(3)}, "value").set_axis([0.0, 0.5, 1.0])

    lines = {name: line() for name in ("look", "recall", "grey", "closed")}
    return figures.probe_figure({"misread": lines}, "right", "fraction")


def papo() -> Figure:
    gap = np.linspace(-1, 2, 20)
    return figures.papo_figure(gap, gap**2, -gap, [0.1, 0.5], [0.0, -0.5])


def statistic() -> Figure:
    return figures.statistic_figure(*RNG.random((2, 32)), np.arange(32) // 4)


def cost() -> Figure:
    table = named({"method": ARMS, "value": 1 + RNG.random(6)}, "time").set_index(
        "method"
    )
    return figures.cost_figure(
        {"a": table.assign(limit=1.5), "b": table.assign(limit=2)}
    )


def nf4() -> Figure:
    return figures.nf4_figure(RNG.uniform(-1, 1, 500), np.linspace(-1, 1, 16))


def precision() -> Figure:
    names = ["focus_before", "focus", "ratio"]
    return figures.precision_figure(
        pd.DataFrame(1 + RNG.random((50, 3)), columns=names)
    )


def paired_accuracy() -> Figure:
    table = named({"family": ["sum", "count"], "value": [0.1, -0.1]}, "difference")
    return figures.paired_accuracy_figure(table.set_index("family"))


def by_seed(**levels) -> pd.Series:
    table = pd.DataFrame(crossed(**levels, when=["before", "after"], seed=range(3)))
    return table.set_index([*levels, "when", "seed"])["value"]


def adapter_runs() -> Figure:
    return figures.adapter_runs_figure(by_seed(way=["all weights", "LoRA", "QLoRA"]))


def seeds() -> Figure:
    gain = pd.Series(RNG.normal(size=3), name="vgpo less dapo")
    return figures.seeds_figure(
        by_seed(method=["dapo", "vgpo"]), gain, (0.0, -1.0, 1.0)
    )


def length() -> Figure:
    table = pd.DataFrame(
        {"group": np.arange(40) // 8, "length": RNG.integers(20, 60, 40)}
    )
    table = table.assign(sum=RNG.random(40), mean=RNG.random(40))
    return figures.length_figure(table, {"sum": 0.9, "mean": 0.1})


def token_scores() -> Figure:
    columns = ["focus_token", "focus_prediction", "image"]
    table = pd.DataFrame(RNG.random((40, 3)), columns=columns)
    return figures.token_scores_figure(table.assign(token="word", gate=True))


def signal_grades() -> Figure:
    table = named({"label": list(KIND_COLOURS), "value": RNG.random(6)}, "auroc")
    table = table.assign(kind=list(KIND_COLOURS))
    return figures.signal_grades_figure({"reads": table}, {"reads": 0.9})


def methods() -> Figure:
    table = chain().assign(vgpo=1.2, vppo=0.0)
    return figures.methods_figure(table, ["vgpo", "vppo"])


SERIES = {
    make.__name__: make
    for make in (
        decay, ratio_length, auroc, role_auroc, attention_correlation, dependence,
        robustness, states, focus_chain, compensation, gate_precision, psi_strength,
        along_the_chain, reward, visual_metrics, layers, reads, decay_split, cold_start,
        looking, training_memory, entropy_term, signal_lags, clamp, course,
        schedules, ablations, arms, sweeps, attention_split, ratio, runs, departures,
        accuracy_by_set, difference, sight, attention_shift, before_after, temperature,
        focus_around_reads, occlusion, forest, probe, papo, statistic, cost, nf4,
        precision, paired_accuracy, adapter_runs, seeds, length, token_scores,
        signal_grades, methods,
    )
}  # fmt: skip
"""Figures that tell series apart, or might one day, by the name of their function."""

NO_SERIES = {
    "attention_maps": "pictures under a glow of one hue; the target is outlined",
    "factors": "cells tinted by one number; rows and columns say whose it is",
    "gallery": "pictures with their questions",
    "pushes": "words in tints of one number, which stands below each",
    "reweighting": "cells tinted by one number, which stands in each",
    "shaped": "cells tinted by one number, which stands in each",
    "source": "words in boxes: a broad rim and tiles below for those that read, bold "
    "type for the question's, italics for fillers",
}
"""Figures without series: name -> what stands there for their colours."""
