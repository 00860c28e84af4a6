"""The paper's numbers as they are printed agree with each other."""

import numpy as np
import pytest

from vgpo.studies import reported


@pytest.mark.parametrize("method", ["DAPO", "VGPO"])
def test_means_of_the_benchmarks_are_the_averages_that_are_reported(method):
    parts = np.split(np.array(reported.ACCURACIES["7B", method]), [len(reported.MATH)])
    means = [part.mean() for part in parts]
    # Both are rounded to a tenth.
    assert means == pytest.approx(reported.AVERAGES[method], abs=0.051)


def test_gains_are_differences_and_their_means():
    found = reported.gains()
    assert found.loc["MMK12", "32B"] == pytest.approx(87.3 - 82.0)
    assert found.loc["Geo3K", "3B"] == pytest.approx(-0.2)
    assert list(found.index) == [
        *reported.MATH, "mean, mathematics", *reported.VISION, "mean, vision"
    ]  # fmt: skip
    means = np.subtract(reported.AVERAGES["VGPO"], reported.AVERAGES["DAPO"])
    shown = found.loc[["mean, mathematics", "mean, vision"], "7B"]
    assert shown.to_numpy() == pytest.approx(means, abs=0.11)
    others = found.loc[["LogicVista", "MMMU-Pro", "MathVerse-V"], "7B"]
    assert others.mean() == pytest.approx(1.5)  # what chapter 08 says
