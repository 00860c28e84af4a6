"""Whether the hub answers, asked once, before a library asks again and again.

Of a file that is neither in its cache nor to be had, ``huggingface_hub`` asks six times
in 24 s, and ``transformers`` wants six files: a name written wrong, with no network,
was told after minutes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import repo_folder_name


def require_hub(repository: str, kind: str) -> None:
    """Refuses what could only come from the hub while the hub does not answer.

    Nothing is asked where something of the repository, in whichever revision, is in the
    client's cache: whether it is enough, the library that loads it knows. So it does of
    what the hub says.

    Args:
        repository: Its id on the hub.
        kind: ``"model"`` or ``"dataset"``.

    Raises:
        ConnectionError: It is not in the cache, and there is no answer within the
            client's time limit (``HF_HUB_ETAG_TIMEOUT``, 10 s), or it works offline.
    """
    folder = repo_folder_name(repo_id=repository, repo_type=kind)
    if (Path(constants.HF_HUB_CACHE) / folder / "snapshots").is_dir():
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, "README.md", repo_type=kind))
    except (HfHubHTTPError, HFValidationError):
        return  # it has answered, or can have no such repository; both are told better
    # Any other: errors of connections are those of the HTTP library behind the client,
    # which is another one in each of its major releases.
    except Exception as error:
        raise ConnectionError(
            "the hub does not answer, and nothing of that name is in its cache: "
            f"{error}"
        ) from None


@contextmanager
def answering() -> Iterator[None]:
    """Tells in one line that there is no connection to the hub.

    What the hub says itself, a missing login and a file that cannot be read are
    ``OSError`` or ``ValueError`` of the client, and pass.

    Raises:
        ConnectionError: There is no connection.
    """
    try:
        yield
    except Exception as error:
        # As above, it is an error of some HTTP library; Python's own are faults.
        if isinstance(error, OSError | ValueError) or _is_pythons(error):
            raise
        raise ConnectionError(f"the hub does not answer: {error}") from None


def _is_pythons(error: Exception) -> bool:
    return type(error).__module__ == "builtins"
