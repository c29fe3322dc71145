"""A network that takes a step in a fraction of the time of yolo26n: what is tested here does not depend on its size."""

from __future__ import annotations

import pytest

TINY = """nc: 2
end2end: true
reg_max: 1
backbone:
  - {block: Conv, channels: 8, kernel: 3, stride: 2}
  - {block: Conv, channels: 16, kernel: 3, stride: 2}
  - {block: C3k2, channels: 16, c3k: false, expansion: 0.5}
  - {block: Conv, channels: 16, kernel: 3, stride: 2, name: b3}
  - {block: Conv, channels: 32, kernel: 3, stride: 2, name: b4}
head:
  - {block: Detect, from: [b3, b4]}
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny.yaml"
    path.write_text(TINY)
    return str(path)
