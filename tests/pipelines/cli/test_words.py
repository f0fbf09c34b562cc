"""What an operator says of itself, in few words and in Markdown."""

from pipelines.cli.words import goes_text, halo_text, keeps_text, markdown_table, with_table

ENTRY = {
    "name": "melt",
    "purpose": "ice goes where |u| is large",
    "module": "ice.melt",
    "equation": "∂u/∂t = -|u|",
    "goes_by": "time",
    "cycles": False,
    "halo": {
        "step": {"cells": 1, "about": "1, or more"},
        "cycle": {"cells": 3, "about": "the reach of a Gaussian"},
    },
    "keeps_maximum": True,
    "keeps_mean": False,
    "reads_guide": True,
    "dimensions": [2],
}


def test_words_say_how_it_goes_and_what_it_keeps():
    assert goes_text(ENTRY) == "time, in steps"
    assert goes_text({**ENTRY, "cycles": True}) == "time, in cycles or steps"
    assert goes_text({**ENTRY, "goes_by": "once"}) == "once"
    assert keeps_text(ENTRY) == "maximum"


def test_halo_names_its_parts():
    assert halo_text(ENTRY) == "1 pixel per step: or more; 3 pixels per cycle: the reach of a Gaussian"
    one = {"goes_by": "once", "halo": {"step": {"cells": None, "about": "the word"}}}
    assert halo_text(one) == "the word"
    assert halo_text({**ENTRY, "goes_by": "iterations"}).startswith("1 pixel per iteration")


def test_a_row_links_the_file_and_shows_the_picture():
    one = "[`melt`](ice/melt.py): ice goes where \\|u\\| is large | ![melt](notebooks/pictures/melt.png) |"
    assert markdown_table([ENTRY] * 3).endswith(f"\n| {one} {one}\n| {one}  |  |")


def test_only_what_is_between_the_marks_is_written_anew():
    text = "Above.\n\n" + with_table("", [ENTRY]) + "\n\nBelow.\n"
    assert with_table(text, [ENTRY]) == text
    other = with_table(text, [{**ENTRY, "name": "freeze", "module": "ice.freeze"}])
    assert other.startswith("Above.\n")
    assert other.endswith("\nBelow.\n")
    assert "freeze" in other
    assert "melt" not in other
