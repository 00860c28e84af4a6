"""Checkpoints: which of them are whole, and which one a run goes on from.

A kill, a full disk or a copy cut short leaves folders that look like checkpoints.
Trainer goes on from them with a fresh optimizer, or dies in whatever reads the file.
So the last thing written into a checkpoint, once every process has written its share,
is a manifest: every file with its size and a digest. A checkpoint without one, of an
earlier release, is judged by its files.

Nothing here unpickles: PyTorch's files are looked at as the zip archives they are.
"""

import errno
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vgpo.files import write_atomically

MANIFEST = "manifest.json"

# Files up to 64 MiB are read whole for their digest, longer ones at 64 places: a file
# cut short, zeroed or overwritten differs there, at a bounded cost per file.
_BLOCK = 1 << 20
_BLOCKS = 64

# What a resumed run reads, by the engines that write it: one of each line.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "*/adapter_model.safetensors",
    "pytorch_model_fsdp*",  # FSDP
    "latest",  # DeepSpeed
)
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_*", "latest")
_SCHEDULER = ("scheduler.pt", "latest")

_FINAL = ("*.safetensors", "*.safetensors.index.json", "*config.json")


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from, or that could not be written."""


def write_manifest(folder: str | Path, step: int) -> None:
    """Writes down what a checkpoint consists of; it is whole from then on.

    Args:
        folder: The checkpoint, with everything else in it.
        step: Optimizer steps taken.
    """
    folder = Path(folder)
    _write(folder, step, (p for p in folder.rglob("*") if p.name != MANIFEST))


def write_final_manifest(output_dir: str | Path, step: int) -> None:
    """The same for the model that a finished run leaves in its output folder."""
    folder = Path(output_dir)
    _write(folder, step, (p for glob in _FINAL for p in folder.glob(glob)))


def forget_final_manifest(output_dir: str | Path) -> None:
    """Takes back :func:`write_final_manifest`: the run goes on."""
    (Path(output_dir) / MANIFEST).unlink(missing_ok=True)


def finished_at(output_dir: str | Path) -> int | None:
    """The step at which a run was finished whose model is still as it was written.

    Example:
        >>> finished_at("runs/nothing-here") is None
        True
    """
    folder = Path(output_dir)
    if not (folder / MANIFEST).is_file() or _differs_from_manifest(folder):
        return None
    return json.loads((folder / MANIFEST).read_text())["step"]


def holds_model(folder: str | Path) -> bool:
    """Whether weights, or an adapter's, lie in a folder.

    Example:
        >>> holds_model("runs/nothing-here")
        False
    """
    return any(Path(folder).glob("*model*.safetensors"))


def damage(checkpoint: str | Path) -> str | None:
    """What keeps a run from going on from a checkpoint, or None where it is whole.

    Args:
        checkpoint: Its folder.

    Returns:
        A clause that names the file: missing, cut short, not as it was written.

    Example:
        >>> damage("runs/nothing-here/checkpoint-8")
        'there is no such folder'
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return "there is no such folder"
    if (folder / MANIFEST).exists():
        return _differs_from_manifest(folder) or _lacks(folder)
    return _lacks(folder) or _unreadable(folder)


def refusal(checkpoint: str | Path, found: str) -> str:
    """The sentence for a checkpoint with a :func:`damage`."""
    return (
        f"resume_from_checkpoint: cannot go on from {checkpoint}: {found}; name "
        "another checkpoint of the run, or auto for its newest whole one"
    )


def newest_whole(output_dir: str | Path) -> tuple[str | None, list[str]]:
    """The newest checkpoint of a run that it can go on from.

    Args:
        output_dir: The folder of the run.

    Returns:
        The checkpoint's folder, None where there is none; and a clause for each newer
        one that is not whole, with what is wrong with it, the newest first.

    Example:
        >>> newest_whole("runs/nothing-here")
        (None, [])
    """
    found = [
        (int(path.name.removeprefix("checkpoint-")), path)
        for path in Path(output_dir).glob("checkpoint-*")
        if path.is_dir() and path.name.removeprefix("checkpoint-").isdigit()
    ]
    passed_over = []
    for _, path in sorted(found, reverse=True):
        wrong = damage(path)
        if wrong is None:
            return str(path), passed_over
        passed_over.append(f"{path}: {wrong}")
    return None, passed_over


def clear(checkpoint: str | Path) -> None:
    """Removes what a stopped run has left where a checkpoint is to be written.

    Its manifest might agree with a mixture of old files and new ones.
    """
    if Path(checkpoint).is_dir():
        # First, so that a kill during the rest leaves nothing that looks whole.
        (Path(checkpoint) / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Makes one clear error of the ways in which writing to a disk fails.

    Raises:
        CheckpointError: It names the folder and the cure.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _from_the_disk(error):
            raise
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder} could not be written ({reason}); make room, then give the same "
            "command again with --resume_from_checkpoint auto"
        ) from error


def _from_the_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    if isinstance(error, SafetensorError):
        return True
    # PyTorch's writer has no error of its own.
    text = str(error)
    return "PytorchStreamWriter" in text or "inline_container" in text


# -- manifests --------------------------------------------------------------------


def _write(folder: Path, step: int, paths: Iterator[Path]) -> None:
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _digest(path)]
        for path in sorted(paths)
        if path.is_file()
    }
    about = {"step": step, "files": files}
    write_atomically(folder / MANIFEST, json.dumps(about, indent=1) + "\n")


def _differs_from_manifest(folder: Path) -> str | None:
    try:
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {
            name: (size, digest) for name, (size, digest) in about["files"].items()
        }
        int(about["step"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (there := path.stat().st_size) != size:
            return f"{name} has {there} bytes, of {size}"
        if _digest(path) != digest:
            return f"{name} is not as it was written"
    return None


def _digest(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= _BLOCKS * _BLOCK:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            for place in range(_BLOCKS):
                file.seek(place * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


# -- what is there ----------------------------------------------------------------


def _lacks(folder: Path) -> str | None:
    """What a resumed run would look for in vain."""
    if not (folder / "trainer_state.json").is_file():
        return "trainer_state.json is missing"
    for patterns, what in (
        (_WEIGHTS, "model.safetensors or adapter_model.safetensors is missing"),
        (_OPTIMIZER, "optimizer.pt is missing (save_only_model leaves it out)"),
        (_SCHEDULER, "scheduler.pt is missing"),
    ):
        if not any(True for pattern in patterns for _ in folder.glob(pattern)):
            return what
    processes = _processes(folder)
    if processes == 1:
        own = ["rng_state.pth"]
    else:
        own = [f"rng_state_{rank}.pth" for rank in range(processes)]
    if any(folder.glob("rollouts_*")):  # none in a checkpoint of plain TRL
        own += [f"rollouts_{rank}.safetensors" for rank in range(processes)]
    for name in own:
        if not (folder / name).is_file():
            return f"{name} is missing"
    return None


def _processes(folder: Path) -> int:
    """How many processes wrote a checkpoint, as far as its files tell."""
    told = _notes(folder / "rollouts_0.safetensors").get("processes")
    return told or max(1, len(list(folder.glob("rng_state_*.pth"))))


def _notes(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt", device="cpu") as file:
            return json.loads((file.metadata() or {})["rollouts"])["notes"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return {}


def _unreadable(folder: Path) -> str | None:
    """The first file that is not what its name says."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        read = path.suffix in (".json", ".safetensors", ".pt", ".pth", ".bin")
        if path.stat().st_size == 0 and (read or path.suffix == ".distcp"):
            return f"{name} is empty"
        if path.suffix == ".json" and not _is_json(path):
            return f"{name} is no JSON"
        if path.suffix == ".safetensors" and not _is_safetensors(path):
            return f"{name} is cut short or damaged"
        if path.suffix in (".pt", ".pth", ".bin") and not _is_archive(path):
            return f"{name} is cut short or damaged"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        for shard in sorted(set(json.loads(index.read_text())["weight_map"].values())):
            if not (folder / shard).is_file():
                return f"{shard} is missing"
    return None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _is_safetensors(path: Path) -> bool:
    try:
        # Compares the header with the length of the file.
        with safe_open(path, "pt", device="cpu"):
            return True
    except (OSError, SafetensorError):
        return False


def _is_archive(path: Path) -> bool:
    """Whether PyTorch's file is whole: its archive holds a checksum of each part."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
