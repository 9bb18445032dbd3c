"""Cleanups over simulated years: as the reference model has it, and never against a promise."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from rules.retention_promises import PROMISES, as_the_model_has_it
from rules.retention_world import ZONES, Story, nights, stories

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(calm, max_examples=1)  # the campaign has more
@given(stories(days=3 * 365))
@example(Story(ZONES[0], 1_760_000_000.0, 3 * 365, (0, 0), ()))
def test_three_years_keep_what_the_reference_model_keeps_every_day(story: Story) -> None:
    for night in nights(story):
        as_the_model_has_it(night)


@settings(calm, max_examples=50)
@given(stories(days=60, least=1))
def test_two_months_full_of_trouble_keep_what_the_reference_model_keeps(story: Story) -> None:
    for night in nights(story):
        as_the_model_has_it(night)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@settings(calm, max_examples=20)
@given(story=stories(days=40, least=1))
def test_a_promise_holds(promise, story: Story) -> None:
    for night in nights(story):
        promise(night)
