from __future__ import annotations

import pytest
import torch

from sightline.errors import DataError
from sightline.losses.targets import on_host, pad_targets, send_and_keep

SCALE = torch.tensor([100.0, 50.0, 100.0, 50.0])


def test_rows_worked_by_hand_in_any_order():
    rows = torch.tensor(
        [
            [2.0, 5.0, 0.5, 0.5, 0.2, 0.4],
            [0.0, 1.0, 0.5, 0.5, 1.0, 1.0],
            [2.0, 3.0, 0.1, 0.1, 0.2, 0.2],
        ]
    )
    padded = pad_targets(rows, 3, SCALE)
    expected = torch.zeros(3, 2, 5)
    expected[0, 0] = torch.tensor([1.0, 0.0, 0.0, 100.0, 50.0])
    expected[2, 0] = torch.tensor([5.0, 40.0, 15.0, 60.0, 35.0])  # rows of one image keep their order
    expected[2, 1] = torch.tensor([3.0, 0.0, 0.0, 20.0, 10.0])
    torch.testing.assert_close(padded, expected)


def test_no_rows():
    assert pad_targets(torch.zeros(0, 6), 3, SCALE).shape == (3, 0, 5)


@pytest.mark.parametrize("image", [-1.0, 3.0])
def test_a_row_of_an_image_that_is_not_there_is_an_error(image):
    rows = torch.tensor([[image, 0.0, 0.5, 0.5, 0.1, 0.1]])
    with pytest.raises(DataError, match="the batch has 3 images"):
        pad_targets(rows, 3, SCALE)


def test_what_was_sent_is_known_on_the_host_until_somebody_changes_it():
    rows = torch.arange(6.0)
    sent = send_and_keep(rows, torch.device("meta"))  # a device whose values cannot be read back
    assert on_host(sent) is rows
    assert on_host(rows) is rows
    sent.mul_(2)
    with pytest.raises((NotImplementedError, RuntimeError)):
        on_host(sent)  # now it must be fetched, which this device cannot
    with pytest.raises((NotImplementedError, RuntimeError)):
        on_host(send_and_keep(rows, torch.device("meta")) * 2)
