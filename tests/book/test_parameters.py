"""Where the parameters of a run come from."""

import pytest

from book.builder import BuildError
from book.builder.parameters import chosen_parameters, read_parameters
from tests.book.small_projects import PLAIN, add, run


def test_parameters_by_precedence(project):
    (project / "recipes" / "notebooks_small.yaml").write_text(
        "00_try: {seed: 1, size: 1, rate: 0.1}\n01_other: {seed: 9}\n"
    )
    file = project / "mine.yaml"
    file.write_text("seed: 2\nsize: 2\n")
    chosen = chosen_parameters(
        "00_try", project, "small", file, [("seed", "3"), ("name", "a b")]
    )
    assert chosen == {"seed": 3, "size": 2, "rate": 0.1, "name": "a b"}
    assert chosen_parameters("02_none", project, "small") == {}


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1", None])
def test_a_bad_parameter_file_is_named(tmp_path, content):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BuildError, match=r"mine\.yaml"):
        read_parameters(file)


KINDS = """# %% tags=["parameters"]
count = 4
rate = 0.5
name = "a"
live = False
models = []
anything = None
"""


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", "many", "count must be a whole number, as its default 4 is; got 'm"),
        ("count", "1.5", "count must be a whole number"),
        ("count", "true", "count must be a whole number"),
        ("count", "null", "count must be a whole number"),
        (
            "rate",
            "strong",
            "rate must be a number, as its default 0.5 is; got 'strong'",
        ),
        ("rate", "[1]", "rate must be a number"),
        ("name", "5", "name must be text"),
        ("live", "1", "live must be true or false"),
        ("models", "Qwen/Qwen2.5-VL-7B-Instruct", "models must be a list, such as '[a"),
        ("name", "[a", "name: '[a' is no YAML"),
    ],
)
def test_a_value_of_another_kind_is_refused(name, value, message, project, capsys):
    add(project, "00_try", KINDS)
    assert run(project, "execute", "-p", name, value) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_values_of_the_same_kind_are_taken(project):
    add(project, "00_try", KINDS)
    given = {"count": "5", "rate": "1", "name": "'7'", "live": "true"}
    given |= {"models": "[a, b]", "anything": "3"}
    pairs = [part for pair in given.items() for part in ("-p", *pair)]
    assert run(project, "execute", *pairs) == 0
    assert run(project, "execute", "-p", "name", "null") == 0


def test_an_unknown_parameter_is_an_error_that_lists_the_known(project, capsys):
    add(project, "00_try", PLAIN)
    assert run(project, "execute", "-p", "sizze", "4") == 1
    message = capsys.readouterr().err
    assert "'sizze'" in message and "seed, size" in message
