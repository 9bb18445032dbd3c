"""Two locations over simulated years: what is made there, what befalls it, and a cleanup every day."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from itertools import chain
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from agent.rules.keeping import Age, Backup, Pin, Policy
from agent.rules.retention import Freeze, Location, Plan, plan, wanted
from agent.rules.timetable import DAY, slots_between

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = {"daily": "30 2 * * *", "weekly": "0 1 * * 0", "monthly": "0 0 1 * *"}
CLEANUP = "0 4 * * *"
SHIPPED = {"daily": Policy(Age(30, "d")), "weekly": Policy(Age(12, "w")), "monthly": Policy(Age(24, "mo"))}
POLICIES = (
    SHIPPED,
    {"daily": Policy(Age(5, "d")), "weekly": Policy(Age(3, "w")), "monthly": Policy(Age(2, "mo"))},
    {"daily": Policy(4), "weekly": Policy(2, minimum=3), "monthly": Policy(1)},
    {"daily": Policy(Age(9, "d"), minimum=3), "weekly": None, "manual": Policy(Age(1, "w"))},
)
LASTING = ("fails", "off", "unproved", "away")
KINDS = (
    *LASTING,
    *("rots", "rots_here", "drill", "pin", "release", "policy", "repair", "clock", "loose", "manual", "meant"),
)


class Event(Struct, frozen=True):
    """What happens on the `day`-th day, and how much of it."""

    day: int
    kind: str
    much: int


class Story(Struct, frozen=True):
    """A world's beginning and all that befalls it; without events all goes well."""

    zone: str
    begin: float
    days: int
    policies: tuple[int, int]
    events: tuple[Event, ...]


class Night(Struct, frozen=True):
    """One cleanup: the locations before it, and what it decided at `now` by the agent's own clock."""

    locations: list[Location]
    now: float
    zone: ZoneInfo
    suspicions: list[Freeze]
    meant: bool
    plan: Plan

    def left(self) -> list[Location]:
        """The locations after it."""
        gone = {(one.location, one.backup.key) for one in self.plan.expiring}
        return [
            replace(place, backups=[one for one in place.backups if (place.name, one.key) not in gone])
            for place in self.locations
        ]


@st.composite
def stories(draw: st.DrawFn, days: int, chapters: int = 10, least: int = 0) -> Story:
    """Stories of so many days, with some five events a chapter, and the policies from the `least`-th on."""
    which = st.integers(least, len(POLICIES) - 1)
    event = st.builds(Event, st.integers(0, days - 1), st.sampled_from(KINDS), st.integers(1, 9))
    return Story(
        draw(st.sampled_from(ZONES)),
        1_760_000_000.0 + draw(st.integers(0, 400)) * DAY,
        days,
        (draw(which), draw(which)),
        tuple(chain(*draw(st.lists(st.lists(event, max_size=20), max_size=chapters)))),
    )


@cache
def _slots(cron: str, begin: float, days: int, zone: str) -> list[float]:
    return slots_between(cron, begin, begin + days * DAY, ZoneInfo(zone), 10_000)


def nights(story: Story) -> Iterator[Night]:
    """Let a story happen; what a cleanup expires is gone on the next day."""
    world = _World(story)
    for day, end in enumerate(_slots(CLEANUP, story.begin, story.days, story.zone)):
        for event in story.events:
            if event.day == day:
                world.befall(event)
        night = world.night(end)
        if night is not None:
            yield night


class _World:
    """What a story has come to. Days that are still to come bad, away and so on are counted in `lasting`."""

    def __init__(self, story: Story) -> None:
        self.story, self.zone, self.passed = story, ZoneInfo(story.zone), story.begin
        self.places: dict[str, dict[tuple[str, str], Backup]] = {"primary": {}, "secondary": {}}
        self.policies = dict(zip(self.places, (POLICIES[one] for one in story.policies), strict=True))
        self.lasting: dict[str, int] = {}
        self.skew, self.meant, self.suspicions = 0.0, False, list[Freeze]()

    def befall(self, event: Event) -> None:
        """Let an event happen before the night's backup."""
        name = ("primary", "secondary")[event.much % 2]
        if event.kind in LASTING:
            self.lasting[event.kind] = event.much
        elif event.kind == "policy":
            self.policies[name] = POLICIES[event.much % len(POLICIES)]
        elif event.kind == "clock":
            self.lasting["clock"] = event.much
            self.jump((event.much - 5) * 40 * DAY)
        elif event.kind == "meant":
            self.meant = True
        elif event.kind == "repair":
            self.repair()
        elif event.kind in {"loose", "manual"}:
            self.made(event.kind, self.passed + self.skew, ours=event.kind == "manual")
        elif event.kind in {"rots", "rots_here"}:
            for one in self.newest(name)[: event.much] if event.kind == "rots" else self.newest(name)[event.much :][:1]:
                self.places[name][one.key] = replace(one, state="bad")
        else:
            self.mark(event.kind, event.much)

    def jump(self, skew: float) -> None:
        """Set the clock, so much before or behind the time that it is; the agent notices."""
        self.skew = skew
        self.suspicions = [Freeze("clock", "the clock jumped", "Look at it.")]

    def mark(self, kind: str, much: int) -> None:
        """Drill, pin or release one of the newest, in every location."""
        for one in self.newest("primary")[2 * much - 2 :][:1]:
            for place in self.places.values():
                if (copy := place.get(one.key)) is not None and kind == "drill":
                    at = {"ab"[much % 2]: self.passed + self.skew}
                    place[one.key] = replace(copy, drilled={**copy.drilled, **at})
                elif copy is not None:
                    until = self.passed + much * 10 * DAY if much % 3 else None
                    place[one.key] = replace(copy, pin=Pin(until, "audit") if kind == "pin" else None)

    def newest(self, name: str) -> list[Backup]:
        """What lies in a location, the newest first."""
        return sorted(self.places[name].values(), key=lambda one: (-one.started, one.key))

    def made(self, tier: str, at: float, *, ours: bool = True) -> None:
        """Make a backup."""
        state = "incomplete" if self.lasting.get("fails") else "unknown" if self.lasting.get("unproved") else "good"
        one = Backup(id=f"{at:.0f}", tier=tier, started=at, state=state, ours=ours, size=1)
        for name, place in self.places.items():
            if name == "primary" or not self.lasting.get("away"):
                place.setdefault(one.key, one)

    def repair(self) -> None:
        """Make what a location should have and has not from a good copy."""
        good = {one.key: one for place in self.places.values() for one in place.values() if one.counts}
        for name, place in self.places.items():
            for key in wanted(self.policies[name], good.values(), self.passed + self.skew, self.zone):
                place[key] = good[key] if key not in place or not place[key].counts else place[key]

    def night(self, end: float) -> Night | None:
        """What has come by `end`, and the cleanup then; None if the machine was off."""
        since, self.passed = self.passed, end
        if not self.lasting.get("off"):
            for tier, cron in CRONS.items():
                slots = _slots(cron, self.story.begin, self.story.days, self.story.zone)
                for at in slots[bisect_right(slots, since) : bisect_right(slots, end)]:
                    self.made(tier, at + self.skew)
        away = {"secondary": "not mounted"} if self.lasting.get("away") else {}
        off = self.lasting.pop("off", 0)
        clock = self.lasting.get("clock")
        self.lasting = {kind: left - 1 for kind, left in self.lasting.items() if left > 1}
        if clock == 1:
            self.jump(0.0)
        if off > 1:
            self.lasting["off"] = off - 1
        if off:
            return None
        if not self.lasting.get("unproved"):
            self.prove()
        return self.cleanup(end + self.skew, away)

    def prove(self) -> None:
        """Look at everything that nobody has looked at yet."""
        for place in self.places.values():
            for one in [one for one in place.values() if one.state == "unknown"]:
                place[one.key] = replace(one, state="good")

    def cleanup(self, now: float, away: dict[str, str]) -> Night:
        """Plan, and remove what is planned."""
        locations = [
            Location(name=name, backups=list(place.values()), policies=self.policies[name], away=away.get(name, ""))
            for name, place in self.places.items()
        ]
        decided = plan(locations, now, self.zone, suspicions=self.suspicions, meant=self.meant)
        night = Night(locations, now, self.zone, self.suspicions, self.meant, decided)
        for one in decided.expiring:
            del self.places[one.location][one.backup.key]
        self.suspicions = []
        # Somebody reads the alert, and does what it says.
        self.meant = decided.forceable
        if {one.kind for one in decided.frozen} == {"future"}:
            for place in self.places.values():
                for key in [key for key, one in place.items() if one.started > now]:
                    del place[key]
        return night
