"""Running and freezing notebooks, on small throw-away ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from book.builder import execute
from book.builder.convert import source_text
from tests.book.small_projects import (
    PLAIN,
    UNSTEADY,
    add,
    everything_but_the_run,
    outputs_text,
    run,
)


def test_inputs_hash_follows_code_parameters_and_package(project):
    source = add(project, "00_try", PLAIN)
    hashes = [execute.inputs_hash(project, source, {})]
    hashes.append(execute.inputs_hash(project, source, {"seed": 1}))
    (project / "vgpo" / "focus.py").write_text("x = 1\n")
    hashes.append(execute.inputs_hash(project, source, {}))
    add(project, "00_try", PLAIN.replace("print", "repr"))
    hashes.append(execute.inputs_hash(project, source, {}))
    assert len(set(hashes)) == 4


def test_freezing_twice_is_byte_identical_and_tells_nothing_of_the_machine(project):
    frozen = add(project, "00_try", UNSTEADY).with_suffix(".ipynb")
    assert run(project, "freeze") == 0
    first = frozen.read_bytes()
    assert run(project, "freeze") == 0
    assert frozen.read_bytes() == first

    text = first.decode()
    for path in (str(project), sys.prefix, str(Path.home())):
        assert f"{path}/" not in text
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert source_text(notebook, project) == UNSTEADY
    assert [c.execution_count for c in notebook.cells] == [1, 2]
    assert "piece 3\n" in outputs_text(notebook)
    assert any("image/png" in o.get("data", {}) for o in notebook.cells[1].outputs)
    assert notebook.cells[1].metadata.mystnb.image.alt == "A line that rises."
    assert set(notebook.metadata) == {"frozen", "kernelspec", "language_info"}
    assert not any("papermill" in cell.metadata for cell in notebook.cells)


def test_parameters_reach_a_copy_and_leave_no_trace(project):
    add(project, "00_try", PLAIN)
    before = everything_but_the_run(project)
    assert run(project, "execute", "-p", "size", "5") == 0
    assert everything_but_the_run(project) == before

    tried = nbformat.read(project / "_build/tried/00_try.ipynb", as_version=4)
    assert outputs_text(tried) == "[0, 1, 2, 3, 4]\n"
    assert [cell.metadata.get("tags") for cell in tried.cells] == [
        None,
        ["parameters"],
        None,
    ]
    assert [c.execution_count for c in tried.cells[1:]] == [1, 2]


def test_a_run_says_whether_it_prints_what_was_published(project, capsys):
    source = add(project, "00_try", PLAIN)
    assert run(project, "freeze") == 0
    capsys.readouterr()
    assert run(project, "execute") == 0
    assert "every output as published" in capsys.readouterr().out
    assert run(project, "execute", "-p", "size", "4") == 0
    assert "published" not in capsys.readouterr().out

    frozen = source.with_suffix(".ipynb")
    frozen.write_text(frozen.read_text().replace("[0, 1, 2]", "[0, 1, 3]"))
    assert run(project, "execute") == 0
    assert "other output than published in cell 3," in capsys.readouterr().out

    add(project, "00_try", PLAIN + "\n# %%\n1\n")
    assert run(project, "execute") == 0
    assert "of other code than the published copy" in capsys.readouterr().out


FAILURES = {
    "an error": ("1 / 0", "ZeroDivisionError: division by zero"),
    "a hang": (
        "import time\ntime.sleep(60)",
        "Timed out: the cell took longer than it may. More time: --timeout",
    ),
    "a dead kernel": ("import os\nos._exit(1)", "DeadKernelError"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_names_the_cell_and_leaves_the_earlier_copy(project, capsys, kind):
    code, expected = FAILURES[kind]
    source = add(
        project, "00_try", PLAIN + f"\n# %%\n# here\n{code}\n\n# %%\n'after'\n"
    )
    earlier = source.with_suffix(".ipynb")
    earlier.write_text("earlier")
    before = everything_but_the_run(project)

    limit = ["--timeout", "6"] if kind == "a hang" else []
    assert run(project, "freeze", *limit) == 1
    message = capsys.readouterr().err
    assert "00_try failed in cell 4" in message
    assert "    # here\n    " + code.splitlines()[0] in message
    assert expected in message
    assert "'after'" not in message
    assert everything_but_the_run(project) == before


def test_a_run_that_failed_is_taken_up_where_it_stopped(project, capsys):
    add(project, "00_first", PLAIN)
    add(project, "01_second", "# %%\nraise SystemError('broken')\n")
    assert run(project, "execute") == 1
    first = project / "_build/executed/00_first.ipynb"
    kept = first.read_bytes(), first.stat().st_mtime_ns

    add(project, "01_second", "# %%\n'mended'\n")
    assert run(project, "execute") == 0
    assert "kept from the interrupted run" in capsys.readouterr().out
    assert (first.read_bytes(), first.stat().st_mtime_ns) == kept

    assert run(project, "execute", "00_first") == 0
    assert "kept" not in capsys.readouterr().out


def test_a_kill_leaves_no_half_written_file(project, root):
    flag = project / "_build" / "reached"
    flag.parent.mkdir()
    code = f"# %%\nimport pathlib, time\npathlib.Path({str(flag)!r}).touch()\n"
    source = add(project, "00_try", code + "time.sleep(60)\n")
    source.with_suffix(".ipynb").write_text("earlier")
    before = everything_but_the_run(project)

    command = [sys.executable, "book/build.py", "--root", str(project), "freeze"]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    running = everything_but_the_run(project)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert flag.exists(), "the notebook never started"
    assert running == before
    assert everything_but_the_run(project) == before
