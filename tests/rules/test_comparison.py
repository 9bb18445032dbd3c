import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.comparison import astray, descending, merged, more, unlike, unseen

COSINE = [(1, 1.0), (2, 0.9), (3, 0.8), (4, 0.7)]
EUCLID = [(1, 0.0), (2, 0.5), (3, 2.0), (4, 2.5)]


@pytest.mark.parametrize("recorded", [COSINE, EUCLID])
def test_the_same_answers_are_the_same_in_one_shard_or_several(recorded):
    assert not unlike(recorded, [recorded], 4)
    assert not unlike(recorded, [recorded[::2], recorded[1::2]], 4)
    assert not unlike(recorded, [recorded, []], 4)


@pytest.mark.parametrize("recorded", [COSINE, EUCLID])
def test_points_of_other_shards_that_are_farther_away_do_not_count(recorded):
    assert not unlike(recorded[:2], [recorded[:1], recorded[1:]], 2)


def test_scores_may_differ_by_what_floats_of_16_bits_do():
    assert not unlike(COSINE, [[(point, score + 0.0003) for point, score in COSINE]], 4)
    assert unlike(COSINE, [[(point, score + 0.002) for point, score in COSINE]], 4)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (COSINE[:3], "3 answers instead of 4"),
        ([*COSINE[:3], (9, 0.4)], "9 at 0.4 instead of 4 at 0.7"),
        ([(9, 1.0), *COSINE[1:]], "9 is new"),
        ([(2, 1.0), (1, 0.9), *COSINE[2:]], "1 at 0.9 instead of 1"),
        ([(9, 1.2), *COSINE[:3]], "9 at 1.2 instead of 1 at 1"),
        ([(1, math.nan), *COSINE[1:]], "1 at nan"),
    ],
)
def test_other_answers_are_told(found, why):
    assert why in unlike(COSINE, [found], 4)


def test_ties_may_come_in_any_order():
    tied = [(1, 1.0), (2, 0.5), (3, 0.5), (4, 0.5)]
    assert not unlike(tied, [[(1, 1.0), (4, 0.5), (2, 0.5), (3, 0.5)]], 4)


def test_which_of_equal_ones_are_the_last_is_chance():
    assert not unlike([(1, 1.0), (2, 0.5), (3, 0.5)], [[(1, 1.0), (8, 0.5), (9, 0.5)]], 3)
    assert unlike([(1, 1.0), (2, 1.0), (3, 0.5)], [[(1, 1.0), (9, 1.0), (3, 0.5)]], 3) == "9 is new"


def test_equal_answers_do_not_tell_which_way_they_are_sorted():
    recorded = [(1, 0.0), (2, 0.0)]
    assert not unlike(recorded, [[(1, 0.0)], [(2, 0.0), (3, 4.0)]], 2)
    assert not unlike([(1, 4.0)], [[(1, 4.0)], [(3, 0.0)]], 1)


def test_no_answers_are_the_same_as_none():
    assert not unlike([], [[], []], 10)
    assert unlike([], [[(1, 0.5)]], 10) == "1 answers instead of 0"


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), max_size=12), st.integers(1, 4), st.booleans(), st.integers()
)
def test_however_points_are_spread_over_shards_their_answers_are_the_same(scores, shards, falling, seed):
    dice = random.Random(seed)  # noqa: S311 - a seed, not a secret
    points = sorted(enumerate(scores), key=lambda one: one[1], reverse=falling)
    parts = [[] for _ in range(shards)]
    for point in dice.sample(points, len(points)):
        dice.choice(parts).append(point)
    for part in parts:
        part.sort(key=lambda one: one[1], reverse=falling)
    assert not unlike(points[:5], [part[:5] for part in parts], 5)


def test_the_order_of_shards_answers_is_seen_where_there_is_one():
    assert descending([[(1, 0.9), (2, 0.1)]])
    assert not descending([[(1, 0.5)], [(2, 0.1), (3, 0.4)]])
    assert descending([[], [(1, 0.5)]])
    assert merged([[(1, 0.1)], [(2, 0.3)], [(3, 0.2)]], 2, descending=False) == [(1, 0.1), (3, 0.2)]


def test_a_sample_without_a_change_leaves_some_unseen():
    assert unseen(0, 1000, 100_000) == 300
    assert unseen(0, 10_000_000, 0) == 0
    assert 20 <= unseen(10, 1000, 1000) <= 25
    assert unseen(500, 1000, 5000) <= 5000
    assert unseen(0, 0, 5000) == 5000


def test_only_what_is_beyond_doubt_is_more():
    assert more(0, 1000, 100, 1000)
    assert not more(0, 1000, 5, 1000)  # as chance has it
    assert not more(300, 1000, 400, 1000)
    assert not more(300, 1000, 8, 10)
    assert more(300, 1000, 500, 1000)
    assert not more(0, 5, 5, 10)  # so few were recorded that nobody knows
    assert not more(0, 0, 10, 10)
    assert not more(0, 1_000_000, 2, 10)


def test_an_id_that_several_shards_have_counts_once():
    assert merged([[(1, 0.9), (2, 0.5)], [(1, 0.7), (3, 0.6)]], 3, descending=True) == [(1, 0.9), (3, 0.6), (2, 0.5)]


def test_answers_whose_scores_may_change_have_to_be_mostly_the_same_points():
    assert not astray(COSINE, [[(point, score / 3) for point, score in COSINE]], 4)
    assert not astray(COSINE, [[(8, 5.0), (9, 4.0), *COSINE[:2]]], 4)
    assert astray(COSINE, [[(7, 6.0), (8, 5.0), (9, 4.0), *COSINE[:1]]], 4) == "7 at 6 instead of 1 at 1"
    assert not astray([], [[]], 4)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (COSINE, ""),
        ([(9, 0.95), *COSINE[:3]], ""),  # somebody put it there, and took it away
        ([(8, 0.99), (9, 0.95), *COSINE[:2]], ""),
        ([*COSINE, (9, 0.6)], ""),
        (COSINE[:3], "3 answers instead of 4"),
        ([*COSINE[:3], (9, 0.4)], "4 is missing"),
        ([(9, 0.95), *COSINE[1:]], "1 is missing"),
        ([(2, 0.95), (1, 0.9), *COSINE[2:]], "1 at 0.9 instead of 1"),
    ],
)
def test_while_it_was_written_to_points_may_have_come_and_gone(found, why):
    assert unlike(COSINE, [found], 4, quiet=False) == why
    reached = [(point, 2 - 2 * score) for point, score in COSINE]
    assert bool(unlike(reached, [[(p, 2 - 2 * score) for p, score in found]], 4, quiet=False)) == bool(why)


def test_while_it_was_written_to_few_answers_may_have_become_more():
    assert not unlike([(1, 0.5)], [[(2, 0.9), (1, 0.5), (3, 0.2)]], 10, quiet=False)
    assert unlike([(1, 0.5)], [[(2, 0.9), (3, 0.2)]], 10, quiet=False) == "1 is missing"
    assert not unlike([], [[(2, 0.9)]], 10, quiet=False)
