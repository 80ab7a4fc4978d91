from __future__ import annotations

import pytest

from backend.label_studio.instruction import MARK, with_link, without_link

OWN = ["", "Outline each leaf.", "<p>One</p>\n<p>Two</p>\n", 'see <a href="http://host/">here</a>, 5 &lt; 6']


@pytest.mark.parametrize("own", OWN)
def test_the_line_comes_and_goes_and_leaves_the_rest_as_it_was(own: str) -> None:
    linked = with_link(own, "http://host:9090/p/1/")
    assert linked.startswith(own) and linked.count(MARK) == 1
    assert with_link(linked, "http://host:9090/p/1/") == linked
    assert without_link(linked) == own and without_link(own) == own


def test_another_address_takes_the_place_of_the_old_one_where_that_stands() -> None:
    moved = with_link(with_link("above", "http://old/p/1/") + "\nbelow", "http://new/p/1/")
    assert moved.startswith("above\n<p class") and moved.endswith("</p>\nbelow")
    assert "http://new/p/1/" in moved and "old" not in moved


def test_a_line_that_somebody_copied_is_left_once() -> None:
    twice = with_link("", "http://old/p/1/") + "middle" + with_link("", "http://old/p/1/")
    assert with_link(twice, "http://new/p/1/").count(MARK) == 1 and "middle" in with_link(twice, "http://new/p/1/")


def test_an_address_is_no_markup() -> None:
    assert "<b>" not in with_link("", 'http://host/"><b>/p/1/')
