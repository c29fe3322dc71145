from __future__ import annotations

import base64

import cv2
import numpy as np

from sightline.artifacts.showcase import KEPT, SIDE, Showcase


def shown(scores: list[tuple[int, int, int]], asked: list[str] | None = None) -> Showcase:
    """Images 0, 1, … with (right, wrong, missed); `asked` takes the names of those whose picture was wanted."""
    showcase = Showcase()
    for number, (right, wrong, missed) in enumerate(scores):

        def picture(name: str = str(number)) -> np.ndarray:
            if asked is not None:
                asked.append(name)
            return np.zeros((2 * SIDE, SIDE, 3), np.uint8)

        showcase.add(str(number), picture, right=right, wrong=wrong, missed=missed, boxes=list)
    return showcase


def names(showcase: Showcase, kind: str) -> list[str]:
    return [row["name"] for row in showcase.rows() if row["kind"] == kind]


def test_the_worst_come_first_and_the_best_have_most_to_find():
    showcase = shown([(1, 0, 0), (5, 0, 0), (0, 0, 3), (0, 0, 1), (1, 1, 0), (0, 0, 0)])
    assert names(showcase, "worst") == ["2", "3", "4"]  # no mistake is not bad
    assert names(showcase, "best") == ["1", "0"]  # 4 is shown already; 5 has nothing in it


def test_few_are_kept_and_the_others_are_never_drawn():
    asked: list[str] = []
    showcase = shown([(10 - i, i, 0) for i in range(9)] + [(9, 0, 1)] * 50, asked)
    assert len(showcase.best) == len(showcase.worst) == KEPT
    assert showcase.worst[0].name == "8"
    assert len(asked) < 15


def test_parts_of_several_ranks_are_one_showcase():
    scores = [(i % 7, (i * 3) % 5, (i * 2) % 4) for i in range(40)]
    whole, first, second = shown(scores), shown(scores[:20]), Showcase()
    offset = shown([(0, 0, 0)] * 20 + scores[20:])
    for part in (first, offset):
        second.merge(part)
    assert second.rows() == whole.rows()


def test_pictures_are_small():
    (row,) = shown([(0, 0, 2)]).rows()
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(row["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (SIDE, SIDE // 2, 3) == (row["height"], row["width"], 3)
