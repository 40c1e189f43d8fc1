"""What may happen in a history, each with its weight: work that goes on, and everything that comes in between."""

from __future__ import annotations

from collections.abc import Callable

from cluster.model.task import TaskState
from manager.decide.agenda import About, Question
from manager.leader import Leader
from tests.manager.decide.builders import a_copy
from tests.sim.agent import Agent
from tests.sim.manager import Manager
from tests.sim.world import World

Act = Callable[[], None]


def happenings(world: World) -> list[tuple[float, Act]]:
    """Give all that may happen in one history, with weights.

    Each history leaves out some of the troubles: what hides behind one of them shows where it is missing.
    """
    chance, people, rng = Chance(world), world.people, world.rng
    work: list[tuple[float, Act]] = [
        (30, chance.everything_works),
        (12, chance.a_while_passes_in_peace),
        (20, chance.managers_work),
        (20, chance.agents_work),
        (8, chance.sessions_are_judged),
        (8, chance.time_passes),
        (1, chance.a_decision_is_made_again),
        (2, people.deploy),
        (8, people.change),
        (5, people.roll_out),
        (2, people.place),
        (2, chance.a_node_is_maintained),
        (1, chance.a_node_is_out_of_reach_for_long),
        (2, people.roll_back),
    ]
    troubles: list[tuple[float, Act]] = [
        (1, people.remove),
        (4, people.drain),
        (1, people.label),
        (3, people.rebalance),
        (1, people.take_out),
        (8, chance.container_ends),
        (2, chance.agent_crashes),
        (3, chance.host_loses_power),
        (3, chance.network_is_cut),
        (1, chance.manager_crashes),
        (2, chance.manager_freezes),
        (1, chance.manager_loses_etcd),
        (2, chance.lease_runs_out),
        (2, chance.history_is_compacted),
        (1, chance.clock_jumps),
        (1, chance.a_long_time_passes),
    ]
    mends: list[tuple[float, Act]] = [
        (3, chance.host_starts),
        (3, chance.network_heals),
        (2, chance.manager_starts),
        (3, chance.manager_thaws),
        (2, chance.late_request_arrives),
    ]
    return [*work, *mends, *(trouble for trouble in troubles if rng.random() < 0.5)]


class Chance:
    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng

    def _agent(self) -> Agent:
        return self.rng.choice(self.world.agents)

    def _manager(self) -> Manager | None:
        alive = [m for m in self.world.managers if m.alive]
        return self.rng.choice(alive) if alive else None

    # Work

    def managers_work(self) -> None:
        manager = self._manager()
        if manager is not None and manager.connected:
            if self.rng.random() < 0.8:
                manager.receive(self.rng.choice([1, 3, 1000]), self.rng)
            if manager.leader is None or self.rng.random() < 0.1:
                manager.campaign()
            manager.lead(self.rng, self.rng.choice([1, 5, 50]))
            if manager.lease not in self.world.leases and self.rng.random() < 0.3:
                self.world.lose(manager)

    def agents_work(self) -> None:
        agent = self._agent()
        if self.rng.random() < 0.7:
            self.world.connect(agent)
        if self.rng.random() < 0.7:
            self.world.send(agent)
        if self.rng.random() < 0.8:
            self.world.work(agent, self.rng.choice([1, 3]))
        if self.rng.random() < 0.7:
            self.world.report(agent)

    def everything_works(self) -> None:
        """A good second, so that histories get somewhere between their troubles."""
        for agent in self.world.agents:
            self.world.connect(agent)
        for manager in self.world.managers:
            if manager.alive and manager.connected:
                manager.receive(1000, self.rng)
                manager.campaign()
                manager.lead(self.rng, 50)
        for agent in self.world.agents:
            self.world.send(agent)
            self.world.work(agent, 3)
            self.world.report(agent)
        self.world.beat(1.0)

    def a_while_passes_in_peace(self) -> None:
        """Updates, drains and moves take many rounds to come to their end."""
        for _ in range(6):
            self.everything_works()
            self.world.check_hosts()
            self.world.steps += 1

    def a_node_is_maintained(self) -> None:
        """All that is on a node goes elsewhere, as far as there is room, and then it gets its share again."""
        people = self.world.people
        people.deploy_plain()
        self.a_while_passes_in_peace()
        node = people.drain_any()
        self.a_while_passes_in_peace()
        people.activate(node)
        people.rebalance_now()
        self.a_while_passes_in_peace()

    def a_node_is_out_of_reach_for_long(self) -> None:
        """So long that copies there are stopped, and others take their place, as their services wish."""
        agent = self._agent()
        self.world.tell(f"{agent.name} is cut off for long")
        agent.cut = True
        for _ in range(3):
            self.a_while_passes_in_peace()
            self.world.beat(self.rng.choice([5.0, 12.0]))
            self.world.check_hosts()
        if self.rng.random() < 0.5:
            self.world.people.roll_out()
            self.a_while_passes_in_peace()
        agent.cut = False

    def a_decision_is_made_again(self) -> None:
        """The same picture gives the same plan, whatever the order in which its records came."""
        leaders = [m for m in self.world.managers if m.leader is not None and m.connected]
        if not leaders:
            return
        manager = self.rng.choice(leaders)
        known = [Question(About.SERVICE, uid) for uid in sorted(manager.state.services)]
        known += [Question(About.STACK, uid) for uid in sorted(manager.state.stack_names)]
        if known:
            question, now = self.rng.choice(known), manager.now()
            plans = []
            for state in (manager.state, a_copy(manager.state, self.rng)):
                leader = Leader(state, now)
                leader.hearing = manager.leader.hearing  # type: ignore[union-attr]
                plans.append(leader.decide(question, now))
            self.world.hold(plans[0] == plans[1], f"{question} has two answers: {plans}")

    def time_passes(self) -> None:
        self.world.beat(self.rng.choice([0.1, 1.0, 3.0, 8.0]))

    def a_long_time_passes(self) -> None:
        self.world.beat(self.rng.choice([60.0, 600.0, 25 * 3600.0]))

    def sessions_are_judged(self) -> None:
        manager = self._manager()
        if manager is not None and manager.connected:
            self.world.watch_over(manager)

    # Trouble

    def container_ends(self) -> None:
        running = [
            (agent, ident)
            for agent in self.world.agents
            for ident, container in agent.containers.items()
            if agent.working and not container.ended
        ]
        if running:
            agent, ident = self.rng.choice(running)
            self.world.tell(f"{ident} on {agent.name} ends")
            if agent.containers[ident].state.rank < TaskState.RUNNING.rank:
                agent.reject(ident, self.world.time)
            else:
                agent.fail(ident, self.world.time, self.rng.choice([0, 1, 137]))

    def agent_crashes(self) -> None:
        agent = self._agent()
        self.world.tell(f"the agent on {agent.name} crashes")
        agent.crash()

    def host_loses_power(self) -> None:
        agent = self._agent()
        self.world.tell(f"{agent.name} loses power")
        agent.power_off()

    def host_starts(self) -> None:
        for agent in self.world.agents:
            if not agent.working and self.rng.random() < 0.5:
                self.world.tell(f"{agent.name} starts")
                agent.power_on(self.world.time)

    def network_is_cut(self) -> None:
        agent = self._agent()
        self.world.tell(f"{agent.name} is cut off")
        agent.cut = True

    def network_heals(self) -> None:
        for agent in self.world.agents:
            agent.cut = agent.cut and self.rng.random() < 0.5

    def manager_crashes(self) -> None:
        manager = self._manager()
        if manager is not None:
            self.world.tell(f"{manager.id} crashes")
            manager.alive = False
            manager.resign()

    def manager_starts(self) -> None:
        if sum(m.alive for m in self.world.managers) < 3:
            manager = self.world.start_manager()
            self.world.tell(f"{manager.id} starts")

    def manager_freezes(self) -> None:
        manager = self._manager()
        if manager is not None:
            self.world.tell(f"{manager.id} freezes")
            manager.paused = True

    def manager_loses_etcd(self) -> None:
        manager = self._manager()
        if manager is not None:
            self.world.tell(f"{manager.id} loses etcd")
            manager.cut = True

    def manager_thaws(self) -> None:
        for manager in self.world.managers:
            if manager.alive and not manager.connected:
                self.world.tell(f"{manager.id} is back")
                manager.paused = manager.cut = False
                if manager.leader is not None:
                    manager.leader.credit(manager.now())

    def lease_runs_out(self) -> None:
        """Of one that cannot keep it, mostly; the leader may learn of it much later."""
        doomed = [m for m in self.world.managers if m.lease in self.world.leases and not (m.alive and m.connected)]
        manager = self.rng.choice(doomed) if doomed else self._manager()
        if manager is not None and manager.lease in self.world.leases:
            self.world.tell(f"the lease of {manager.id} runs out")
            self.world.expire(manager.lease)

    def history_is_compacted(self) -> None:
        self.world.store.compact()

    def late_request_arrives(self) -> None:
        if self.world.late:
            taken = self.world.arrive(self.rng.randrange(len(self.world.late)))
            self.world.tell(f"a late request arrives ({taken})")

    def clock_jumps(self) -> None:
        manager = self._manager()
        if manager is not None:
            manager.skew += self.rng.choice([-3600.0, -10.0, 10.0, 50.0, 3600.0])
            self.world.steady = False
            self.world.tell(f"the clock of {manager.id} jumps")
