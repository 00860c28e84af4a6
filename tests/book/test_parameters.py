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


def test_an_unknown_parameter_is_an_error_that_lists_the_known(project, capsys):
    add(project, "00_try", PLAIN)
    assert run(project, "execute", "-p", "sizze", "4") == 1
    message = capsys.readouterr().err
    assert "'sizze'" in message and "seed, size" in message
