from __future__ import annotations

import pytest

from sightline.config.moments import epoch_of
from sightline.config.settings import Settings
from sightline.errors import SettingsError


@pytest.mark.parametrize("value", [300, 0.5, [100, 200], [0.25, 400], (3, 1), 5.0])
def test_moments(value):
    given = Settings(restart_epoch=value).restart_epoch
    assert given == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "300", [], [100, 100], [0], True, {"a": 1}, float("nan")])
def test_what_is_no_moment(value):
    with pytest.raises(SettingsError, match="restart_epoch"):
        Settings(restart_epoch=value)


def test_a_share_is_rounded_to_an_epoch():
    assert [epoch_of(moment, 600) for moment in (0.5, 300, 700, 0.0001)] == [300, 300, 700, 0]
