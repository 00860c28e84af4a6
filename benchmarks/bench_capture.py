"""Peak memory and time of capturing focus scores, against a plain forward pass.

    python -m benchmarks capture

The pass is the backbone's alone, without logits, as under a trainer's fused head;
logits would hide what is measured here behind a far larger peak. On a CPU every
allocation is counted (the profiler's memory events); on CUDA it is PyTorch's own
peak counter. The weights are not part of the figures, so a share of the whole
peak, weights included, is smaller still.
"""

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from benchmarks.harness import measure, print_table, write
from vgpo.models.capture import capture_focus
from vgpo.models.handle import unwrap_model
from vgpo.models.memory import peak_bytes

LIMIT = 0.02
"""Most that capture may add to the peak of a plain forward pass."""

ROWS, IMAGE_TOKENS, COMPLETION = 2, 128, 256
IMAGE = 1000


def build(device: str, dtype: torch.dtype) -> Qwen2_5_VLForConditionalGeneration:
    """Twelve narrow layers in the proportions of Qwen2.5, random weights."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": IMAGE + 24,
            "hidden_size": 256,
            "intermediate_size": 1408,
            "num_hidden_layers": 12,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [8, 12, 12],
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [1],
        },
        image_token_id=IMAGE,
    )
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).eval().to(device, dtype)


def batch(device: str) -> dict[str, torch.Tensor]:
    """Rows of one image of 8 x 16 tokens, 32 words, and a completion."""
    generator = torch.Generator().manual_seed(0)
    length = IMAGE_TOKENS + 32 + COMPLETION
    input_ids = torch.randint(3, IMAGE, (ROWS, length), generator=generator)
    input_ids[:, 8 : 8 + IMAGE_TOKENS] = IMAGE
    patches = 4 * IMAGE_TOKENS
    inputs = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "mm_token_type_ids": (input_ids == IMAGE).int(),
        "pixel_values": torch.randn(ROWS * patches, 1176, generator=generator),
        "image_grid_thw": torch.tensor([[1, 16, 32]] * ROWS),
    }
    return {name: value.to(device) for name, value in inputs.items()}


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table, figures = [], {}
    for dtype in (torch.float32, torch.bfloat16):
        model, inputs = build(device, dtype), batch(device)
        backbone = unwrap_model(model).base_model

        @torch.no_grad()
        def plain(backbone=backbone, inputs=inputs, **options):
            backbone(**inputs, use_cache=False, **options)

        def captured(plain=plain, model=model):
            with capture_focus(model, completion_length=COMPLETION):
                plain()

        def all_states(plain=plain):
            plain(output_hidden_states=True)

        functions = {"plain": plain, "capture": captured, "all states": all_states}
        times = measure(
            functions, rounds=5 if device == "cpu" else 20, warm_up=1, device=device
        )
        peaks = {name: peak_bytes(call, device) for name, call in functions.items()}
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        name = str(dtype).removeprefix("torch.")
        for way in functions:
            extra = peaks[way] / peaks["plain"] - 1
            table.append(
                [
                    f"{name}, {way}",
                    peaks[way] / 2**20,
                    f"{100 * extra:+.2f} %",
                    times.milliseconds(way),
                    times.ratio(way, "plain"),
                ]
            )
        figures[name] = {
            "weights_bytes": weights,
            "peak_bytes_above_weights": peaks,
            "extra_peak_of_capture": peaks["capture"] / peaks["plain"] - 1,
            "milliseconds": {way: times.milliseconds(way) for way in functions},
            "time_ratio_of_capture": times.ratio("capture", "plain"),
            "time_ratio_quartiles": times.spread("capture", "plain"),
        }
    print_table(
        f"Capture of {ROWS} x {COMPLETION} focus scores in one forward pass ({device})",
        ["", "peak MiB", "extra", "ms", "time / plain"],
        table,
    )
    print(f"\nLimit on the extra peak of capture: {100 * LIMIT:.0f} %")
    write("capture", {"device": device, "limit": LIMIT, **figures})
    over = [n for n, f in figures.items() if f["extra_peak_of_capture"] > LIMIT]
    if over:
        raise SystemExit(f"capture: over the limit in {', '.join(over)}")


if __name__ == "__main__":
    main()
