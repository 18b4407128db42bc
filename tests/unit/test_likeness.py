"""Which name somebody may have meant: a slip or two away, never something else altogether."""

from __future__ import annotations

import pytest

from stepflow.model.likeness import alike, likeness


@pytest.mark.parametrize(
    ("wanted", "name", "far"),
    [
        ("order.paid", "order_paid", 0),
        ("order.paid", "Order-Paid", 0),
        ("order", "ordar", 1),
        ("order", "orders", 1),
        ("order", "rder", 1),
        ("order", "odrer", 1),
        ("payment", "pamyemt", 2),
        ("ab", "ba", None),
        ("payment", "pamyembs", None),
        ("approve", "approved-by-ada", 3),
        ("approved-by-ada", "approve", 3),
        ("ap", "approved", None),
        ("order", "refund", None),
        ("abcdefgh", "abcxyzgh", None),
    ],
)
def test_a_slip_is_counted_and_another_name_is_none(
    wanted: str, name: str, far: int | None
) -> None:
    assert likeness(wanted, name) == far


def test_a_name_is_not_like_itself() -> None:
    assert likeness("order", "order") is None


def test_long_names_that_differ_in_the_middle_are_not_compared_letter_by_letter() -> None:
    assert likeness("a" + "x" * 40 + "b", "a" + "y" * 40 + "b") is None
    assert likeness("a" * 40 + "x" + "b" * 40, "a" * 40 + "y" + "b" * 40) == 1


def test_the_likest_come_first_and_no_more_than_three() -> None:
    names = ["orders-old", "order", "ordres", "refund", "Orders", "order.s", "orders"]
    assert alike("orders", names) == ["Orders", "order.s", "order"]
    assert alike("orders", names, 9) == ["Orders", "order.s", "order", "ordres", "orders-old"]
    assert alike("nothing-like-it", names) == []
