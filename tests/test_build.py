"""What book/build.py promises, on small throw-away notebooks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from book import build

PLAIN = """\
# %% [markdown]
# # A try
#
# Some prose.

# %% tags=["parameters"]
seed = 0  # where the numbers come from
size = 3  # how many of them

# %%
numbers = [seed + i for i in range(size)]
print(numbers)
"""

UNSTEADY = """\
# %%
import sys
import tempfile
import time
from pathlib import Path

print(Path.cwd(), sys.prefix, Path.home() / "x", object())
for i in range(4):
    print("piece", i)
    sys.stdout.flush()
    time.sleep(0.05)
    print(f"{i} of 4", end="\\r")
print({"a", "b", "c", "d"})

# %% mystnb={"image": {"alt": "A line that rises."}, "b": {"d": 1, "c": 2}}
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(2, 1))
ax.plot(range(3))
"""


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A repository with no notebook in it yet."""
    for folder in ("notebooks", "recipes", "vgpo"):
        (tmp_path / folder).mkdir()
    shutil.copy(root / "jupytext.toml", tmp_path)
    return tmp_path


def add(project: Path, name: str, code: str) -> Path:
    source = project / "notebooks" / f"{name}.py"
    source.write_text(code)
    return source


def run(project: Path, *arguments: str) -> int:
    return build.main(["--root", str(project), *arguments])


def outputs_text(notebook: nbformat.NotebookNode) -> str:
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def everything_but_the_run(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes() if path.is_file() else b""
        for path in sorted(project.rglob("*"))
        if "_build" not in path.parts
    }


# Without a kernel --------------------------------------------------------


def test_code_hash_follows_code_and_not_prose(project):
    source = add(project, "00_try", PLAIN)
    before = build.code_hash(build.convert(source))
    add(project, "00_try", PLAIN.replace("Some prose", "Other prose"))
    assert build.code_hash(build.convert(source)) == before
    add(project, "00_try", PLAIN.replace("print(numbers)", "print(sum(numbers))"))
    assert build.code_hash(build.convert(source)) != before


def test_code_hash_sees_where_a_cell_ends(project):
    one = add(project, "00_one", "# %%\na = 1\nb = 2\n")
    two = add(project, "01_two", "# %%\na = 1\n\n# %%\nb = 2\n")
    assert build.code_hash(build.convert(one)) != build.code_hash(build.convert(two))


def test_conversion_and_back_gives_the_source(project):
    source = add(project, "00_try", PLAIN + "\n" + UNSTEADY)
    assert build.source_text(build.convert(source), project) == source.read_text()


def test_cell_ids_survive_an_insertion_and_are_unique(project):
    source = add(project, "00_try", PLAIN + "\n# %%\n1\n\n# %%\n1\n")
    before = [cell.id for cell in build.convert(source).cells]
    assert len(set(before)) == len(before)
    add(project, "00_try", "# %%\nnew = 1\n\n" + source.read_text())
    assert [cell.id for cell in build.convert(source).cells][1:] == before


def test_paths_go_and_their_lookalikes_stay():
    paths = [("/home/ann/book", "<book>"), ("/home/ann", "~")]
    scrubbed = build.scrub_text(
        "/home/ann/book/x.py '/home/ann' /home/anna/book <A at 0x7f3a2b> 0xff", paths
    )
    assert scrubbed == "<book>/x.py '~' /home/anna/book <A at 0x...> 0xff"


def test_streams_are_joined_and_overwritten_lines_dropped():
    new = nbformat.v4.new_output
    pieces = ["10%\r", "55%\r100%\n", "done\n"]
    outputs = [new("stream", name="stdout", text=text) for text in pieces]
    outputs.append(new("stream", name="stderr", text="other"))
    out, err = build.scrub_outputs(outputs, 1, [])
    assert (out.text, err.text) == ("100%\ndone\n", "other")


def test_parameters_by_precedence(project):
    (project / "recipes" / "notebooks_small.yaml").write_text(
        "00_try: {seed: 1, size: 1, rate: 0.1}\n01_other: {seed: 9}\n"
    )
    file = project / "mine.yaml"
    file.write_text("seed: 2\nsize: 2\n")
    chosen = build.chosen_parameters(
        "00_try", project, "small", file, [("seed", "3"), ("name", "a b")]
    )
    assert chosen == {"seed": 3, "size": 2, "rate": 0.1, "name": "a b"}
    assert build.chosen_parameters("02_none", project, "small") == {}


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1", None])
def test_a_bad_parameter_file_is_named(tmp_path, content):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(build.BuildError, match=r"mine\.yaml"):
        build.read_parameters(file)


def test_an_unknown_notebook_is_an_error_that_lists_the_known(project, capsys):
    add(project, "00_try", PLAIN)
    assert run(project, "freeze", "01_oops") == 1
    message = capsys.readouterr().err
    assert "01_oops" in message and "00_try" in message


def test_an_unknown_parameter_is_an_error_that_lists_the_known(project, capsys):
    add(project, "00_try", PLAIN)
    assert run(project, "execute", "-p", "sizze", "4") == 1
    message = capsys.readouterr().err
    assert "'sizze'" in message and "seed, size" in message


def test_a_write_cut_short_leaves_the_earlier_file(tmp_path, monkeypatch):
    target = tmp_path / "a.ipynb"
    target.write_text("earlier")

    def cut(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(build.os, "fsync", cut)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(OSError, match="no space"):
        build.write_atomically("later", target, tmp_path / "scratch")
    assert target.read_text() == "earlier"


def test_inputs_hash_follows_code_parameters_and_package(project):
    source = add(project, "00_try", PLAIN)
    hashes = [build.inputs_hash(project, source, {})]
    hashes.append(build.inputs_hash(project, source, {"seed": 1}))
    (project / "vgpo" / "focus.py").write_text("x = 1\n")
    hashes.append(build.inputs_hash(project, source, {}))
    add(project, "00_try", PLAIN.replace("print", "repr"))
    hashes.append(build.inputs_hash(project, source, {}))
    assert len(set(hashes)) == 4


# With a kernel -----------------------------------------------------------


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
    assert build.source_text(notebook, project) == UNSTEADY
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
    "a hang": ("import time\ntime.sleep(60)", "timed out"),
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


# Pages -------------------------------------------------------------------


@pytest.fixture
def small_book(project: Path) -> Path:
    """A project whose book is one page and one notebook."""
    book = project / "book"
    book.mkdir()
    (project / "_config.yml").write_text(
        "title: T\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
    )
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/00_try\n"
    )
    (book / "intro.md").write_text("# Hello\n")
    source = add(project, "00_try", PLAIN)
    notebook = build.convert(source)
    source.with_suffix(".ipynb").write_text(build.dumps(notebook))
    return project


def test_pages_are_replaced_only_by_a_build_without_warnings(small_book, capsys):
    out = small_book / "_build" / "html"
    assert run(small_book, "html") == 0
    page = out / "book" / "intro.html"
    assert "Hello" in page.read_text()
    assert (out / "notebooks" / "00_try.html").exists()

    before = page.read_bytes()
    (small_book / "book" / "intro.md").write_text("# Bye\n\n{doc}`nowhere`\n")
    assert run(small_book, "html") == 1
    assert "nowhere" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["html"]


def test_a_missing_frozen_notebook_says_how_to_make_it(small_book, capsys):
    (small_book / "notebooks" / "00_try.ipynb").unlink()
    assert run(small_book, "html") == 1
    assert "make freeze NOTEBOOK=00_try" in capsys.readouterr().err


def test_pages_of_executed_notebooks_show_those(small_book):
    executed = small_book / "_build" / "executed"
    executed.mkdir(parents=True)
    frozen = json.loads((small_book / "notebooks" / "00_try.ipynb").read_text())
    frozen["cells"][0]["source"] = "# Executed copy"
    (executed / "00_try.ipynb").write_text(json.dumps(frozen))
    assert run(small_book, "html", "--executed") == 0
    assert (
        "Executed copy"
        in (small_book / "_build/html/notebooks/00_try.html").read_text()
    )
