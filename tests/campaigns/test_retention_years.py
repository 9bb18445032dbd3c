"""Many worlds of three simulated years, with a cleanup every day that is held against the model and every promise."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from rules.retention_promises import PROMISES, as_the_model_has_it
from rules.retention_world import Story, nights, stories


@pytest.mark.timeout(1800)
def test_no_three_years_full_of_trouble_break_a_promise_or_leave_the_model(say: Callable[[object], None]) -> None:
    seen = Counter[str]()

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(stories(days=3 * 365, chapters=30))
    def live(story: Story) -> None:
        for night in nights(story):
            as_the_model_has_it(night)
            for promise in PROMISES:
                promise(night)
            seen.update(str(one.rule) for one in night.plan.decisions)
            seen.update(f"frozen: {one.kind}" for one in night.plan.frozen)
        seen.update(worlds=1, nights=story.days)

    live()
    say(dict(sorted(seen.items())))
    assert seen["outlived"] > 1000
