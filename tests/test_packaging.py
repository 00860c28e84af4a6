"""What others get and read: the built package, its facts, and GitHub's files."""

import email
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import vgpo
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

CHECKPOINT = "vgpo/testbed/checkpoint/model.safetensors"

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def steps(path: Path) -> list[dict]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))


# -- one place each ---------------------------------------------------------------


def test_the_address_is_the_one_in_the_books_configuration():
    configured = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    address = configured["repository"]["url"]
    account, name = re.fullmatch(
        r"https://github\.com/([^/]+)/([^/]+)", address
    ).groups()
    urls = PROJECT["project"]["urls"]
    assert urls["Repository"] == address
    assert urls["Changelog"].startswith(f"{address}/blob/")
    assert urls["Book"] == f"https://{account}.github.io/{name}/"
    assert CITATION["repository-code"] == address
    for file in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / file).read_text(encoding="utf-8")
        named = re.findall(rf"https://github\.com/[^/\s]+/{name}\b", text)
        assert set(named) <= {address}, f"{file} names another address"


def test_the_version_is_set_in_the_package_alone():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    attribute = PROJECT["tool"]["setuptools"]["dynamic"]["version"]
    assert attribute == {"attr": "vgpo.__version__"}
    assert str(CITATION["version"]) == vgpo.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{vgpo.__version__}]" in changes


def test_citation_and_bibliography_name_the_same_paper_and_authors():
    cited = CITATION["preferred-citation"]
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    [entry] = re.findall(r"@misc\{wang2026vgpo,\n(.*?)\n\}", bibliography, re.DOTALL)
    fields = dict(re.findall(r"(\w+)\s*=\s*\{(.*?)\}", entry))
    names = [f"{a['family-names']}, {a['given-names']}" for a in cited["authors"]]
    assert names == fields["author"].split(" and ")
    assert cited["title"] == fields["title"]
    assert cited["year"] == int(fields["year"])
    assert cited["identifiers"][0]["value"] == f"arXiv:{fields['eprint']}"


def test_the_licence_is_apache_2_0_in_full_and_named_everywhere():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:3] == ["Apache", "License", "Version"]
    sections = re.findall(r"^   (\d)\. ", text, re.MULTILINE)
    assert sections == [str(i) for i in range(1, 10)]
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == CITATION["license"] == "Apache-2.0"


# -- workflows and hooks ----------------------------------------------------------


@each_workflow
def test_workflows_use_targets_that_exist(path):
    text = path.read_text(encoding="utf-8")
    matrices = re.findall(r"target: (\w+)", text)
    used = re.findall(r"^\s*(?:- )?run: make ([a-z]+)", text, re.MULTILINE)
    assert used or matrices, f"{path.name} builds nothing by make"
    assert set(used) | set(matrices) <= make_targets()


@each_workflow
def test_workflows_pin_actions_to_a_major_version_and_grant_no_more_than_needed(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(path):
        assert ("uses" in step) != ("run" in step), step
        if "uses" in step:
            assert re.fullmatch(
                r"(actions|pypa)/[\w-]+@(v\d+|release/v\d+)", step["uses"]
            )
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        for granted in job.get("permissions", {}):
            assert granted in ("pages", "id-token"), name


@each_workflow
def test_workflows_put_nothing_from_outside_into_a_shell(path):
    for step in steps(path):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", step.get("run", "")):
            assert expression.strip() == "matrix.target", step


def test_the_tested_pythons_are_the_declared_ones():
    [tests] = [path for path in WORKFLOWS if path.stem == "tests"]
    workflow = yaml.safe_load(tests.read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]
    on_linux = {row["python"] for row in matrix if row["os"].startswith("ubuntu")}
    prefix = "Programming Language :: Python :: 3."
    declared = {
        f"3.{name.removeprefix(prefix)}"
        for name in PROJECT["project"]["classifiers"]
        if name.startswith(prefix)
    }
    assert on_linux == declared
    assert any(row["os"].startswith("macos") for row in matrix)


def test_hooks_before_a_commit_run_what_is_there():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    [repository] = yaml.safe_load(text)["repos"]
    hooks = {hook["id"]: hook["entry"] for hook in repository["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "notebook-pairs"}
    arguments = hooks["notebook-pairs"].split()
    [file] = [word for word in arguments if word.endswith(".py")]
    source = (ROOT / file).read_text(encoding="utf-8")
    for part in re.search(r'-k "(.*)"', hooks["notebook-pairs"])[1].split(" or "):
        assert re.search(rf"^def test_\w*{part}\w*\(", source, re.MULTILINE), part


# -- types ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_mathematics_is_typed_as_strictly_as_mypy_can():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"),
            *("-p", "vgpo.method", "-p", "vgpo.stats"),
            # Its own: what other options have found is of no use to it.
            *("--cache-dir", str(ROOT / ".mypy_cache" / "strict")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- what is built ----------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of an sdist and of the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("built")
    left_out = (".*", "_build", "build", "*.egg-info", "__pycache__", "runs")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*left_out))
    command = [sys.executable, "-m", "build", "--no-isolation"]
    done = subprocess.run(
        [*command, "--outdir", str(folder / "dist"), str(folder / "source")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The Python of a fresh environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    [wheel] = built.glob("*.whl")
    command = [python, "-m", "pip", "install", "--no-index", "--no-deps", wheel]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return python


def run(python: Path, code: str, folder: Path) -> str:
    """What the code prints, run far from the checkout and its environment."""
    done = subprocess.run(
        [python, "-I", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(built):
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        facts = email.message_from_bytes(archive.read(metadata))
    info = metadata.removesuffix("METADATA")
    top = {name.split("/")[0] for name in names}
    assert top == {"vgpo", info.strip("/")}
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("vgpo/**/*.py")}
    checkpoints = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("vgpo/testbed/checkpoint*/*")
        if path.is_file()
    }
    assert CHECKPOINT in checkpoints
    assets = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("vgpo/*/assets/*")}
    assert {"vgpo/explorer/assets/page.js", "vgpo/explorer/assets/page.css"} <= assets
    tables = {"vgpo/data/catalogue.toml", "vgpo/evaluation/reported.csv"}
    assert modules | checkpoints | assets | tables | {"vgpo/py.typed"} <= names
    assert f"{info}licenses/LICENSE" in names
    assert facts["Version"] == vgpo.__version__
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["Author"] == "The VGPO reproduction authors"


@pytest.mark.slow
def test_the_sdist_holds_what_a_wheel_is_built_from_and_no_more(built):
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "vgpo/py.typed"} <= names
    assert CHECKPOINT in names
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"vgpo", "vgpo.egg-info"}


@pytest.mark.slow
def test_the_wheel_is_imported_where_nothing_else_is_installed(installed, tmp_path):
    code = (
        "import sys, vgpo, importlib.metadata as m\n"
        "print(vgpo.__version__, m.version('vgpo'), 'torch' in sys.modules)\n"
        "print(vgpo.__file__.startswith(sys.prefix))"
    )
    expected = f"{vgpo.__version__} {vgpo.__version__} False\nTrue"
    assert run(installed, code, tmp_path) == expected


@pytest.mark.slow
def test_the_installed_package_finds_its_checkpoint(installed, tmp_path):
    # The libraries are those of this environment: its folder at the end of the path.
    libraries = sysconfig.get_path("purelib")
    code = (
        f"import sys; sys.path.append({libraries!r})\n"
        "import vgpo\n"
        "from vgpo.testbed import load_tiny\n"
        "assert vgpo.testbed.__file__.startswith(sys.prefix)\n"
        "model, processor = load_tiny()\n"
        "print(model.config.model_type)"
    )
    assert run(installed, code, tmp_path) == "qwen2_5_vl"
