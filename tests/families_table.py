"""What works with which family of models: measured, recorded, and shown as a page.

    PYTHONPATH=.:tests python -m families_table      # measures again; some minutes

Every image-text-to-text family of the installed transformers is in the record. A
family "works" where scores and shares of attention are those of a generation that is
forced to write the same tokens, with one and with two images; others say what is
missing.
"""

import gc
import json
import re
import sys
import tempfile
import warnings
from math import floor, log10
from pathlib import Path

import every_family
import numpy as np
import processors
import torch
import transformers
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from transformers import LogitsProcessor, PrinterCallback
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,
)

import vgpo
from vgpo import VGPOConfig, VGPOTrainer
from vgpo.models.adapters import lora_config
from vgpo.models.handle import resolve
from vgpo.models.inputs import prepare_inputs, special_token_ids

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "families.json"
PAGE = ROOT / "book" / "families.md"

COMPLETION = "five red tiles"
TOLERANCE = 1e-5
# Log-probabilities of a row in a batch and alone, in float32
SAME = 1e-4


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def conversation(*pictures: Image.Image) -> list[dict]:
    parts = [{"type": "image", "image": image} for image in pictures]
    question = {"type": "text", "text": "What is shown?"}
    return [{"role": "user", "content": [*parts, question]}]


PICTURES = (picture(120, 60), picture(60, 90, seed=1))


class Forced(LogitsProcessor):
    """Makes ``generate`` write given tokens."""

    def __init__(self, ids, start):
        self.ids, self.start = ids, start

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.ids[input_ids.shape[1] - self.start]] = 0
        return forced


def forced_states(model, inputs, completion_ids) -> torch.Tensor:
    """(1, L, D) last hidden states of a generation that writes the completion, with
    the cache, masks and token types that generation itself makes."""
    start = inputs["input_ids"].shape[1]
    # The last token is fed back too where one more is written.
    ids = [*completion_ids, completion_ids[-1]]
    with torch.no_grad():
        out = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=len(ids),
            min_new_tokens=len(ids),
            logits_processor=[Forced(ids, start)],
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
    if out.sequences[0, start:].tolist() == ids:
        return torch.cat([step[-1] for step in out.hidden_states], dim=1)
    # Janus hands no logits processor on, so that it writes something else. A pass over
    # the same tokens, without a cache, is all that there is to compare with.
    written = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs = inputs | {"input_ids": written, "attention_mask": torch.ones_like(written)}
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[-1]


def focus_error(name: str, *pictures: Image.Image) -> float:
    """Largest difference of :func:`vgpo.score` to a forced generation."""
    model, processor = processors.model_of(name), processors.processor_of(name)
    messages = conversation(*pictures)
    inputs, ids = prepare_inputs(model, processor, messages, COMPLETION)
    prompt = dict(
        processor.apply_chat_template(
            messages,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
    )
    prompt.pop("labels", None)
    states = forced_states(model, prompt, ids.tolist())[0].double()
    whole = inputs["input_ids"][0]
    prototype = states[: len(whole)][whole == resolve(model).image_token_id].mean(dim=0)
    chosen = states[len(whole) - len(ids) : len(whole)]
    cosine = torch.nn.functional.cosine_similarity(chosen, prototype[None])
    focus = vgpo.score(model, processor, messages, COMPLETION).focus
    return float((focus.double() - (cosine + 1) / 2).abs().max())


def attention_error(name: str, *pictures: Image.Image) -> float:
    """Largest difference of :func:`vgpo.analyze` to eager attention, in the last layer
    that attends."""
    processor, messages = processors.processor_of(name), conversation(*pictures)
    found = vgpo.analyze(
        processors.model_of(name), processor, messages, [COMPLETION], progress=False
    )
    model = processors.model_of(name, attention="eager")
    inputs, ids = prepare_inputs(model, processor, messages, COMPLETION)
    with torch.no_grad():
        weights = model(**inputs, output_attentions=True, use_cache=False).attentions
    rows = [w for w in weights if w is not None][-1][0].double().mean(dim=0)
    tokens = inputs["input_ids"][0]
    start = len(tokens) - len(ids)
    is_image = (tokens == resolve(model).image_token_id) & (
        torch.arange(len(tokens)) < start
    )
    special = torch.tensor(
        [int(t) in special_token_ids(processor.tokenizer) for t in tokens]
    )
    special[start:] = False  # a completion's tokens are generated ones, all of them
    rows = rows[start - 1 : -1]
    share = rows[:, is_image].sum(dim=1) / rows[:, ~special | is_image].sum(dim=1)
    return float(np.abs(found.tokens["image"].to_numpy() - share.numpy()).max())


def maps_of(name: str) -> str:
    """How attention lies on pictures: on each, on tiles of it, or nowhere known."""
    found = vgpo.analyze(
        processors.model_of(name),
        processors.processor_of(name),
        conversation(picture(56, 56)),
        [COMPLETION],
        progress=False,
    ).kept[0]
    if not found.maps:
        return "unknown"
    return "on the picture" if found.aligned else "by tiles"


_PART = {"type": Value("string"), "text": Value("string")}
_FEATURES = Features(
    {
        "prompt": List({"role": Value("string"), "content": List(_PART)}),
        "images": List(ImageFeature()),
    }
)


def mixed_rows(fewest: int = 0) -> Dataset:
    """Questions on one picture, on two, and on none unless ``fewest`` forbids it."""
    rows = []
    for number in range(8):
        pictures = [(), PICTURES[:1], PICTURES[1:], PICTURES][number % 4]
        parts = [{"type": "image", "text": ""}] * len(pictures)
        content = [*parts, {"type": "text", "text": f"Question {number} ?"}]
        rows.append(
            {
                "prompt": [{"role": "user", "content": content}],
                "images": list(pictures),
            }
        )
    rows = [row for row in rows if len(row["images"]) >= fewest]
    return Dataset.from_list(rows, features=_FEATURES)


def faults_of_passes(passes: list[dict], asked: set[str], pad: int) -> list[str]:
    """What is wrong with the passes that a trainer scores and learns from.

    Args:
        passes: Keyword arguments of the model's forward passes.
        asked: What the processor returns for a conversation with images.
        pad: The padding token, which no text holds.
    """
    faults = set()
    for given in passes:
        ids, mask = given["input_ids"], given["attention_mask"].bool()
        first = mask.int().argmax(dim=1, keepdim=True)
        if (ids.gather(1, first) == pad).any():  # prompts are padded on the left
            faults.add("TRL counts padding as prompt")
        if given.get("pixel_values") is not None:
            gone = sorted(asked - set(given) - {"labels"})
            faults |= {f"TRL leaves {name} out" for name in gone}
    return sorted(faults)


def train(name: str, rows: Dataset, **fields: object) -> list[str]:
    """Two steps of VGPO with LoRA, dynamic sampling and accumulation.

    Args:
        name: The family.
        rows: What is trained on.
        **fields: Of ``VGPOConfig``, such as another ``method``.

    Returns:
        What is wrong with the passes it made, see :func:`faults_of_passes`.
    """
    model, processor = processors.model_of(name), processors.processor_of(name)
    calls = [0]

    def reward(completions, **_):
        calls[0] += 1  # groups of 2, of which some are all right or all wrong
        return [float((i + calls[0]) % 3 == 0) for i in range(len(completions))]

    with tempfile.TemporaryDirectory() as folder:
        settings = VGPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            num_generations=2,
            max_completion_length=4,
            max_steps=2,
            learning_rate=1e-3,
            dynamic_sampling=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
            **fields,
        )
        trainer = VGPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=reward,
            args=settings,
            train_dataset=rows,
            peft_config=lora_config(model, r=2),
        )
        trainer.remove_callback(PrinterCallback)
        passes = []

        def note(module, args, given):
            if given.get("past_key_values") is None:
                passes.append(given)

        hook = model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            trainer.train()
        finally:
            hook.remove()
    asked = processor.apply_chat_template(
        conversation(*PICTURES), tokenize=True, return_dict=True, return_tensors="pt"
    )
    return faults_of_passes(passes, set(asked), processor.tokenizer.pad_token_id)


class Recording(VGPOTrainer):
    """Keeps what every pass over rollouts was given and gave.

    The first step scores rollouts in a pass of its own, the second in that of the loss,
    where rows are put together in groups again.
    """

    def __init__(self, *others, **named):
        super().__init__(*others, **named)
        self.passes = []
        self.shared = self._shared_pass

    def _shape(self, batch):
        self._shared_pass = self.shared if self.state.global_step else None
        super()._shape(batch)

    def _get_per_token_logps_and_entropies(self, model, ids, mask, length, *o, **n):
        out = super()._get_per_token_logps_and_entropies(
            model, ids, mask, length, *o, **n
        )
        # A pass for probes alone asks for fewer log-probabilities than tokens.
        length = n.get("completion_length") or length
        self.passes.append((ids, mask, length, out[0].detach()))
        return out


def recorded_passes(name: str, folder: str, rows: Dataset, **options) -> Recording:
    """A trainer after two steps that leave the weights as they are."""

    def reward(completions, **_):
        calls.append(1)
        return [float((i + len(calls)) % 3 == 0) for i in range(len(completions))]

    calls: list[int] = []
    settings = {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "num_generations": 2,
        "max_completion_length": 4,
        "max_steps": 2,
        "learning_rate": 0.0,
        "dynamic_sampling": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = Recording(
        model=processors.model_of(name),
        processing_class=processors.processor_of(name),
        reward_funcs=reward,
        args=VGPOConfig(output_dir=str(folder), **(settings | options)),
        train_dataset=rows,
    )
    trainer.remove_callback(PrinterCallback)
    for module in trainer.model.modules():
        if type(module).__name__.endswith("DropPath"):
            module.drop_prob = 0.0  # else no two passes are alike
    trainer.train()
    return trainer


def alone(trainer: Recording, name: str, ids, completion_ids) -> torch.Tensor:
    """Log-probabilities (T,) of one row's completion, of a pass over this row alone."""
    processor = processors.processor_of(name)
    number = int(re.search(r"Question (\d)", processor.tokenizer.decode(ids))[1])
    pictures = [(), PICTURES[:1], PICTURES[1:], PICTURES][number % 4]
    parts = [{"type": "image", "image": picture} for picture in pictures]
    question = {"type": "text", "text": f"Question {number} ?"}
    inputs = dict(
        processor.apply_chat_template(
            [{"role": "user", "content": [*parts, question]}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
    )
    inputs.pop("labels", None)
    prompt = inputs["input_ids"]
    assert torch.equal(prompt[0], ids), "the prompt is another than the processor's"
    row = completion_ids[None]
    kinds = {"token_type_ids": int(name == "paligemma"), "mm_token_type_ids": 0}
    for key, value in inputs.items():
        if key == "input_ids":
            inputs[key] = torch.cat([value, row], dim=1)
        elif key == "attention_mask":
            inputs[key] = torch.ones(1, prompt.shape[1] + row.shape[1]).long()
        elif key in kinds:
            more = torch.full_like(row, kinds[key])
            inputs[key] = torch.cat([value, more], dim=1)
    with torch.no_grad():
        logits = trainer.model.eval()(**inputs).logits[0, -row.shape[1] - 1 : -1]
    return logits.log_softmax(dim=-1).gather(1, row.T).squeeze(1)


def largest_error(name: str, rows: Dataset, **options) -> float:
    """How far log-probabilities of any row of any pass are from those it has alone."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = recorded_passes(name, folder, rows, **options)
    errors = []
    for ids, mask, length, log_probs in trainer.passes:
        for row in range(len(ids)):
            prompt = ids[row, :-length][mask[row, :-length].bool()]
            kept = mask[row, -length:].bool()
            expected = torch.zeros(length)
            expected[kept] = alone(trainer, name, prompt, ids[row, -length:][kept])
            given = log_probs.shape[1]
            error = (log_probs[row] - expected[-given:]).abs()[kept[-given:]]
            errors.append(float(error.max()) if len(error) else 0.0)
    # Eight rollouts in each of two generations, learned from, and scored: by a pass of
    # their own, but in the second generation where they serve one update.
    iterations = trainer.num_iterations
    assert len(errors) >= 8 * (2 * iterations + min(iterations, 2))
    return max(errors)


def _said(error: Exception) -> str:
    """The first sentence of an error, without what differs between machines."""
    text = str(error).split(chr(10))[0].strip()
    if text.startswith(("processing_class:", "model:", "train_dataset:")):
        return f"refused: {text.partition('. ')[0]}"
    return f"{type(error).__name__}: {text:.160}"


def measure(name: str, training: bool = True) -> dict:
    """The record of one family."""
    record = {"family": name}
    try:
        skeleton = every_family.skeleton(name)
    except ImportError as error:
        needs = "timm" if "timm" in str(error) else "torchvision"
        return record | {"state": "not run", "why": f"needs {needs}"}
    except Exception:  # any of the library's own checks of a configuration
        why = "no tiny configuration of it in the tests"
        return record | {"state": "not run", "why": why}
    try:
        resolve(skeleton)
    except ValueError as error:
        return record | {"state": "refused", "why": str(error)}
    if name not in processors.ENTRIES:
        kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(name) or {}
        why = (
            "no processor of it in the tests"
            if "pil" in kinds
            else "its image processor needs torchvision"
        )
        return record | {"state": "found", "why": why}
    errors = {
        "focus": max(focus_error(name, PICTURES[0]), focus_error(name, *PICTURES)),
        "attention": max(
            attention_error(name, PICTURES[0]), attention_error(name, *PICTURES)
        ),
    }
    works = all(error < TOLERANCE for error in errors.values())
    record |= {"state": "works" if works else "differs", "maps": maps_of(name)}
    if not works:
        record["why"] = f"differs from a forced generation: {errors}"
    if training:
        record["training"] = training_of(name)
    gc.collect()
    return record


def training_of(name: str) -> str:
    """What comes of training on mixed rows; or, where that is refused, with the cure
    that the refusal names."""
    cures = {
        "no prompt without one": ("; needs an image in every row", 1, {}),
        "router_aux_loss_coef": (
            "; needs router_aux_loss_coef 0",
            0,
            {"router_aux_loss_coef": 0.0},
        ),
    }
    added, fewest, options = "", 0, {}
    while True:
        try:
            faults = train(name, mixed_rows(fewest), **options)
        except Exception as error:  # whatever the trainer, TRL or the model says
            cure = next((c for text, c in cures.items() if text in str(error)), None)
            if cure is None or added:
                return _said(error)
            added, fewest, options = cure
        else:
            found = "; ".join(["runs", *faults] if faults else ["works"]) + added
            error = largest_error(name, mixed_rows(fewest), **options)
            if error > SAME:
                # The power of ten alone: its digits are the machine's.
                power = floor(log10(error))
                found += (
                    f"; log-probabilities change by over 1e{power:03d} with the place "
                    "in the batch"
                )
            return found


STATES = {
    "works": "scored and analysed as in a forced generation",
    "found": "its parts are found; not run in the tests",
    "refused": "refused, with this message",
    "not run": "not built in the tests",
}


def render(record: dict) -> str:
    """The page of a record."""
    rows = record["families"]
    count = {state: sum(r["state"] == state for r in rows) for state in STATES}
    lines = [
        "# Families of models",
        "",
        "<!-- Made by tests/families_table.py out of results/families.json. -->",
        "",
        "Which vision-language models do focus scores, attention and training work",
        f"with? Transformers {record['transformers']} has {len(rows)} families of",
        "models that write text about images. The tests build a tiny random model of",
        "each. A family *works* where `vgpo.score` and `vgpo.analyze` give what a",
        "generation gives that is forced to write the same tokens, on one picture and",
        f"on two, to within {record['tolerance']:g}. Training is two steps of VGPO",
        "with LoRA, dynamic sampling and accumulation, on rows with one picture, with",
        "two and with none.",
        "",
        f"{count['works']} families work, {count['refused']} are refused with reason,",
        f"the parts of {count['found']} more are found without a run that checks them,",
        f"and {count['not run']} are not built here.",
        "",
        "## Families that work",
        "",
        "A map shows attention on the picture, or by tiles of it (kept as grids, not",
        "drawn); where the places of a family's image tokens are not known, there is",
        "none. Training *works* where every row of every pass gets the",
        f"log-probabilities that it has alone, to within {SAME:g}.",
        "",
        ":::{table}",
        ":class: ledger families",
        "",
        "| family | maps | training |",
        "|---|---|---|",
    ]
    lines += [
        f"| {r['family']} | {r['maps']} | {_cell(r['training'])} |"
        for r in rows
        if r["state"] == "works"
    ]
    lines.append(":::")
    for state in ("refused", "found", "not run"):
        title = {
            "refused": "Refused",
            "found": "Found, not run",
            "not run": "Not built",
        }
        lines += ["", f"## {title[state]}", "", "| family | why |", "|---|---|"]
        lines += [
            f"| {r['family']} | {_cell(r['why'])} |"
            for r in rows
            if r["state"] == state
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A message for readers: without the argument's name, by which a caller is told."""
    text = re.sub(r"^(refused: )?(model|processing_class|train_dataset): ", r"\1", text)
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    known = {}
    if names and RECORD.exists():
        known = {r["family"]: r for r in json.loads(RECORD.read_text())["families"]}
    for name in names or every_family.FAMILIES:
        known[name] = measure(name)
        print(json.dumps(known[name]), flush=True)
    record = {
        "transformers": transformers.__version__,
        "tolerance": TOLERANCE,
        "families": [known[name] for name in sorted(known)],
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(record), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
