"""What differs between the versions of scikit-learn that the estimators run on, one entry each."""

from __future__ import annotations

from typing import ClassVar

import sklearn

from ..core import compat

OLDEST: compat.Version = (1, 7)
NEWEST: compat.Version = (1, 9)  # that the tests have passed on


class Change(compat.Change):
    """What scikit-learn does since a version, and did before; true where the one that runs has it."""

    package: ClassVar[str] = "scikit-learn"
    running: ClassVar[compat.Version] = compat.version(sklearn.__version__)


STOPS_BY_OBJECTIVE = Change(
    (1, 8),
    "Perceptron stops by its loss and penalty, and prints them",
    "by its loss alone; the norm that it prints knows nothing of what an l1 penalty cuts off",
    "stops as scikit-learn, prints the same on every version",
)
