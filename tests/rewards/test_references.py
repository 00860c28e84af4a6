"""References: what no answer can match is an error, and known wrapping comes off."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from vgpo.rewards import accuracy_reward, parse_reference, strip_reference


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3", "3"),
        (" 3 ", "3"),
        ("<answer>D</answer>", "D"),
        ("<answer> D </answer>", "D"),
        ("<ANSWER>D</ANSWER>", "D"),
        ("<think>A?</think>\n<answer>D</answer>", "D"),
        ("<think>long</think> 7", "7"),
        ("<answer>A</answer> no: <answer>B</answer>", "B"),
        (r"<answer>\boxed{7}</answer>", "7"),
        ("#### 3", "3"),
        ("5 * 2 = 10\n#### 10", "10"),
        ("#### 1,000", "1,000"),
        ("The answer is 3.", "3"),
        ("the answer is: 3", "3"),
        ("Answer: B", "B"),
        ("Final answer: 1/2", "1/2"),
        ("We add 1 and 2. So the final answer is 3.", "3"),
        ("**Answer:** 3", "3"),
        (r"It is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        ("<final>3</final>", "3"),
        ("<b>red</b> or <b>blue</b>", "<b>red</b> or <b>blue</b>"),
        ("x<3>y", "x<3>y"),
        ("```3```", "3"),
        ("```text\n3\n```", "3"),
        ("The correct option is (C).", "(C)"),
        ("The best option is to wait", "The best option is to wait"),
        ("答案：3", "3"),
        ("因此答案是：红色。", "红色"),
        ("答案", "答案"),
        ("f(x)", "f(x)"),
        ("None of the above", "None of the above"),
        ("(1, 2)", "(1, 2)"),
        ("[1, 2]", "[1, 2]"),
        (r"\{1, 2\}", r"\{1, 2\}"),
        ("'quoted'", "'quoted'"),
        (3, "3"),
        (-7, "-7"),
        (3.0, "3"),
        (0.5, "0.5"),
        (-2.75, "-2.75"),
        (np.int64(4), "4"),
        (np.float64(0.25), "0.25"),
        (Fraction(1, 3), "1/3"),
    ],
)
def test_references(value, text):
    assert parse_reference(value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "None is no reference answer"),
        (float("nan"), "nan is no reference answer"),
        (float("inf"), "inf is no reference answer"),
        ("array([3])", "how Python prints an object"),
        ("tensor(3)", "how Python prints an object"),
        ("np.float64(3.5)", "how Python prints an object"),
        ("Decimal('3')", "how Python prints an object"),
        ("b'3'", "how Python prints an object"),
        ("<Row object at 0x7f3a>", "how Python prints an object"),
        (True, "truth value"),
        (np.bool_(False), "truth value"),
        ("", "empty"),
        ("  \n", "empty"),
        ("<answer></answer>", "empty"),
        ("####", "empty"),
        (r"\boxed{}", "empty"),
        ("nan", "missing value"),
        ("NULL", "missing value"),
        ("<NA>", "missing value"),
        (["3", "three"], "is a list"),
        (["3"], "is a list"),
        ([], "is a list"),
        ((3,), "is a list"),
        ({"ground_truth": "3"}, "is a dictionary"),
        (b"3", "type bytes"),
        (np.array([3]), "type ndarray"),
        (Decimal("1"), "type Decimal"),
        ("['3', 'three']", "printed list"),
        ('["3"]', "printed list"),
        ("{'ground_truth': '3'}", "printed list or dictionary"),
        (0.1 + 0.2, "0.30000000000000004 is a form in which nobody writes"),
        (3.0000000000000004, "nobody writes"),
        (1e22, "1e.22 is a form in which nobody writes"),
        (1e-7, "nobody writes"),
        (np.float32(0.1), "nobody writes"),
        ("3.0000000000000004", "rounding error"),
        ("0.30000000000000004", "rounding error"),
        ("2.9999999999999996", "rounding error"),
        ("word " * 100, "characters"),
    ],
)
def test_what_no_answer_can_match(value, message):
    with pytest.raises(ValueError, match=message):
        parse_reference(value)


def test_label_ids_are_read_as_their_names():
    assert parse_reference(0, label_names=["cat", "dog"]) == "cat"
    for value in (2, -1, "cat", True, None, 0.0):
        with pytest.raises(ValueError, match="label id"):
            parse_reference(value, label_names=["cat", "dog"])


@pytest.mark.parametrize("text", ["3", "3 apples", "A. red", "10-20", "x = 5", "#3"])
def test_plain_references_stay_as_they_are(text):
    assert strip_reference(text) == text


def test_the_reward_takes_known_wrapping_off():
    references = ["<answer>D</answer>", "#### 3", "The answer is 3.", r"\boxed{3}"]
    boxed = ["D", "3", "3", "3"]
    texts = [rf"\boxed{{{one}}}" for one in boxed]
    assert accuracy_reward(texts, answer=references) == [1.0] * 4
    assert accuracy_reward([r"\boxed{E}"] * 4, answer=references) == [0.0] * 4
