"""The table of families: its page shows its record, and its record is what comes out.

One family of each kind is measured by default; all of them where slow tests are run.
"""

import json

import every_family
import families
import families_table
import processors
import pytest
import transformers
from families_table import PAGE, RECORD, measure, render

RECORDED = json.loads(RECORD.read_text(encoding="utf-8"))
BY_FAMILY = {entry["family"]: entry for entry in RECORDED["families"]}


def test_the_page_shows_the_record():
    assert PAGE.read_text(encoding="utf-8") == render(RECORDED)


def test_the_record_holds_every_family_of_its_version():
    if transformers.__version__ != RECORDED["transformers"]:
        pytest.skip("recorded with another version of transformers")
    assert sorted(BY_FAMILY) == sorted(every_family.FAMILIES)


def test_every_record_says_what_works_or_why_not():
    for entry in BY_FAMILY.values():
        assert entry["state"] in families_table.STATES
        assert ("why" in entry) is (entry["state"] != "works")
        assert ("maps" in entry) is (entry["state"] == "works")


def test_the_families_that_the_tests_are_written_for_work():
    for name in families.FAMILIES:
        assert BY_FAMILY[name]["state"] == "works"


@pytest.mark.parametrize(
    "name", ["qwen3_5_moe", "paligemma", "llava_onevision", "florence2", "fast_vlm"]
)
def test_one_family_of_each_kind_comes_out_as_recorded(name):
    found = measure(name, training=False)
    recorded = {key: found.get(key) for key in found}
    assert recorded == {key: BY_FAMILY[name].get(key) for key in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(processors.ENTRIES))
def test_every_family_with_a_processor_comes_out_as_recorded(name):
    """Training as well: where it is said to work, every row of every pass got the
    log-probabilities that it has alone (``largest_error``)."""
    assert measure(name) == BY_FAMILY[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(every_family.FAMILIES) - {*processors.ENTRIES})
)
def test_every_other_family_comes_out_as_recorded(name):
    assert measure(name) == BY_FAMILY[name]
