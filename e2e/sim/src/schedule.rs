//! The scheduler: lets one waiting call pass at a time, decides what goes wrong with it, and who dies.

use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use tidemark_e2e::random::Random;

use crate::actors::{Actor, CAST, Role};
use crate::gate::{Call, Verdict};
use crate::world::World;

/// Turns of the runtime in which calls that an actor makes side by side come to wait.
const SETTLE_TURNS: usize = 3;
/// An actor that neither ends nor waits for so long hangs.
const HANG: Duration = Duration::from_secs(60);
/// How far the clock jumps at most, either way: past every grace and age that is counted.
const JUMP_MAX_MS: u64 = 3 * 3_600 * 1_000;

/// How much goes wrong, in a thousand calls; a function of the seed.
#[derive(Debug, Clone, Copy)]
struct Rates {
    faults: u64,
    deaths: u64,
    /// How likely calls that failed are done at the next step.
    late: u64,
    /// How often the clock jumps.
    jumps: u64,
}

/// The order of calls and faults, as a hash and, if asked for, as lines.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Over all lines; the same in every process of one build.
    hasher: DefaultHasher,
    /// Number of lines.
    pub steps: u64,
    /// The lines.
    pub lines: Option<Vec<String>>,
}

impl Trace {
    /// Equal for equal lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    fn new(verbose: bool) -> Self {
        Self { hasher: DefaultHasher::new(), steps: 0, lines: verbose.then(Vec::new) }
    }

    fn add(&mut self, line: String) {
        line.hash(&mut self.hasher);
        self.steps += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}

struct Slot {
    future: Option<BoxFuture<'static, ()>>,
    life: u32,
    weight: u64,
}

/// See the module's text.
pub struct Schedule {
    world: Arc<World>,
    chance: Random,
    /// For the clock alone.
    time: Random,
    rates: Rates,
    slots: Vec<Slot>,
    late: Vec<BoxFuture<'static, ()>>,
    trace: Trace,
}

impl Schedule {
    /// All actors, none of which has begun.
    #[must_use]
    pub fn new(world: Arc<World>, verbose: bool) -> Self {
        let (mut chance, mut time) = (Random::part(world.seed, 2), Random::part(world.seed, 6));
        let rates = Rates {
            faults: chance.pick(&[0, 2, 6, 30]),
            deaths: chance.pick(&[0, 1, 3, 8]),
            late: chance.pick(&[20, 200]),
            jumps: time.pick(&[0, 0, 0, 10]),
        };
        // Batch work takes the most calls, so that it gets the most turns.
        let least = |actor: usize| if CAST[actor] == Role::Batch { 8 } else { 1 };
        let slots = (0..CAST.len()).map(|actor| {
            let weight = least(actor) + chance.below(8);
            Slot { future: None, life: 0, weight }
        });
        let slots = slots.collect();
        Self { world, chance, time, rates, slots, late: Vec::new(), trace: Trace::new(verbose) }
    }

    /// Runs `steps` calls, or until something is found; then everybody dies. Gives the trace.
    pub async fn run(mut self, steps: u64) -> Trace {
        for actor in 0..CAST.len() {
            self.begin(actor).await;
        }
        for _ in 0..steps {
            if self.has_found() || !self.step().await {
                break;
            }
        }
        for actor in 0..CAST.len() {
            self.world.gate.kill(actor);
            self.slots[actor].future = None;
        }
        self.trace
    }

    fn has_found(&self) -> bool {
        self.world.findings.lock().is_ok_and(|findings| !findings.is_empty())
    }

    async fn begin(&mut self, actor: usize) {
        let handle = self.world.gate.handle(actor);
        let life = self.slots[actor].life;
        let acting = Actor { world: Arc::clone(&self.world), handle, number: actor, life };
        self.slots[actor].future = Some(acting.act());
        self.drive(actor).await;
    }

    /// One call; false: nobody has one.
    async fn step(&mut self) -> bool {
        self.do_late().await;
        let waiting = self.world.gate.waiting();
        if waiting.is_empty() {
            return false;
        }
        let weights = waiting.iter().map(|actor| self.slots[*actor].weight);
        let chosen = self.chance.weighted(weights);
        let actor = waiting.iter().nth(chosen).copied().unwrap_or(0);
        // Calls side by side arrive in one order and are done in any.
        let mut calls = self.world.gate.calls(actor);
        calls.sort_by(|a, b| (a.1, &a.2, a.0).cmp(&(b.1, &b.2, b.0)));
        let at = usize::try_from(self.chance.below(calls.len() as u64)).unwrap_or(0);
        let (id, call, key) = calls[at].clone();
        let (verdict, dies) = self.fate(actor, call);
        self.world.clock.pass(self.chance.below(30));
        self.jump();
        let (role, life, end) = (CAST[actor], self.slots[actor].life, if dies { ", dies" } else { "" });
        self.trace.add(format!("{role:?} {actor}.{life}: {call:?} {key}: {verdict:?}{end}"));
        self.world.gate.set_active(actor);
        if dies && verdict != Verdict::Last {
            self.kill(actor).await;
            return true;
        }
        self.world.gate.grant(id, verdict);
        if dies {
            self.finish_last(actor).await;
            self.kill(actor).await;
        } else {
            self.drive(actor).await;
        }
        true
    }

    fn jump(&mut self) {
        if !self.time.per_mille(self.rates.jumps) {
            return;
        }
        let far = i64::try_from(self.time.below(JUMP_MAX_MS)).unwrap_or(0);
        let ms = if self.time.per_mille(500) { far } else { -far };
        self.world.clock.jump(ms);
        self.world.count("jump of the clock");
        self.trace.add(format!("the clock jumps by {ms} ms"));
    }

    /// What becomes of a call, and whether its actor dies of it.
    fn fate(&mut self, actor: usize, call: Call) -> (Verdict, bool) {
        // The process that answers has five actors, and its view needs time to come back.
        let spared = CAST[actor].is_serving() && self.chance.per_mille(800);
        if !spared && self.chance.per_mille(self.rates.deaths) {
            let done = call.changes() && self.chance.per_mille(500);
            return (if done { Verdict::Last } else { Verdict::Fail }, true);
        }
        if call == Call::Idle || !self.chance.per_mille(self.rates.faults) {
            return (Verdict::Pass, false);
        }
        let verdict = match call.changes() {
            false => Verdict::Fail,
            true => {
                let late = if call == Call::Put { Verdict::Late } else { Verdict::AckLost };
                self.chance.pick(&[Verdict::Fail, Verdict::AckLost, Verdict::Twice, late])
            }
        };
        (verdict, false)
    }

    /// Does some of the calls that failed and are done all the same.
    async fn do_late(&mut self) {
        self.late.extend(self.world.gate.take_late());
        while !self.late.is_empty() && self.chance.per_mille(self.rates.late) {
            let at = usize::try_from(self.chance.below(self.late.len() as u64)).unwrap_or(0);
            self.trace.add(format!("late {at}"));
            self.late.swap_remove(at).await;
        }
    }

    /// Ends an actor, with all of its process, and begins it anew.
    async fn kill(&mut self, actor: usize) {
        let process: Vec<usize> = match CAST[actor].is_serving() {
            true => (0..CAST.len()).filter(|other| CAST[*other].is_serving()).collect(),
            false => vec![actor],
        };
        for actor in &process {
            self.world.gate.kill(*actor);
            self.slots[*actor].future = None;
            self.slots[*actor].life += 1;
        }
        if CAST[actor].is_serving() {
            self.world.restart_serving();
        }
        self.world.count("death");
        for actor in process {
            self.world.gate.set_active(actor);
            self.begin(actor).await;
        }
    }

    /// Lets an actor run until it waits at the gate, or ends.
    async fn drive(&mut self, actor: usize) {
        self.world.gate.set_active(actor);
        let (gate, slot) = (Arc::clone(&self.world.gate), &mut self.slots[actor]);
        let run = poll_fn(|context| {
            let Some(future) = slot.future.as_mut() else { return Poll::Ready(()) };
            if future.as_mut().poll(context).is_ready() {
                slot.future = None;
                return Poll::Ready(());
            }
            if gate.is_settled(actor, context.waker()) { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(HANG, run).await.is_err() {
            self.world.found(format!("{:?} {actor} neither ends nor waits", CAST[actor]));
            return;
        }
        for _ in 0..SETTLE_TURNS {
            tokio::task::yield_now().await;
            let slot = &mut self.slots[actor];
            poll_fn(|context| {
                if slot.future.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                    slot.future = None;
                }
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Lets a call be done whose actor dies before it hears of it.
    async fn finish_last(&mut self, actor: usize) {
        let (gate, slot) = (Arc::clone(&self.world.gate), &mut self.slots[actor]);
        let run = poll_fn(|context| {
            if let Some(future) = slot.future.as_mut() {
                let _ended = future.as_mut().poll(context);
            }
            if gate.is_done(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(HANG, run).await.is_err() {
            self.world.found(format!("{:?} {actor} does not do its last call", CAST[actor]));
        }
    }
}
