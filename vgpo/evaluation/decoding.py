"""How a model answers: settings, and the backends that let it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import GenerationConfig, ProcessorMixin

from vgpo.models.handle import resolve, suppressed_tokens
from vgpo.models.inputs import eval_mode, require_processor
from vgpo.seeds import mixed_seed, seeded

STOP, LENGTH = "stop", "length"
"""An answer ended by itself, or at the limit of new tokens."""


def require_whole(name: str, value: object, least: int) -> None:
    """Refuses a setting that is no whole number, or too small.

    Raises:
        ValueError: It is; the setting is named.

    Example:
        >>> require_whole("samples", 8, 0)
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{name} must be a whole number, at least {least}, got {value!r}"
        )


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn.

    Attributes:
        greedy: One greedy answer to each question, as in the paper.
        samples: Sampled answers to each question beside it; PAPO-Eval takes 8.
        temperature: Of the samples.
        top_p: Of the samples; 1 is the model's whole distribution.
        max_new_tokens: Longer answers are cut off.
        seed: Of the samples.

    Raises:
        ValueError: A setting is out of range, or nothing is asked for.
    """

    greedy: bool = True
    samples: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole("samples", self.samples, 0)
        require_whole("max_new_tokens", self.max_new_tokens, 1)
        require_whole("seed", self.seed, 0)
        if not self.greedy and not self.samples:
            raise ValueError("nothing to answer: set greedy, or samples above 0")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be above 0 and finite, got {self.temperature}; a "
                "greedy answer is asked for by greedy"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


@dataclass(frozen=True)
class Prompt:
    """One question as it goes to a model.

    Attributes:
        messages: The conversation, with parts of type ``image`` where pictures belong.
        pictures: The pictures, in order.
    """

    messages: list[dict[str, Any]]
    pictures: tuple[Image.Image, ...]

    def filled(self) -> list[dict[str, Any]]:
        """The conversation with its pictures in it."""
        left = iter(self.pictures)
        return [
            {
                **turn,
                "content": [
                    {"type": "image", "image": next(left)}
                    if part["type"] == "image"
                    else part
                    for part in turn["content"]
                ],
            }
            for turn in self.messages
        ]


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: Without special tokens.
        tokens: How many, the end included.
        finish: :data:`STOP` or :data:`LENGTH`.
    """

    text: str
    tokens: int
    finish: str


class Backend(Protocol):
    """What lets a model answer."""

    def describe(self) -> dict[str, Any]:
        """Name, versions and settings, for the run's record."""
        ...

    def prompt_tokens(self, prompt: Prompt) -> tuple[int, int]:
        """How many tokens a prompt takes, and how many of them are a picture's."""
        ...

    def answer(
        self, prompts: Sequence[Prompt], decoding: Decoding, sample: int | None
    ) -> list[Answer]:
        """One answer to each prompt: the greedy one, or sample number ``sample``."""
        ...


class Transformers:
    """Answers by a model's own ``generate``.

    Args:
        model: A vision-language model, in any precision, with adapters or without.
        processor: Its processor.
    """

    def __init__(self, model, processor: ProcessorMixin) -> None:
        require_processor(processor)
        self.handle = resolve(model)
        self.processor = processor

    def describe(self) -> dict[str, Any]:
        """See :class:`Backend`."""
        import transformers

        return {"name": "transformers", "version": transformers.__version__}

    def _encoded(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        inputs = self.processor.apply_chat_template(
            [prompt.filled() for prompt in prompts],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            # Generation goes on from the right end.
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        inputs.pop("labels", None)  # PaliGemma's processor makes them of prompts
        return dict(inputs.to(self.handle.device))

    def prompt_tokens(self, prompt: Prompt) -> tuple[int, int]:
        """See :class:`Backend`."""
        ids = self._encoded([prompt])["input_ids"]
        return ids.shape[1], int((ids == self.handle.image_token_id).sum())

    def answer(
        self, prompts: Sequence[Prompt], decoding: Decoding, sample: int | None
    ) -> list[Answer]:
        """See :class:`Backend`; prompts with and without pictures are not mixed."""
        inputs = self._encoded(prompts)
        model, length = self.handle.model, inputs["input_ids"].shape[1]
        own = model.generation_config
        settings = {
            "do_sample": sample is not None,
            "max_new_tokens": decoding.max_new_tokens,
            "eos_token_id": own.eos_token_id,
            "pad_token_id": own.pad_token_id,
            "bos_token_id": own.bos_token_id,
            "suppress_tokens": suppressed_tokens(own, self.handle.placeholder_ids),
        }
        if sample is not None:
            settings |= {
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "top_k": 0,
            }
        # Nothing else of the model's own settings: beams, penalties and top-k that a
        # checkpoint brings along would make it another distribution.
        config = GenerationConfig(**settings)
        with (
            eval_mode(self.handle.wrapped),
            torch.no_grad(),
            seeded(0 if sample is None else sample, self.handle.device),
        ):
            sequences = model.generate(**inputs, generation_config=config)
        ends = set(torch.as_tensor(own.eos_token_id).reshape(-1).tolist())
        return [self._read(row, ends) for row in sequences[:, length:].tolist()]

    def _read(self, row: list[int], ends: set[int]) -> Answer:
        place = next((i for i, token in enumerate(row) if token in ends), None)
        ids = row if place is None else row[:place]
        return Answer(
            text=self.processor.tokenizer.decode(ids, skip_special_tokens=True),
            tokens=len(ids) + (place is not None),
            finish=LENGTH if place is None else STOP,
        )


class VLLM:
    """Answers by vLLM, which has to be installed beside this package.

    Args:
        model: A name on the hub or a folder.
        processor: The model's processor, which writes the prompts.
        **settings: For ``vllm.LLM``, such as ``gpu_memory_utilization``. It makes
            pixels by itself: what the processor was given as limits of pixels belongs
            into ``mm_processor_kwargs``, too.

    Raises:
        ImportError: vLLM is not installed.
    """

    def __init__(self, model: str, processor: ProcessorMixin, **settings: Any) -> None:
        try:
            import vllm
        except ImportError as error:
            raise ImportError(
                "backend vllm needs vLLM, which is not installed: pip install vllm, on "
                "a machine with a GPU; or use the backend transformers"
            ) from error
        require_processor(processor)
        self.vllm, self.processor = vllm, processor
        self.engine = vllm.LLM(model=model, trust_remote_code=False, **settings)

    def describe(self) -> dict[str, Any]:
        """See :class:`Backend`."""
        return {"name": "vllm", "version": self.vllm.__version__}

    def prompt_tokens(self, prompt: Prompt) -> tuple[int, int]:
        """See :class:`Backend`."""
        inputs = self.processor.apply_chat_template(
            prompt.filled(), tokenize=True, add_generation_prompt=True, return_dict=True
        )
        ids = torch.as_tensor(inputs["input_ids"]).reshape(-1)
        return len(ids), int((ids == self.processor.image_token_id).sum())

    def answer(
        self, prompts: Sequence[Prompt], decoding: Decoding, sample: int | None
    ) -> list[Answer]:
        """See :class:`Backend`."""
        asked = []
        for prompt in prompts:
            text = self.processor.apply_chat_template(
                prompt.messages, tokenize=False, add_generation_prompt=True
            )
            one: dict[str, Any] = {"prompt": text}
            if prompt.pictures:
                one["multi_modal_data"] = {"image": list(prompt.pictures)}
            asked.append(one)
        how = self.vllm.SamplingParams(
            temperature=0.0 if sample is None else decoding.temperature,
            top_p=1.0 if sample is None else decoding.top_p,
            max_tokens=decoding.max_new_tokens,
            seed=None if sample is None else sample % 2**31,
        )
        found = self.engine.generate(asked, how, use_tqdm=False)
        outputs = [one.outputs[0] for one in found]
        return [
            Answer(
                o.text, len(o.token_ids), STOP if o.finish_reason == STOP else LENGTH
            )
            for o in outputs
        ]


def seed_of(decoding: Decoding, batch: int, sample: int) -> int:
    """The seed of one batch of samples: the same, whether or not a run was stopped."""
    return mixed_seed(decoding.seed, batch, sample)
