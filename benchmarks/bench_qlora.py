"""Time and peak memory of training in 4 bits, against LoRA and all weights.

    python -m benchmarks qlora

On a CPU: updates and sampling of the small world's model, in float32. bitsandbytes
unpacks 4-bit weights there before it multiplies, so the ratios say nothing of a GPU.

On a GPU: updates of models with the published shapes of Qwen2.5-VL and random
weights, in 4 bits with adapters and gradient checkpointing.
"""

import torch

from benchmarks.harness import measure, print_table, write
from vgpo.models.memory import peak_bytes
from vgpo.models.weights import qwen2_5_vl_config, stored_bytes
from vgpo.studies.quantization import measure_qlora, trained_ways, updater
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import answer
from vgpo.testbed.data import encode_examples

ROWS = 16
GPU_SIZES = ("3B", "7B")
GPU_ROWS = 2


def on_cpu() -> dict:
    """Ratios of the three ways, in the same rounds."""
    _, processor = load_tiny()
    world = World(families=("sum",), grids=((3, 3),))
    examples = [world.example(i) for i in range(ROWS)]
    batch = encode_examples(processor, examples)
    models = trained_ways()
    peaks = {
        way: peak_bytes(updater(model, batch), "cpu") for way, model in models.items()
    }
    jobs = {
        "update": {way: updater(model, batch) for way, model in models.items()},
        "sampling": {
            way: lambda model=model: answer(model, processor, examples, 1.0)
            for way, model in models.items()
        },
    }
    figures = {"peak_bytes_above_weights": peaks}
    figures["weights_bytes"] = {way: stored_bytes(m) for way, m in models.items()}
    table = []
    for job, functions in jobs.items():
        times = measure(functions, rounds=9, warm_up=1)
        figures[job] = {
            way: {
                "milliseconds": times.milliseconds(way),
                "ratio": times.ratio(way, "all weights"),
                "ratio_quartiles": times.spread(way, "all weights"),
            }
            for way in functions
        }
        table += [
            [f"{job}, {way}", entry["milliseconds"], entry["ratio"]]
            for way, entry in figures[job].items()
        ]
    print_table(f"{ROWS} chains on a CPU", ["", "ms", "time / all weights"], table)
    return figures


def on_gpu() -> dict:
    """Updates of large shapes, one size after another."""
    figures, table = {}, []
    for size in GPU_SIZES:
        figures[size] = measure_qlora(qwen2_5_vl_config(size), rows=GPU_ROWS)
        table.append(
            [
                size,
                figures[size]["weights_bytes"] / 2**30,
                figures[size]["peak_bytes"] / 2**30,
                figures[size]["tokens_per_second"],
            ]
        )
        torch.cuda.empty_cache()
    print_table(
        f"QLoRA updates of {GPU_ROWS} rows on a GPU, random weights",
        ["", "weights GiB", "peak above them GiB", "tokens/s"],
        table,
    )
    return figures


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures = on_gpu() if device == "cuda" else on_cpu()
    write("qlora", {"device": device, device: figures})


if __name__ == "__main__":
    main()
