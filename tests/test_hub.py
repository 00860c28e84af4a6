"""A hub that is out of reach is asked once; one that answers is left to the library."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.conftest import ROOT

# The client reads its address and whether it works offline when it is imported.
SCRIPT = """
import json, sys
from vgpo.data import load_questions, load_rows
from vgpo.models.loading import load_model
calls = {"questions": load_questions, "rows": load_rows, "model": load_model}
told = []
for call, name in json.loads(sys.argv[1]):
    try:
        calls[call](name)
    except (ValueError, OSError) as error:
        told.append(f"{type(error).__name__}: {error}")
    else:
        told.append("loaded")
print(json.dumps(told))
"""


class Silent(BaseHTTPRequestHandler):
    """Counts what it is asked; says 404 to it all, as the hub does."""

    def do_HEAD(self):
        self.server.asked.append(self.path)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


def told(calls, endpoint, cache, **environment):
    """What each call says in a process of its own, and what the client logged."""
    settings = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE"):
        settings.pop(name, None)
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls)],
        env=settings,
        cwd=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout), ran.stderr


CALLS = [
    ("questions", "virl39"),
    ("rows", "virl39"),
    ("questions", "counting"),
    ("rows", "somebody/set"),
    ("model", "Qwen/Qwen2.5-VL-7B-Instruc"),
]


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_out_of_reach_is_told_at_once(offline, tmp_path):
    nobody = "http://127.0.0.1:9"  # "discard": nothing listens there
    says, logged = told(CALLS, nobody, tmp_path, HF_HUB_OFFLINE=offline)
    assert "Retrying" not in logged
    assert all("the hub does not answer" in text for text in says)
    for text in says[:2]:
        assert "'virl39'" in text
        assert text.endswith("did you mean 'virl39k'?")
    assert "fetch it yourself and name the folder as root" in says[2]
    assert "'somebody/set'" in says[3]
    assert "there is no folder 'Qwen/Qwen2.5-VL-7B-Instruc'" in says[4]
    assert all(("offline mode" in text) == (offline == "1") for text in says)


def test_a_hub_that_answers_has_the_word(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.asked = []
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        says, _ = told([CALLS[0], CALLS[4]], address, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert all("does not answer" not in text for text in says)
    assert "doesn't exist on the Hub" in says[0]
    assert "is not a valid model identifier" in says[1]
    assert server.asked


def test_what_is_in_the_cache_needs_no_hub(tmp_path):
    name = "models--somebody--model"
    snapshot = tmp_path / "hub" / name / "snapshots" / "0" / "config.json"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text('{"model_type": "qwen2_5_vl"}')
    refs = tmp_path / "hub" / name / "refs" / "main"
    refs.parent.mkdir()
    refs.write_text("0")
    prepared = tmp_path / "datasets" / "somebody___set" / "default" / "0.0.0" / "a"
    prepared.mkdir(parents=True)
    calls = [("model", "somebody/model"), ("questions", "somebody/set")]
    says, _ = told(calls, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert not any("the hub does not answer" in text for text in says)
