"""Pools: shares are exact and even, jobs stay where they are, who is out gets nothing, and nothing is ever without a sender."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mta.policy.pools import REMEMBERED_JOBS, Pools
from mta.policy.rules import PoolRules, VmtaRules

NAMES = ("a", "b", "c", "d")
VMTAS = [VmtaRules(name) for name in NAMES]


def pools(sticky: str = "", **weights: int) -> Pools:
    return Pools(VMTAS, [PoolRules("p", tuple(weights.items()), sticky)])


def turns(pool: Pools, count: int, job: str = "") -> str:
    return "".join(str(pool.choose("p", job)) for _ in range(count))


def test_turns_go_by_weight_and_are_spread() -> None:
    assert turns(pools(a=3, b=1), 8) == "aabaaaba"
    assert turns(pools(a=1, b=1), 4) == "abab"
    assert turns(pools(a=5, b=1, c=1), 7) == "aabacaa"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5))
def test_after_whole_rounds_every_share_is_exact(weights: list[int], rounds: int) -> None:
    members = dict(zip(NAMES, weights, strict=False))
    got = Counter(turns(pools(**members), rounds * sum(weights)))
    assert got == {name: weight * rounds for name, weight in members.items()}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 60))
def test_at_no_time_is_a_share_off_by_more_than_a_turn(weights: list[int], count: int) -> None:
    members = dict(zip(NAMES, weights, strict=False))
    got = Counter(turns(pools(**members), count))
    for name, weight in members.items():
        assert abs(got[name] - count * weight / sum(weights)) < len(weights)


def test_a_name_of_a_virtual_mta_is_itself_and_an_unknown_name_nobody() -> None:
    found = pools(a=1)
    assert (found.choose("b", ""), found.choose("x", "")) == ("b", None)
    assert Pools().choose("default", "job") == "default"


def test_who_is_out_gets_nothing_and_is_owed_nothing_when_it_comes_back() -> None:
    found = pools(a=2, b=1, c=1)
    found.leave_out(["a"])
    assert turns(found, 4) == "bcbc"
    found.leave_out([])
    assert Counter(turns(found, 4)) == {"a": 2, "b": 1, "c": 1}


def test_a_change_elsewhere_takes_nobody_s_turn() -> None:
    found = pools(a=1, b=1)
    assert turns(found, 1) == "a"
    found.leave_out(["d"])
    assert turns(found, 1) == "b"


def test_when_all_are_out_the_choice_is_made_as_if_none_were() -> None:
    found = pools(a=1, b=1)
    found.leave_out(NAMES)
    assert turns(found, 4) == "abab"


JOBS = [f"job-{number}" for number in range(400)]


def placed(found: Pools) -> dict[str, str]:
    return {job: str(found.choose("p", job)) for job in JOBS}


def test_a_job_stays_with_one_member_whoever_asks() -> None:
    one, other = pools("job", a=1, b=1, c=1), pools("job", a=1, b=1, c=1)
    assert turns(other, 1)  # mail without a job between moves nothing
    assert placed(one) == placed(one) == placed(other)
    assert set(placed(one).values()) == {"a", "b", "c"}


def test_a_member_that_leaves_moves_its_own_jobs_only_and_gets_them_back() -> None:
    found = pools("job", a=1, b=1, c=1)
    before = placed(found)
    found.leave_out(["b"])
    without = placed(found)
    assert "b" not in without.values()
    assert all(without[job] == name for job, name in before.items() if name != "b")
    found.leave_out([])
    assert placed(found) == before


def test_jobs_are_shared_by_weight() -> None:
    share = Counter(placed(pools("job", a=3, b=1)).values())["a"] / len(JOBS)
    assert 0.68 < share < 0.82  # 75 %, and four times its standard deviation


def test_mail_without_a_job_takes_turns_in_a_sticky_pool() -> None:
    assert turns(pools("job", a=1, b=1), 4) == "abab"


def test_a_choice_that_was_forgotten_is_made_the_same_again() -> None:
    found = pools("job", a=1, b=1, c=1)
    before = placed(found)
    for number in range(REMEMBERED_JOBS):
        found.choose("p", f"other-{number}")
    assert placed(found) == before
