"""A message that is being delivered whenever the server dies.

Perhaps it kills the server; so after the third time it is held, where the operator finds it, instead of being tried a fourth.
What merely stood beside it goes on.
"""

from pathlib import Path

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Letter, Stage, hand_in, letters, wait_until
from tests.support.daemon import Daemon

CRASHES = 3


def test_what_was_in_flight_at_three_crashes_is_held_and_the_rest_flows(tmp_path: Path) -> None:
    with Stage() as stage:
        deadly, good = stage.witness(Temper(stall=Moment.DOT)), stage.witness()
        with stage.server(
            tmp_path,
            default=f'hosts = ["{good.host}"]\nretry = ["1s"]',
            more=f'[domain."deadly.example"]\nhosts = ["{deadly.host}"]\nmax_connections = 1\nmax_messages_per_connection = 1',
        ) as daemon:
            hand_in(
                daemon,
                [Letter(("poison@deadly.example",)), Letter(("other@deadly.example",))],
                connections=1,
            )
            for crash in range(CRASHES):
                wait_until(lambda n=crash: deadly.counts["dot"] == n + 1, "it was not tried")  # type: ignore[misc]
                hand_in(daemon, letters(20, "good.example", first=20 * crash))
                good.wait_for(20 * (crash + 1))
                daemon.wait_for(delivered=20)
                daemon.kill()
                daemon.start()
            # The other one of the queue is tried now.
            wait_until(lambda: deadly.counts["dot"] == CRASHES + 1, "the queue stands still")
            (held,) = daemon.ask("messages.list", held=True)["recipients"]
            assert held["recipient"] == "poison@deadly.example"
            assert "poison" in held["hold_reason"]
            assert daemon.totals()["held"] == 1
            (wait, *_) = daemon.ask("explain", what=str(held["message"]))["waits"]
            assert "poison" in wait["what"]
            hand_in(daemon, letters(20, "good.example", first=100))
            good.wait_for(20 * (CRASHES + 1))
            stage.close(deadly)
            assert sorted(set(good.recipients)) == sorted(good.recipients)
            wait_until(lambda: recorded(daemon, "d") == set(good.recipients), "a record is missing")
            assert not recorded(daemon, "b")


def recorded(daemon: Daemon, kind: str) -> set[str]:
    """The recipients in records of this kind."""
    return {each["rcpt"] for each in daemon.records() if each["type"] == kind}
