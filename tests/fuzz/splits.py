"""Random sets of named parts: what is for training is not for validation too."""

import random
from pathlib import Path

from detcore.data.faults import NoSplit
from detcore.data.splits import part

PARTS = (
    *("train", "Training", "val", "valid", "VALIDATION", "test", "testing", "trainval"),
    *("default", "", "obj_train_data", "batch 1"),
)
SHARES = (None, None, 0.0, 0.05, 0.2, 0.5, 0.9, 1.0)


class SplitFuzz:
    """Up to four parts of up to forty pictures each, and a share to hold out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def case(self, rng: random.Random) -> None:
        """Run one case; raises AssertionError, or an exception of `part`."""
        own = {
            name: [f"{rng.randrange(10**6)}-{name}" for _ in range(rng.choice((0, 1, 3, 40)))]
            for name in rng.sample(PARTS, rng.randint(1, 4))
        }
        share = rng.choice(SHARES)
        train, val, whole = (self._part(own, split, share) for split in ("train", "val", "all"))
        told = f"{own}, share {share}: train {sorted(train)}, val {sorted(val)}"
        assert train | val <= whole, told
        # one picture, or few, may all fall to one side, which then is both
        assert not train & val or train == val, told

    def _part(self, own: dict[str, list[str]], split: str, share: float | None) -> set[str]:
        try:
            return set(part(own, split, self.root, name_of=str, val_share=share))
        except NoSplit as error:
            said = str(error)
        assert said.startswith(str(self.root)), said
        return set()
