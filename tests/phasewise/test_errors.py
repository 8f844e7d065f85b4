from __future__ import annotations

import pickle

import pytest

from phasewise.errors import Problem, StorageError, UserError

PROBLEMS = [Problem(f"{i}.png", "is empty") for i in range(12)]


def test_problems_are_listed_up_to_ten_and_kept_beyond() -> None:
    error = UserError("samples cannot be used", PROBLEMS, "mend them")
    head, *listed, more, advice = str(error).splitlines()
    assert (head, more, advice) == ("12 samples cannot be used:", "  ... and 2 more", "mend them")
    assert listed == [f"  {problem}" for problem in PROBLEMS[:10]]
    assert error.problems == tuple(PROBLEMS)


def test_a_single_problem() -> None:
    error = UserError("samples cannot be used", PROBLEMS[:1], "mend it")
    assert str(error) == "1 sample cannot be used:\n  0.png: is empty\nmend it"
    assert str(UserError(problems=PROBLEMS[:1])) == "0.png: is empty"
    assert str(UserError("nothing is there")) == "nothing is there"


@pytest.mark.parametrize("kind", [UserError, StorageError])
def test_what_a_worker_raises_arrives_whole(kind: type[UserError]) -> None:
    there = pickle.loads(pickle.dumps(kind("samples cannot be used", PROBLEMS, "mend them")))
    assert type(there) is kind
    assert there.problems == tuple(PROBLEMS)
    assert str(there).endswith("mend them")
