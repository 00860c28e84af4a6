"""Results as files: tensors and a few facts, read without running anything."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vgpo.analysis.pictured import AnsweredImages
from vgpo.files import write_atomically

_VERSION = 1


def write_tensors(
    path: str | Path, kind: str, facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    """Writes one safetensors file with ``facts`` as JSON in its header.

    Args:
        path: The file; an earlier one stays whole until the new one is.
        kind: What it holds, which :func:`read_tensors` is to name again.
        facts: Anything JSON has a form for.
        tensors: By name.
    """
    header = json.dumps({"kind": kind, "version": _VERSION, "facts": facts})
    # Views of one storage are refused by the format, and what is not in order.
    own = {name: values.detach().cpu().clone() for name, values in tensors.items()}
    own = {name: values.contiguous() for name, values in own.items()}
    write_atomically(path, lambda place: save_file(own, place, {"vgpo": header}))


def read_tensors(
    path: str | Path, kind: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What :func:`write_tensors` has written.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else, or a later version of it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("vgpo", "{}"))
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"path: {path} is no safetensors file ({error}).") from error
    if header.get("kind") != kind:
        raise ValueError(
            f"path: {path} holds {header.get('kind') or 'other tensors'}, not {kind}."
        )
    if header["version"] > _VERSION:
        raise ValueError(f"path: {path} was written by a later version of vgpo.")
    return header["facts"], tensors


def pictured_tensors(
    name: str, seen: AnsweredImages
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Pictures (as PNG) and maps for :func:`write_tensors`, under names that begin
    with ``name``."""
    tensors = {}
    for k, image in enumerate(seen.images):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        bytes_of = np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()
        tensors[f"{name}.picture.{k}"] = torch.from_numpy(bytes_of)
    for word, maps in (("map", seen.maps), ("layer_map", seen.layer_maps)):
        tensors |= {f"{name}.{word}.{k}": grid for k, grid in enumerate(maps)}
    facts = {
        "pictures": len(seen.images),
        "maps": len(seen.maps),
        "layer_maps": len(seen.layer_maps),
        "whole": seen.whole,
    }
    return facts, tensors


def pictured_from(
    name: str, facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> AnsweredImages:
    """What :func:`pictured_tensors` was given."""
    images = []
    for k in range(facts["pictures"]):
        content = tensors[f"{name}.picture.{k}"].numpy().tobytes()
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        image.load()
        images.append(image)
    return AnsweredImages(
        images,
        [tensors[f"{name}.map.{k}"] for k in range(facts["maps"])],
        facts["whole"],
        [tensors[f"{name}.layer_map.{k}"] for k in range(facts["layer_maps"])],
    )
