"""What no cleanup may ever break, each for itself, told of one night."""

from collections.abc import Iterable
from itertools import groupby

from msgspec.structs import replace
from rules.retention_model import ago, frozen, kept, proved, too_old, wants
from rules.retention_world import Night

from agent.rules.keeping import Age, Backup
from agent.rules.retention import Location, plan


def series(place: Location) -> dict[str, list[Backup]]:
    """The good backups of each tier, the oldest first."""
    good = sorted((one for one in place.backups if proved(one)), key=lambda one: (one.tier, one.started))
    return {tier: list(ones) for tier, ones in groupby(good, key=lambda one: one.tier)}


def both(night: Night) -> Iterable[tuple[Location, Location]]:
    """Every location before and after."""
    return zip(night.locations, night.left(), strict=True)


def gone(night: Night) -> list[tuple[Location, Backup]]:
    """What went, and where it lay."""
    places = {one.name: one for one in night.locations}
    return [(places[one.location], one.backup) for one in night.plan.expiring]


def as_the_model_has_it(night: Night) -> None:
    """The same stays as in the reference model, and the same is frozen for the same reasons."""
    stay = kept(night.locations, night.now, night.zone)
    kinds = frozen(night.locations, stay, night.now, newest=3, share=0.5) - ({"share"} if night.meant else set())
    assert {one.kind for one in night.plan.frozen} == kinds | {one.kind for one in night.suspicions}
    if not night.plan.frozen:
        assert {(one.location, *one.backup.key) for one in night.plan.decisions if one.action == "keep"} == stay


def every_copy_has_one_decision_and_a_reason(night: Night) -> None:
    decided = [(one.location, one.backup.key) for one in night.plan.decisions]
    assert sorted(decided) == sorted((place.name, one.key) for place in night.locations for one in place.backups)
    assert all(one.because for one in night.plan.decisions)


def the_newest_good_one_of_each_tier_stays(night: Night) -> None:
    for before, after in both(night):
        left = series(after)
        assert {tier: ones[-1] for tier, ones in series(before).items()} == {tier: left[tier][-1] for tier in left}


def the_newest_good_one_of_all_stays(night: Night) -> None:
    for before, after in both(night):
        good = [one for one in before.backups if proved(one)]
        assert not good or max(good, key=lambda one: one.started) in after.backups


def the_last_drilled_one_of_each_collection_stays(night: Night) -> None:
    for before, after in both(night):
        for collection in "ab":
            drilled = [one for one in before.backups if proved(one) and collection in one.drilled]
            assert not drilled or max(one.drilled[collection] for one in drilled) in {
                one.drilled.get(collection) for one in after.backups if proved(one)
            }


def the_minimum_stays(night: Night) -> None:
    for before, after in both(night):
        for tier, ones in series(before).items():
            policy = before.policies.get(tier)
            least = min(policy.minimum, len(ones)) if policy else len(ones)
            assert series(after)[tier][-least:] == ones[-least:]


def what_is_pinned_stays(night: Night) -> None:
    for _, one in gone(night):
        assert one.pin is None or (one.pin.until is not None and one.pin.until <= night.now)


def what_is_not_ours_stays(night: Night) -> None:
    assert all(one.ours for _, one in gone(night))


def what_nobody_has_proved_stays(night: Night) -> None:
    assert all(one.state != "unknown" for _, one in gone(night))


def what_no_policy_speaks_of_stays(night: Night) -> None:
    assert all(place.policies.get(one.tier) is not None for place, one in gone(night))


def every_moment_of_the_time_asked_for_can_be_gone_back_to(night: Night) -> None:
    """For each moment since then, the newest good backup before it is the one that it was."""
    for before, after in both(night):
        for tier, ones in series(before).items():
            policy = before.policies.get(tier)
            if policy is not None and isinstance(policy.keep, Age):
                first = ago(night.now, policy.keep, night.zone)
                moments = [first, *(one.started for one in ones if one.started > first)]
                for moment in moments:
                    was = [one for one in ones if one.started <= moment][-1:]
                    assert [one for one in series(after)[tier] if one.started <= moment][-1:] == was


def nothing_goes_before_its_time(night: Night) -> None:
    for place, one in gone(night):
        policy = place.policies[one.tier]
        newer = [other for other in place.backups if proved(other) and other.tier == one.tier]
        newer = [other for other in newer if other.started > one.started]
        assert policy is not None
        assert too_old(one, newer, policy, night.now, night.zone)


def what_is_bad_goes_only_after_a_newer_one_is_good(night: Night) -> None:
    for place, one in gone(night):
        assert series(place)[one.tier][-1].started > one.started


def the_last_good_copy_stays_while_a_location_is_to_keep_it(night: Night) -> None:
    before, after = (
        {one.key: one for place in places if not place.away for one in place.backups if proved(one)}
        for places in (night.locations, night.left())
    )
    for key in before.keys() - after.keys():
        for place in night.locations:
            assert not wants(place, before[key], before.values(), night.now, night.zone)


def a_frozen_cleanup_removes_nothing(night: Night) -> None:
    assert not (night.plan.frozen and night.plan.expiring)


def nothing_goes_where_nobody_can_look(night: Night) -> None:
    assert not any(place.away for place, _ in gone(night))


def a_second_cleanup_finds_nothing_to_do(night: Night) -> None:
    if not night.plan.frozen:
        assert not plan(night.left(), night.now, night.zone, meant=True).expiring


def the_order_of_what_is_known_changes_nothing(night: Night) -> None:
    turned = [replace(place, backups=place.backups[::-1]) for place in night.locations]
    assert plan(turned, night.now, night.zone, suspicions=night.suspicions, meant=night.meant) == night.plan


PROMISES = (
    every_copy_has_one_decision_and_a_reason,
    the_newest_good_one_of_each_tier_stays,
    the_newest_good_one_of_all_stays,
    the_last_drilled_one_of_each_collection_stays,
    the_minimum_stays,
    what_is_pinned_stays,
    what_is_not_ours_stays,
    what_nobody_has_proved_stays,
    what_no_policy_speaks_of_stays,
    every_moment_of_the_time_asked_for_can_be_gone_back_to,
    nothing_goes_before_its_time,
    what_is_bad_goes_only_after_a_newer_one_is_good,
    the_last_good_copy_stays_while_a_location_is_to_keep_it,
    a_frozen_cleanup_removes_nothing,
    nothing_goes_where_nobody_can_look,
    a_second_cleanup_finds_nothing_to_do,
    the_order_of_what_is_known_changes_nothing,
)
