"""Fields of docstrings: a type stands before what it is the type of."""

from bs4 import BeautifulSoup

from book.builder.fields import readable_fields


def fields(*named: tuple[str, str]) -> str:
    body = "".join(
        f'<dt class="field-odd">{name}<span class="colon">:</span></dt>\n'
        f'<dd class="field-odd">{inside}\n</dd>\n'
        for name, inside in named
    )
    return f'<dl class="field-list simple">\n{body}</dl>'


def shown(page: str) -> dict[str, str]:
    soup = BeautifulSoup(readable_fields(page), "html.parser")
    names = [name.get_text() for name in soup.find_all("dt")]
    assert len(set(names)) == len(names)
    texts = [" ".join(text.get_text().split()) for text in soup.find_all("dd")]
    return dict(zip(names, texts, strict=True))


def test_the_type_goes_before_what_is_returned():
    page = fields(
        ("Parameters", "<p><strong>a</strong> (<em>int</em>) – One.</p>"),
        ("Returns", "<p>Its length.</p>"),
        ("Raises", "<p><strong>ValueError</strong> – None.</p>"),
        ("Return type", "<p><em>Tensor</em></p>"),
    )
    assert shown(page) == {
        "Parameters:": "a (int) – One.",
        "Returns:": "Tensor – Its length.",
        "Raises:": "ValueError – None.",
    }


def test_words_before_a_colon_are_no_type():
    page = fields(
        ("Returns", "<p><em>One row per answer</em> – right, length.</p>"),
        ("Return type", "<p><em>pd.DataFrame</em></p>"),
    )
    assert shown(page) == {
        "Returns:": "pd.DataFrame – One row per answer: right, length."
    }


def test_nor_is_code_before_a_colon_or_words_with_a_name_in_them():
    for said in ("<code>(a, b)</code>", "The <code>A</code> that fill up"):
        page = fields(
            ("Returns", f"<p>{said} – both.</p>"), ("Return type", "<p>tuple</p>")
        )
        words = BeautifulSoup(said, "html.parser").get_text()
        assert shown(page) == {"Returns:": f"tuple – {words}: both."}


def test_a_type_alone_is_what_is_returned():
    assert shown(fields(("Return type", "<p>str | None</p>"))) == {
        "Returns:": "str | None"
    }


def test_several_paragraphs_begin_with_the_type():
    said = "<p><p>A table:</p>\n<p>of rows</p>\n</p>"
    page = fields(("Returns", said), ("Return type", "<p>DataFrame</p>"))
    assert "<p>DataFrame – A table:</p>" in readable_fields(page)


def test_a_list_follows_its_type_and_generators_yield_it():
    page = fields(
        ("Yields", "<ul><li><p>one</p></li></ul>"), ("Return type", "<p>int</p>")
    )
    assert shown(page) == {"Yields:": "int one"}


def test_each_list_has_its_own_and_others_stay():
    one = fields(("Returns", "<p>It.</p>"))
    two = fields(("Return type", "<p>int</p>"))
    assert readable_fields(one + two).startswith(one)
    other = fields(("Parameters", "<p><strong>a</strong> – It.</p>"))
    assert readable_fields(other) == other


def test_what_a_dataclass_holds_is_named_shortly():
    page = fields(("Type", "<p>collections.abc.Mapping[str, torch.Tensor] | None</p>"))
    assert shown(page) == {"Type:": "Mapping[str, Tensor] | None"}
    page = fields(("Type", "<p>vgpo.memory.shapes.Shape</p>"))
    assert shown(page) == {"Type:": "vgpo.memory.shapes.Shape"}


def test_no_tilde_is_left_before_a_name():
    said = "<strong>a</strong> (<em>Mapping[str, ~vgpo.evaluation.runs.Run]</em>)"
    page = fields(("Parameters", f"<p>{said}</p>"))
    assert shown(page) == {"Parameters:": "a (Mapping[str, Run])"}


def test_a_default_made_anew_is_no_tag():
    signature = '<span class="default_value"><span class="pre">{}</span></span>'
    made = readable_fields(signature.format("&lt;factory&gt;"))
    assert made == signature.format("…")
    path = readable_fields(signature.format("PosixPath('results')"))
    assert path == signature.format("Path('results')")
