//! The gate: every call of a port waits here until the scheduler lets it pass, and is told here what goes wrong with it.
//!
//! What a call does, it does at one moment, right after it was let through: calls of different actors are atomic towards
//! each other, and their order is the scheduler's.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// No call: an actor between two pieces of work.
    Idle,
    /// Reading an object.
    Get,
    /// Looking whether an object is there.
    Head,
    /// Listing objects.
    List,
    /// Writing an object.
    Put,
    /// Deleting an object.
    Delete,
    /// Syncing an object.
    Sync,
    /// Appending to the log.
    Append,
    /// Reading from the log.
    Read,
    /// The log's bounds, or its topics.
    Bounds,
    /// Letting records leave the log.
    Retain,
    /// Opening a view.
    Open,
    /// Rows into a view.
    Apply,
    /// Pinning a view.
    Pin,
    /// Rows out of a view.
    Drop,
    /// Closing a view.
    Close,
}

impl Call {
    /// True for calls that leave something changed.
    #[must_use]
    pub fn changes(self) -> bool {
        use Call::{Append, Apply, Close, Delete, Drop, Open, Put, Retain};
        matches!(self, Put | Delete | Append | Retain | Open | Apply | Drop | Close)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Pass,
    /// It is not done, and fails.
    Fail,
    /// It is done, and fails: the acknowledgement is lost.
    AckLost,
    /// It is done twice, and the second answer counts.
    Twice,
    /// It fails, and is done some time later.
    Late,
    /// It is done, and the actor dies before it hears of it.
    Last,
    /// The actor is dead.
    Dead,
}

/// A call that waits.
#[derive(Debug)]
struct Parked {
    id: u64,
    actor: usize,
    call: Call,
    key: String,
    answer: oneshot::Sender<Verdict>,
}

#[derive(Default)]
struct State {
    /// True once the simulation has ended: nothing waits any more.
    open: bool,
    next: u64,
    parked: Vec<Parked>,
    under_way: Option<u64>,
    /// Whose turn it is.
    active: usize,
    lives: Vec<u32>,
    /// Calls of each actor that were made to fail.
    faults: Vec<u64>,
    late: Vec<BoxFuture<'static, ()>>,
    waker: Option<Waker>,
}

/// See the module's text.
#[derive(Default)]
pub struct Gate(Mutex<State>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate for `actors`.
    #[must_use]
    pub fn new(actors: usize) -> Self {
        Self(Mutex::new(State { lives: vec![0; actors], faults: vec![0; actors], ..State::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a panic ends the simulation, and the calls that it unwinds come by here once more
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of an actor's present life.
    #[must_use]
    pub fn handle(self: &Arc<Self>, actor: usize) -> Handle {
        let life = self.lock().lives[actor];
        Handle { gate: Arc::clone(self), owner: actor, shared: false, life }
    }

    /// It is this actor's turn: it alone runs until the next call waits.
    pub fn set_active(&self, actor: usize) {
        self.lock().active = actor;
    }

    /// Ends an actor's life: its calls fail from now on, also those that wait.
    pub fn kill(&self, actor: usize) {
        let mut state = self.lock();
        state.lives[actor] += 1;
        state.parked.retain(|parked| parked.actor != actor);
        state.under_way = None;
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// Actors that have calls waiting.
    #[must_use]
    pub fn waiting(&self) -> BTreeSet<usize> {
        self.lock().parked.iter().map(|parked| parked.actor).collect()
    }

    /// The calls of an actor that wait, as kind and key, in order of arrival.
    #[must_use]
    pub fn calls(&self, actor: usize) -> Vec<(u64, Call, String)> {
        let state = self.lock();
        let of = state.parked.iter().filter(|parked| parked.actor == actor);
        of.map(|parked| (parked.id, parked.call, parked.key.clone())).collect()
    }

    /// Tells a waiting call what becomes of it.
    pub fn grant(&self, id: u64, verdict: Verdict) {
        let mut state = self.lock();
        let Some(at) = state.parked.iter().position(|parked| parked.id == id) else { return };
        let parked = state.parked.remove(at);
        state.under_way = Some(id);
        if parked.answer.send(verdict).is_err() {
            state.under_way = None;
        }
    }

    /// True if the call that was granted last is done, and the actor waits again; otherwise `waker` is woken when that
    /// may be so.
    pub fn is_settled(&self, actor: usize, waker: &Waker) -> bool {
        let mut state = self.lock();
        state.waker = Some(waker.clone());
        state.under_way.is_none() && state.parked.iter().any(|parked| parked.actor == actor)
    }

    /// True if no granted call is still being done; otherwise `waker` is woken then.
    pub fn is_done(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        state.waker = Some(waker.clone());
        state.under_way.is_none()
    }

    /// Calls that are still to be done though their actors were told that they failed.
    pub fn take_late(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.lock().late)
    }
}

/// An actor's way to the gate.
#[derive(Debug, Clone)]
pub struct Handle {
    gate: Arc<Gate>,
    owner: usize,
    /// True if calls are those of whose turn it is.
    shared: bool,
    life: u32,
}

impl Handle {
    /// How many of its calls were made to fail so far.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.gate.lock().faults[self.owner]
    }

    /// The same for parts that several actors of one process work with; it lives as long as this one.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { shared: true, ..self.clone() }
    }

    fn actor(&self, state: &State) -> usize {
        if self.shared { state.active } else { self.owner }
    }

    /// Waits between two pieces of work. False: the simulation has ended.
    pub async fn idle(&self) -> bool {
        let (id, verdict) = self.enter(Call::Idle, String::new()).await;
        self.done(id);
        verdict == Verdict::Pass && !self.gate.lock().open
    }

    /// Fails if the actor is dead; for calls that need not wait.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.gate.lock().lives[self.owner] != self.life
    }

    async fn enter(&self, call: Call, key: String) -> (u64, Verdict) {
        let (answer, told) = oneshot::channel();
        let id = {
            let mut state = self.gate.lock();
            if state.lives[self.owner] != self.life {
                return (0, Verdict::Dead);
            }
            if state.open {
                return (0, Verdict::Pass);
            }
            state.next += 1;
            let id = state.next;
            let actor = self.actor(&state);
            state.parked.push(Parked { id, actor, call, key, answer });
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            id
        };
        let given_up = Over { handle: self, id };
        let verdict = told.await.unwrap_or(Verdict::Dead);
        std::mem::forget(given_up);
        (id, verdict)
    }

    fn done(&self, id: u64) {
        let mut state = self.gate.lock();
        if state.under_way == Some(id) {
            state.under_way = None;
        }
        state.parked.retain(|parked| parked.id != id);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Makes a call: `act` does it, `fault` is the error of one that fails.
    ///
    /// # Errors
    /// Those of `act`, and `fault`.
    pub async fn call<T, E>(
        &self,
        call: Call,
        key: String,
        act: impl Fn() -> BoxFuture<'static, Result<T, E>> + Send,
        fault: impl Fn(&'static str) -> E + Send,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (id, verdict) = self.enter(call, key).await;
        // Also a call that nobody waits for any more is over.
        let _over = Over { handle: self, id };
        if verdict != Verdict::Pass {
            let mut state = self.gate.lock();
            let actor = self.actor(&state);
            state.faults[actor] += 1;
        }
        match verdict {
            Verdict::Pass => act().await,
            Verdict::Fail => Err(fault("injected: not done")),
            Verdict::Dead => Err(fault("injected: the caller is dead")),
            Verdict::AckLost => {
                drop(act().await);
                Err(fault("injected: done, but the answer is lost"))
            }
            Verdict::Twice => {
                drop(act().await);
                act().await
            }
            Verdict::Late => {
                let later = act().map(drop).boxed();
                self.gate.lock().late.push(later);
                Err(fault("injected: not done yet"))
            }
            Verdict::Last => {
                drop(act().await);
                self.done(id);
                futures::future::pending().await
            }
        }
    }
}

/// A granted call while it is being done.
struct Over<'a> {
    handle: &'a Handle,
    id: u64,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.handle.done(self.id);
    }
}
