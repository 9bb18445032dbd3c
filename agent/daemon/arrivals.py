"""What has arrived and is not judged yet: settling, being read, or waiting for its checksum file."""

import os
from collections.abc import Callable, Mapping

from agent.adapters.ledger.catalogue import Key
from agent.jobs.intake.reading import Outcome, Work
from agent.jobs.intake.survey import Place, Survey
from agent.rules.archive import Reading, Signature
from agent.rules.checksums import is_checksum_file
from agent.rules.settle import Settling, promisers
from agent.rules.words import raw

_FILES = 1024
_BYTES = 64 << 20


class Arrivals:
    """Keeps every file from its first sighting to its verdict; nothing is read twice meanwhile.

    `known` tells the signature under which the catalogue already holds a file, and what was proved of its content.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        settle: float,
        known: Callable[[Key], tuple[Signature | None, Reading | None]],
    ) -> None:
        self._roots = {name: place.path for name, place in places.items()}
        self._settling: Settling[Key] = Settling(settle)
        self._reading: dict[Key, Signature] = {}
        self._known = known

    def __len__(self) -> int:
        return len(self._settling) + len(self._reading)

    def surveyed(self, survey: Survey, now: float) -> None:
        """Take in what a survey found new or changed, and forget what it found gone."""
        for key, signature in survey.changed:
            if self._reading.get(key) != signature and self._known(key)[0] != signature:
                self._settling.see(key, signature, now)
        for key in survey.gone:
            self._settling.drop(key)

    def ready(self, now: float, busy: set[str]) -> dict[str, list[Work]]:
        """What has come to rest in the locations that are not busy, in portions of one worker's task.

        Checksum files come first, so that what they promise is known when their archive is judged.
        """
        rested = {key: found for key, found in self._settling.ready(now) if key.location not in busy}
        portions: dict[str, list[Work]] = {}
        weight: dict[str, int] = {}
        full: set[str] = set()
        for key in sorted(rested, key=lambda one: not is_checksum_file(one.name)):
            if key.location in full or key in self._reading or self._promise_pending(key, rested):
                continue
            portion = portions.setdefault(key.location, [])
            weight[key.location] = weight.get(key.location, 0) + rested[key].size
            if portion and (len(portion) == _FILES or weight[key.location] > _BYTES):
                full.add(key.location)
            else:
                portion.append(self._work(key, rested[key]))
        for portion in portions.values():
            for work in portion:
                self._settling.drop(work.key)
                self._reading[work.key] = rested[work.key]
        return portions

    def answered(self, outcomes: list[Outcome], now: float) -> list[Outcome]:
        """Take back what was read; returns what can be judged. The rest begins to settle anew."""
        whole = []
        for outcome in outcomes:
            expected = self._reading.pop(outcome.key, None)
            if not outcome.moved:
                whole.append(outcome)
            elif outcome.signature is not None:
                if outcome.signature == expected:
                    self._settling.restart(outcome.key, outcome.signature, now)
                else:
                    self._settling.see(outcome.key, outcome.signature, now)
        return whole

    def give_back(self, location: str, now: float) -> None:
        """The worker failed: what it had in hand is looked at again."""
        for key in [one for one in self._reading if one.location == location]:
            self._settling.restart(key, self._reading.pop(key), now)

    def next_at(self) -> float | None:
        """When the next file may come to rest."""
        return self._settling.next_at()

    def stalled(self, now: float) -> list[Key]:
        """What has been arriving for more than an hour."""
        return self._settling.stalled(now)

    def _promise_pending(self, key: Key, rested: Mapping[Key, Signature]) -> bool:
        """Whether a checksum file that may speak of this archive is still being written or read."""
        if is_checksum_file(key.name):
            return False
        for name in promisers(key.name):
            other = Key(key.location, key.folder, name)
            if other in self._settling and other not in rested:
                return True
        return False

    def _work(self, key: Key, signature: Signature) -> Work:
        path = os.path.join(self._roots[key.location], raw(key.folder), raw(key.name))
        return Work(key, path, signature, self._known(key)[1])
