"""The built pages, as a reader without a network meets them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

import vgpo
from book.builder.render import PLACEHOLDER, config, listed_notebooks
from tests.conftest import ROOT
from tests.making import make
from vgpo.studies.claims import VERDICTS
from vgpo.testbed import CHECKPOINT, World

LOADED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "object": "data",
}


def sources() -> dict[Path, int]:
    """When each file that the book is made of was last changed."""
    paths = [ROOT / "_config.yml", *ROOT.glob("book/**/*"), *ROOT.glob("notebooks/*")]
    return {
        path: path.stat().st_mtime_ns
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def touched() -> set[Path]:
    """What ``make html`` changed of its sources, run once for all tests here."""
    before = sources()
    built = make("--old-file=.venv/.ready", "html", f"RUN={sys.executable}")
    assert built.returncode == 0, built.stdout + built.stderr
    return {path for path, _ in before.items() ^ sources().items()}


@pytest.fixture(scope="module")
def site(touched) -> Path:
    """The pages of the frozen notebooks."""
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }


def contents() -> list[str]:
    """The table of contents, flat and in order."""
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    chapters = [
        chapter["file"] for part in toc["parts"] for chapter in part["chapters"]
    ]
    return [toc["root"], *chapters]


def test_make_html_leaves_the_checkout_alone(touched):
    assert touched == set()


def test_every_entry_of_the_contents_has_a_page(site):
    for entry in contents():
        assert (site / f"{entry}.html").exists(), entry
    assert "book/intro.html" in (site / "index.html").read_text()


def test_the_landing_page_leads_to_every_chapter(pages, site):
    page = site / "book" / "intro.html"
    article = pages[page].select_one("article")
    linked = {
        (page.parent / urlsplit(a["href"]).path).resolve()
        for a in article.select("a[href]")
    }
    for entry in contents()[1:]:
        assert site.resolve() / f"{entry}.html" in linked, f"{entry} is not linked"


def test_no_formula_falls_apart_into_text(pages):
    """A line that begins with a minus makes a list of half a formula."""
    loose = [
        (path.name, text.strip()[:60])
        for path, page in pages.items()
        for text in page.find_all(string=re.compile(r"\$"))
        if not text.find_parent(["code", "pre", "script", "style"])
    ]
    assert not loose


def test_internal_links_resolve(pages, site):
    ids = {
        path.resolve(): {tag["id"] for tag in page.select("[id]")}
        for path, page in pages.items()
    }
    broken = []
    for path, page in pages.items():
        for tag in page.select("a[href]"):
            link = urlsplit(tag["href"])
            if link.scheme or link.netloc or tag["href"] in ("", "#"):
                continue
            target = path.parent / unquote(link.path) if link.path else path
            found = ids.get(target.resolve(), {unquote(link.fragment)})
            if not target.exists() or (
                link.fragment and unquote(link.fragment) not in found
            ):
                broken.append((path.name, tag["href"]))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = {
        tag[attribute]
        for page in pages.values()
        for name, attribute in LOADED.items()
        for tag in page.select(f"{name}[{attribute}]")
        if "canonical" not in tag.get("rel", [])
    }
    assert [url for url in loaded if urlsplit(url).netloc] == []


def test_no_script_on_a_page_names_another_script_elsewhere(pages):
    inline = {
        tag.get_text() for page in pages.values() for tag in page.select("script")
    }
    for script in inline:
        assert re.findall(r"https?://[^\s\"']+\.js\b", script) == []


def test_stylesheets_load_nothing_from_elsewhere(site):
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8", errors="replace")
        found = re.findall(
            r"""(?:@import\s*|url\()\s*["']?(?:https?:)?//[^"')]+""", text
        )
        assert found == [], sheet.name


def test_formulas_come_with_the_book(pages, site):
    page = pages[site / "book" / "method.html"]
    assert len(page.select("div.math")) == 12
    [script] = [s for s in page.select("script[src]") if "mathjax" in s["src"].lower()]
    source = (site / "book" / script["src"].split("?")[0]).resolve()
    assert source.stat().st_size > 1_000_000


def test_equations_are_numbered_as_in_the_paper(pages, site):
    page = pages[site / "book" / "method.html"]
    numbers = [tag.get_text().strip("()#\xb6 ") for tag in page.select("span.eqno")]
    labels = [tag["id"] for tag in page.select("div.math[id]")]
    assert [re.sub(r"\D", "", n) for n in numbers] == [str(i) for i in range(1, 13)]
    named = dict(zip(labels, range(1, 13), strict=True))
    assert named["equation-eq-focus"] == 4
    assert named["equation-eq-gate"] == 6
    assert named["equation-eq-phi"] == 11


def test_the_house_is_drawn_whole_on_its_page(pages, site):
    article = pages[site / "book" / "house.html"].select_one("article")
    for name, last in (("tower", "style"), ("way", "text")):
        svg = article.select_one(f"figure#{name} > svg")
        assert [child.name for child in svg.find_all(recursive=False)][-1] == last
    assert "<!-- house:" not in str(article)
    assert len(article.select("table")) == 3


def test_every_picture_has_alt_text(pages, site):
    missing = [
        (entry, img.get("src", "")[:80])
        for entry in contents()
        for img in pages[site / f"{entry}.html"].select("article img")
        if len(img.get("alt", "")) < 20 or "/" in img["alt"].split()[0]
    ]
    assert missing == []


SMALLEST = """
[...document.querySelectorAll('main svg.vgpo-figure text')].map(text => {
    const matrix = text.getScreenCTM();
    const scale = Math.hypot(matrix.a, matrix.b);
    const parts = [text, ...text.querySelectorAll('tspan')].filter(
        part => [...part.childNodes].some(
            node => node.nodeType === 3 && node.textContent.trim()));
    return Math.min(...parts.map(
        part => scale * parseFloat(getComputedStyle(part).fontSize)));
}).reduce((least, size) => Math.min(least, size), 99)
"""
"""Height in pixels of the smallest type in a page's figures."""


FIRST_VISIT = "Got invalid theme mode"
"""What the theme says to a reader who has chosen neither light nor dark yet."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, logs nothing, and has no icon."""

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def served(site) -> Iterator[str]:
    """The address of the pages: a browser refuses fonts that a file asks for."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_phone_shows_every_page(browser, site, pages, served):
    """No page is wider than the phone, none complains or loads anything from
    elsewhere, and the type of figures can be read."""
    view = browser.open(f"{served}book/intro.html")
    view.resize(420, 900)
    faults = []
    for path in pages:
        name = path.relative_to(site)
        if pages[path].find("meta", attrs={"http-equiv": "Refresh"}):
            continue  # the front door leads on to a page that is in the list
        view.go(f"{served}{name.as_posix()}")
        wider, smallest = view.sideways(), view.evaluate(SMALLEST)
        if wider > 0:
            faults.append(f"{name}: {wider} pixels wider than the window")
        if smallest < 8:
            faults.append(f"{name}: type of {smallest:.1f} pixels in a figure")
    faults += [said for said in view.complaints if FIRST_VISIT not in said]
    faults += [f"asked for {a}" for a in view.requests if not a.startswith(served)]
    assert not faults, "\n".join(faults)


def test_the_index_of_the_package_is_one_screen(browser, served):
    view = browser.open(f"{served}book/api.html")
    view.resize(1400, 900)
    last = "document.querySelector('.public-groups').getBoundingClientRect().bottom"
    assert view.evaluate(last) <= 900


def test_pages_tell_nothing_of_the_machine(site):
    for path in site.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".md", ".txt") or path.name in (
            "searchindex.js",
        ):
            text = path.read_text(encoding="utf-8")
            for place in (str(ROOT), str(Path.home())):
                assert f"{place}/" not in text, path


def test_every_page_can_be_found(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for entry in contents():
        assert f'"{entry}"' in index


def test_notebooks_can_be_downloaded_and_open_in_colab_and_binder(pages, site):
    """Once there is an address to open them from; no button leads nowhere."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    repository = settings["repository"]["url"].removeprefix("https://github.com/")
    published = PLACEHOLDER not in repository
    for name in listed_notebooks(ROOT):
        page = pages[site / "notebooks" / f"{name}.html"]
        links = [a["href"] for a in page.select("a[href]")]
        path = f"notebooks/{name}.ipynb"
        assert any(link.endswith(f"_sources/{path}") for link in links)
        assert published == any(
            link.startswith("https://mybinder.org/v2/gh/") for link in links
        )
        assert published == (
            f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
            in links
        )
        assert published == any(link.endswith(repository) for link in links)


def test_buttons_come_with_an_address():
    text = (ROOT / "_config.yml").read_text()
    address = r"github\.com/[\w-]+/"
    without = yaml.safe_load(
        config(re.sub(address, f"github.com/{PLACEHOLDER}/", text))
    )
    assert "launch_buttons" not in without
    assert without["html"]["use_repository_button"] is False
    assert without["sphinx"] == yaml.safe_load(text)["sphinx"]
    published = re.sub(address, "github.com/somebody/", text)
    assert config(published) == published


def test_the_ledger_gives_every_claim_a_verdict(pages, site):
    rows = pages[site / "book" / "claims.html"].select("table.ledger tbody tr")
    names = [row.select("td")[0].get_text(strip=True) for row in rows]
    assert {f"C{i}" for i in range(1, 16)} | {f"R{i}" for i in range(1, 6)} <= {*names}
    assert len(set(names)) == len(names)
    for row in rows:
        said = row.select("td")[-1].get_text(strip=True)
        assert said.startswith(tuple(VERDICTS)), row


def test_the_examples_of_the_readme_run(tmp_path):
    """The small model stands in for the large one, a grid of tiles for the picture."""
    picture = tmp_path / "my_picture.png"
    World().example(0, family="sum").image.save(picture)
    stand_ins = {
        "Qwen/Qwen2.5-VL-7B-Instruct": str(CHECKPOINT),
        "my_picture.png": str(picture),
        'dtype="bfloat16", max_pixels=262_144': 'dtype="float32", device="cpu"',
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, stand_in in stand_ins.items():
        assert name in readme
        readme = readme.replace(name, stand_in)
    results = []
    for example in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        *setup, last = ast.parse(example).body
        names: dict = {}
        exec(compile(ast.Module(setup, []), "README.md", "exec"), names)
        results.append(eval(ast.unparse(last), names))
    advantages, own, scores = results
    assert advantages.shape == (2, 12)
    for table in (own, scores):
        assert {"token", "focus", "gate", "weight"} <= set(table.columns)
    assert {"ratio", "decay", "example"} <= set(names["analysis"].figures())


def test_every_public_name_is_on_the_api_page(pages, site):
    documented = {
        tag["id"]
        for path in (site / "book").glob("api*.html")
        for tag in pages[path].select("dt[id]")
    }
    functions = {name for name in vgpo.__all__ if callable(getattr(vgpo, name))}
    assert {name.rsplit(".")[-1] for name in documented} >= functions
    index = pages[site / "book/api.html"].select_one("article")
    assert {
        code.get_text().strip("()") for code in index.select("table a")
    } == functions


def test_docstrings_are_shown_as_they_are_meant(pages, site):
    """A colon in a docstring's first line makes a type of what stands before it; an
    indented block without "::" runs together; so does a table after "Returns: x:"."""
    faults = []
    for path in (site / "book").glob("api_*.html"):
        article = pages[path].select_one("article")
        faults += [str(tag)[:80] for tag in article.select("blockquote, ul ol, ol ul")]
        for kind in ("property", "data"):
            types = article.select(f"dl.{kind} > dd > dl.field-list > dt")
            faults += [str(t.parent) for t in types if t.get_text().startswith("Type")]
        said = article.find_all(string=True)
        text = "".join(each for each in said if not each.find_parent("pre"))
        faults += re.findall(r"={6,}|numpy\._typing\S*|:\w+:`.*|``.*", text)
    assert faults == []


def test_no_tracked_file_names_a_place_on_a_machine():
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    places = [f"/{name}/" for name in ("root", "work")]
    places += [f"{Path.home()}/", f"{ROOT}/"]
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or "mathjax" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [(name, place) for place in places if place in text]
    assert found == []
