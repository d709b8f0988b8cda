"""Every row of the table of faults has a test, and the page shows what the tests say."""

from fault_table import PAGE, README, page, table


def test_every_row_is_shown_by_a_test() -> None:
    assert [row for row, shown in table().items() if not shown.tests] == []


def test_the_page_is_the_table() -> None:
    """`python tests/fault_table.py` makes it anew."""
    assert PAGE.read_text("utf-8") == page()


def test_readme_says_what_the_table_does() -> None:
    """`python tests/fault_table.py` makes it anew."""
    assert README.read_text("utf-8") == page(README)
