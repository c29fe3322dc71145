"""From matched predictions to numbers: pure functions, and one reset/update/compute class per task."""
