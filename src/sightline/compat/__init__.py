"""Scripts whose imports say `ultralytics`, on sightline: `enable()` before the imports, or `sightline run script.py`.

Nothing happens until somebody asks. `table.py` is the one list of what such an import gets.
"""

from sightline.compat.switch import disable, enable, is_enabled

__all__ = ["disable", "enable", "is_enabled"]
