"""A model of Redis for tests in virtual time: the scripts of a fleet that count calls, on the loop's clock."""

from collections import defaultdict

import anyio
from virtual_time import VirtualTime

from posten_signering._session import redis_scripts as scripts
from posten_signering._session.redis_member import RedisFailedError

# The clocks of Redis and of the machines differ.
CLOCK_DIFFERENCE = 1_000_000


class RedisModel:
    """The state in one Redis. Each member has a `ModelConnection`.

    Attributes:
        is_away: Whether every request fails.
        refuses: What is wrong with the configuration, if Redis refuses every request.
        knows_freshness: Whether clients learn that the state is fresh.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.refuses: str | None = None
        self.knows_freshness = True
        self.lose_data()

    def lose_data(self) -> None:
        self.alive_until = self.fresh_until = float("-inf")
        self.members = dict[str, float]()
        self.places = defaultdict[str, dict[str, float]](dict)
        self.queues = defaultdict[str, list[str]](list)

    @property
    def now(self) -> float:
        return CLOCK_DIFFERENCE + 1000 * VirtualTime.monotonic()

    def join(self, member: str) -> list[float]:
        if self.alive_until <= self.now and self.knows_freshness:
            self.fresh_until = self.now + scripts.FRESH_FOR
        self.alive_until = self.now + scripts.STATE_EXPIRES_AFTER
        self.members[member] = self.now + scripts.MEMBER_FOR
        ids = sorted(member for member, until in self.members.items() if until > self.now)
        return [self.now, max(0, self.fresh_until - self.now), ids.index(member), len(ids)]

    def ask(self, budget: str, member: str, call: str, slot_taken: int, *numbers: int):
        _, most_places, held_for = numbers
        fleet = self.join(member)
        places, queue = self.places[budget], self.queues[budget]
        for ended in [ended for ended, until in places.items() if until <= self.now]:
            del places[ended]
        if fleet[1] > 0:
            granted = bool(slot_taken)
        else:
            if call not in queue:
                queue.append(call)
            granted = queue.index(call) < most_places - len(places)
        if granted:
            places[call] = self.now + held_for
            if call in queue:
                queue.remove(call)
        return [*fleet, int(granted), 0 if granted or fleet[1] else 50, 0]


class ModelConnection:
    """Runs scripts in a `RedisModel`. A request takes a millisecond."""

    def __init__(self, redis: RedisModel) -> None:
        self._redis = redis

    async def run(self, script, keys, arguments):
        await anyio.sleep(0.001)
        if self._redis.is_away:
            raise RedisFailedError("ConnectionError")
        if self._redis.refuses is not None:
            raise RedisFailedError("AuthenticationError", self._redis.refuses)
        if script == scripts.HEARTBEAT:
            return self._redis.join(arguments[0])
        if script == scripts.ASK_FOR_PLACE:
            return self._redis.ask(keys[4], *arguments)
        if script == scripts.END_IN_FLIGHT:
            call, kept_for = arguments
            places = self._redis.places[keys[0]]
            if call in places:
                places[call] = min(places[call], self._redis.now + kept_for)
        return None
