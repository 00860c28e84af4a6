"""Conversations out of whatever was asked: one, several, or a data set's rows."""

from datasets import Dataset

from vgpo.analysis.pictured import image_parts
from vgpo.models.inputs import check_messages


def rows_of(asked) -> Dataset | list:
    """What was asked, row by row; a data set decodes its images as it is read."""
    if not isinstance(asked, Dataset | list):
        raise ValueError(
            "messages_or_dataset: must be a conversation, a list of conversations or "
            f"rows, or a datasets.Dataset, got {type(asked).__name__}."
        )
    if not len(asked):
        raise ValueError("messages_or_dataset: it is empty.")
    is_one = isinstance(asked[0], dict) and "role" in asked[0]
    return [asked] if is_one else asked


def conversation_of(row: dict | list) -> list[dict]:
    """A row's conversation, with its images in their places."""
    if not isinstance(row, dict):
        return row
    if not isinstance(row.get("prompt"), list):
        raise ValueError(
            "messages_or_dataset: a row needs a conversation in 'prompt', it has "
            f"{sorted(row)}; vgpo.data.to_prompts makes one of a question's columns."
        )
    check_messages(row["prompt"])
    images = row.get("images")
    if images is None:
        images = [row["image"]] if row.get("image") is not None else []
    waiting = iter(images)
    turns = []
    for turn in row["prompt"]:
        content = turn["content"]
        if not isinstance(content, str):
            content = [
                {"type": "image", "image": next(waiting, None)}
                if part["type"] == "image" and part.get("image") is None
                else part
                for part in content
            ]
        turns.append({**turn, "content": content})
    places = [p.get("image") for turn in turns for p in image_parts(turn)]
    if None in places or next(waiting, None) is not None:
        raise ValueError(
            f"messages_or_dataset: the row has {len(images)} images and its prompt "
            f"{len(places)} places for images."
        )
    return turns
