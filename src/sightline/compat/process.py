"""Which of several processes this is, under the names that scripts know."""

from __future__ import annotations

import os


class Rank(int):
    """A rank as an ordinary number that is not carried to another process: there it is that process's own.

    Functions of a script travel to the other processes with the globals they use, and `RANK` among them must not stay
    that of the process they come from.
    """

    variable: str

    def __new__(cls, variable: str) -> Rank:
        rank = super().__new__(cls, os.environ.get(variable, -1))
        rank.variable = variable
        return rank

    def __reduce__(self) -> tuple[type[Rank], tuple[str]]:
        return Rank, (self.variable,)


RANK = Rank("RANK")  # among all processes of the run; -1 where there is only one
LOCAL_RANK = Rank("LOCAL_RANK")  # on this machine
