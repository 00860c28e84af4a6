"""Answers that a model wrote, kept so that a stopped analysis goes on.

An answer is found again only by the very same question to the very same model: by what
the processor made of the conversation, pixels included, and by the model's weights,
adapters, precision and generation settings (:mod:`vgpo.models.fingerprints`).
"""

from pathlib import Path

from vgpo.files import append_json_line, read_json_lines


class AnswersFile:
    """Token ids of answers by fingerprint, in JSON lines; each is written at once.

    Args:
        path: The file; read if it is there.

    Raises:
        ValueError: A line is not one of this class's; the line is named. Half a line at
            the end, which a kill leaves, is dropped.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> AnswersFile(path).add("fingerprint", [3, 1])
        >>> AnswersFile(path).ids
        {'fingerprint': [3, 1]}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.ids: dict[str, list[int]] = {}
        if not self.path.exists():
            return
        try:
            entries = read_json_lines(self.path)
        except ValueError as error:
            raise ValueError(f"completions_file: {error}; name another file") from error
        for number, entry in enumerate(entries, start=1):
            try:
                self.ids[entry["asked"]] = [int(i) for i in entry["completion_ids"]]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"completions_file: line {number} of {self.path} is not one of "
                    f"this function's; name another file. ({error!r})"
                ) from error

    def add(self, asked: str, completion_ids: list[int]) -> None:
        """Keeps one answer, on disk before this returns."""
        self.ids[asked] = completion_ids
        append_json_line(self.path, {"asked": asked, "completion_ids": completion_ids})
