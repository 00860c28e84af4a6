"""The pictures of a conversation, and where an answer looked on them."""

from dataclasses import dataclass, field

import torch
from PIL import Image


@dataclass(frozen=True, repr=False)
class AnsweredImages:
    """What is needed to draw where one answer looked.

    Attributes:
        images: The pictures of the conversation, in order; those given as addresses
            or paths are not among them.
        maps: As :attr:`vgpo.models.attention.AttentionSplit.image_maps`, on the
            CPU: per grid of image tokens (T, height, width) float32, layers averaged.
            None where the family's grids are not known.
        whole: Whether the model saw the pictures whole; not so where its processor
            cuts a square out of the middle, or pads to one.
        layer_maps: The same per layer, (N, T, height, width), where they were kept.
    """

    images: list[Image.Image]
    maps: list[torch.Tensor]
    whole: bool = True
    layer_maps: list[torch.Tensor] = field(default_factory=list)

    def __repr__(self) -> str:
        grids = ", ".join(f"{grid.shape[1]} x {grid.shape[2]}" for grid in self.maps)
        return f"AnsweredImages({len(self.images)} pictures, grids {grids or 'none'})"

    @property
    def aligned(self) -> bool:
        """Whether each picture has one grid of image tokens that lies on it edge to
        edge; not so for families that cut pictures into tiles, or whose grids are not
        known."""
        return self.whole and len(self.images) == len(self.maps) > 0

    def require_aligned(self, argument: str, where: str) -> None:
        """Refuses grids that cannot be laid over the pictures.

        Args:
            argument: Which the error names.
            where: Where the grids can be found all the same.

        Raises:
            ValueError: They cannot.
        """
        if not self.aligned:
            raise ValueError(
                f"{argument}: the answer has {len(self.maps)} grids of image tokens "
                f"for {len(self.images)} pictures"
                + ("" if self.whole else ", which the processor crops or pads,")
                + f" and cannot be laid over them; {where} holds the grids."
            )


def image_parts(turn: dict) -> list[dict]:
    """The parts of a turn that hold a picture, or a place for one."""
    content = turn["content"]
    if isinstance(content, str):
        return []
    return [part for part in content if part.get("type") == "image"]


def images_of(messages: list[dict]) -> list[Image.Image]:
    """The pictures of a conversation that are given as such."""
    given = [part.get("image") for turn in messages for part in image_parts(turn)]
    return [image for image in given if isinstance(image, Image.Image)]
