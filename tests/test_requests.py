"""Standing requests: wordings, bookkeeping, attribution."""

import pytest

from aura_core.requests import (
    ACKNOWLEDGEMENTS,
    MAX_REQUESTS,
    StandingRequests,
    content_words,
    is_acknowledgement,
    repeats,
)


@pytest.mark.parametrize("text", [*ACKNOWLEDGEMENTS, "okay i will tell you", "OKAY, I'LL LET YOU KNOW!",
                                  "Okay, I will tell you when the kettle boils."])  # fmt: skip
def test_acknowledgements_are_known(text: str):
    assert is_acknowledgement(text)


@pytest.mark.parametrize("text", ["", "Okay.", "The kettle boils.", "Okay, I will tell you a story.", "I will keep"])
def test_other_replies_are_not_acknowledgements(text: str):
    assert not is_acknowledgement(text)


@pytest.mark.parametrize(
    "text",
    [
        "Tell me every time the bell rings",
        "whenever a car passes, say so",
        "Keep telling me the score",
        "Warn me ANY TIME he stops",
        "Say it each time.",
    ],
)
def test_wordings_that_ask_for_every_occurrence(text: str):
    assert repeats(text)


@pytest.mark.parametrize("text", ["Tell me when the bell rings", "Is everyone here?", "Where did I keep my keys?"])
def test_wordings_that_ask_for_the_first(text: str):
    assert not repeats(text)


def test_a_once_request_ends_when_it_fired():
    requests = StandingRequests()
    requests.add("a", "Tell me when it rains", 0.0)
    assert requests.fire("a").count == 1
    assert "a" not in requests


def test_an_every_request_stays_and_counts():
    requests = StandingRequests()
    requests.add("a", "Tell me every time it rains", 0.0)
    assert [requests.fire("a").count for _ in range(3)] == [1, 2, 3]
    assert requests.all()[0].count == 3


def test_the_wording_can_be_overruled():
    requests = StandingRequests()
    requests.add("a", "Tell me when it rains", 0.0, every=True)
    assert requests.fire("a").every


def test_the_oldest_goes_when_there_are_too_many():
    requests = StandingRequests()
    dropped = [requests.add(str(i), "rain", float(i)) for i in range(MAX_REQUESTS + 1)]
    assert [request.id for request in dropped if request] == ["0"]
    assert len(requests) == MAX_REQUESTS


def test_requests_stop_and_expire():
    requests = StandingRequests(lifetime=10)
    requests.add("a", "rain", 0.0)
    requests.add("b", "snow", 5.0)
    requests.add("c", "hail", 5.0)
    stopped = requests.stop("c")
    assert stopped is not None
    assert stopped.text == "hail"
    assert requests.stop("c") is None
    assert [request.id for request in requests.expire(10.5)] == ["a"]
    assert [request.id for request in requests.all()] == ["b"]


def test_an_id_is_used_once():
    requests = StandingRequests()
    requests.add("a", "rain", 0.0)
    with pytest.raises(ValueError, match="already"):
        requests.add("a", "snow", 1.0)


def test_alerts_are_attributed_by_content_words():
    requests = StandingRequests()
    requests.add("red", "Tell me when a red ball appears.", 0.0)
    requests.add("blue", "Let me know when the blue cubes stop.", 1.0)
    assert requests.attribute("A red ball appeared on the left.") == "red"
    assert requests.attribute("The blue cube has stopped.") == "blue"
    assert requests.attribute("A ball and a cube.") == "blue"  # a tie goes to the newest


def test_an_alert_about_nothing_known_ends_no_request_unless_there_is_only_one():
    requests = StandingRequests()
    requests.add("red", "Tell me when a red ball appears.", 0.0)
    assert requests.attribute("Something else.") == "red"
    requests.add("blue", "Tell me when the blue cube stops.", 1.0)
    assert requests.attribute("Something else.") is None


def test_an_alert_may_concern_who_asked_for_such_a_thing_or_for_no_thing_in_particular():
    kinds = content_words("star cat flower house fish")
    requests = StandingRequests()
    assert not requests.may_concern("I see a cat now.", kinds)  # nobody waits for anything
    requests.add("stars", "Tell me every time you see a red star.", 0.0)
    requests.add("houses", "Let me know when there are two houses.", 1.0)
    assert requests.may_concern("I see a blue star now.", kinds)  # it may have misread the color, or the user the sky
    assert requests.may_concern("I see two houses now.", kinds)
    assert not requests.may_concern("The flower is gone.", kinds)
    assert not requests.may_concern("Something happens.", kinds)
    requests.add("any", "Tell me whenever something moves.", 2.0)
    assert requests.may_concern("The flower is moving.", kinds)
    requests.stop("any")
    assert not requests.may_concern("The flower is moving.", kinds)


def test_an_alert_about_another_thing_or_color_ends_no_request():
    names = content_words("star circle square"), content_words("red blue orange")
    requests = StandingRequests()
    requests.add("blue", "Tell me when you see a blue star.", 0.0)
    assert requests.attribute("The orange star is moving.") == "blue"
    assert requests.attribute("The orange star is moving.", names) is None
    assert requests.attribute("I see a blue square now.", names) is None
    assert requests.attribute("I see a star now.", names) == "blue"  # it may be blue
    assert requests.attribute("Something blue comes in.", names) == "blue"
    assert requests.attribute("There it is.", names) == "blue"  # the only one there is
    requests.add("square", "Let me know when an orange square appears.", 1.0)
    assert requests.attribute("The circle is orange now.", names) is None
    assert requests.attribute("I see an orange square and a blue star now.", names) == "square"
    assert requests.attribute("The red star is gone.", names) is None
    assert requests.attribute("There it is.", names) is None
    requests.add("turns", "Tell me when the red star turns blue.", 2.0)
    assert requests.attribute("The star is blue now.", names) == "turns"
    requests.add("any", "Tell me whenever something moves.", 3.0)
    assert requests.attribute("The circle turns.", names) == "any"  # all others are about other things
    requests.add("more", "Every time something else happens, say so.", 4.0)
    assert requests.attribute("The circle rolls.", names) is None


def test_without_requests_nothing_is_attributed():
    assert StandingRequests().attribute("A red ball.") is None
