"""Notes of several processes become those of all."""

from rlpost.rollout.notes import Notes


def exchanged(*notes):
    """Each process hears the others, as over a network."""
    sent = []
    for one in notes:
        one.exchange(lambda mine: sent.append(dict(mine)) or [])
    for one in notes:
        one.exchange(lambda _: sent)
    return sent


def test_what_is_written_is_sent_once_and_the_later_rank_holds():
    one, two = Notes({"old": 1}), Notes({"old": 1})
    one["a"], one["both"], two["b"], two["both"] = 1, "one", 2, "two"
    one["gone"] = 3
    del one["gone"]
    assert exchanged(one, two) == [{"a": 1, "both": "one"}, {"b": 2, "both": "two"}]
    assert one == two == {"old": 1, "a": 1, "b": 2, "both": "two"}
    assert exchanged(one, two) == [{}, {}], "what was heard is not sent on"
    assert dict(one) == {"old": 1, "a": 1, "b": 2, "both": "two"}
