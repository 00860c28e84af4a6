"""What the trainer makes of each family's images: every row of every pass is its own.

Rows with no, one and two images, joined from several rounds of dynamic sampling,
shuffled and cut into micro-batches, get the log-probabilities that each has alone.
One family of each kind is here; all others are where their records are measured anew,
which takes the same trainings (``tests/models/test_families_table.py``).
"""

import processors
import pytest
from families_table import SAME, largest_error, mixed_rows

from vgpo import VGPOConfig, VGPOTrainer

# A stack of images per row; as many tiles as a row's images say; a processor that wants
# to pad; token types of completions; patches in one line.
ONE_OF_EACH_KIND = (
    "idefics3",
    "llava_onevision",
    "janus",
    "paligemma",
    "qwen2_vl",
)


def fewest(name):
    return 1 if name == "paligemma" else 0


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_every_row_of_every_pass_has_its_own_images(name):
    assert largest_error(name, mixed_rows(fewest(name))) < SAME


@pytest.mark.parametrize("name", ["idefics3", "llava_onevision", "paligemma"])
def test_old_log_probabilities_are_of_the_same_images(name):
    rows = mixed_rows(fewest(name))
    options = {"num_iterations": 2, "max_steps": 4, "beta": 0.0}
    assert largest_error(name, rows, **options) < SAME


# -- refused before the first step ------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("aria", "AriaProcessor makes pixel_mask of images, which TRL does not"),
        ("video_llama_3", "VideoLlama3Processor makes image_merge_sizes of im"),
        ("paddleocr_vl", "makes patches of images that TRL takes for tiles"),
        ("paligemma", r"2 of its 8 rows have no image \(rows 0, 4\), and Pali"),
        ("aya_vision", "TRL gives its tokens other log-probabilities than its own"),
        ("glm4v_moe", "set router_aux_loss_coef to 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(name, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        VGPOTrainer(
            model=processors.model_of(name),
            processing_class=processors.processor_of(name),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=VGPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False),
            train_dataset=mixed_rows(),
        )
