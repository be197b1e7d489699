import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import LicenseError
from licensing.memory import MAX_KNOWN, Memory

SEEN = st.lists(st.tuples(st.sampled_from("KLM"), st.sampled_from("ab"), st.integers(1, 9)))


@given(SEEN, st.sets(st.sampled_from("KLM")))
def test_the_highest_revision_counts_of_all_keys_that_were_not_stolen(
    seen: list[tuple[str, str, int]], stolen: set[str]
) -> None:
    memory = Memory()
    for key, license_id, revision in seen:
        memory = memory.with_begun(key, license_id, revision)
    for license_id in "ab":
        counted = [each for key, name, each in seen if name == license_id and key not in stolen]
        assert memory.highest(license_id, stolen.__contains__) == max(counted, default=0)


def test_the_first_sight_of_a_licence_stays() -> None:
    memory = Memory().with_seen("a", 1.0).with_seen("b", 2.0).with_seen("a", 3.0)
    assert memory.first_seen == {"a": 1.0, "b": 2.0}


def test_the_memory_is_bounded() -> None:
    memory = Memory(first_seen={str(number): 0.0 for number in range(MAX_KNOWN)})
    memory.refuse_unbounded()
    with pytest.raises(LicenseError, match="1000 licences"):
        memory.with_seen("another", 1.0).refuse_unbounded()
