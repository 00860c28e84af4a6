"""From ``.py`` to ``.ipynb`` and back."""

from book.builder.convert import code_hash, convert, source_text
from tests.book.small_projects import PLAIN, UNSTEADY, add, run


def test_code_hash_follows_code_and_not_prose(project):
    source = add(project, "00_try", PLAIN)
    before = code_hash(convert(source))
    add(project, "00_try", PLAIN.replace("Some prose", "Other prose"))
    assert code_hash(convert(source)) == before
    add(project, "00_try", PLAIN.replace("print(numbers)", "print(sum(numbers))"))
    assert code_hash(convert(source)) != before


def test_code_hash_sees_where_a_cell_ends(project):
    one = add(project, "00_one", "# %%\na = 1\nb = 2\n")
    two = add(project, "01_two", "# %%\na = 1\n\n# %%\nb = 2\n")
    assert code_hash(convert(one)) != code_hash(convert(two))


def test_conversion_and_back_gives_the_source(project):
    source = add(project, "00_try", PLAIN + "\n" + UNSTEADY)
    assert source_text(convert(source), project) == source.read_text()


def test_cell_ids_survive_an_insertion_and_are_unique(project):
    source = add(project, "00_try", PLAIN + "\n# %%\n1\n\n# %%\n1\n")
    before = [cell.id for cell in convert(source).cells]
    assert len(set(before)) == len(before)
    add(project, "00_try", "# %%\nnew = 1\n\n" + source.read_text())
    assert [cell.id for cell in convert(source).cells][1:] == before


def test_an_unknown_notebook_is_an_error_that_lists_the_known(project, capsys):
    add(project, "00_try", PLAIN)
    assert run(project, "freeze", "01_oops") == 1
    message = capsys.readouterr().err
    assert "01_oops" in message and "00_try" in message
