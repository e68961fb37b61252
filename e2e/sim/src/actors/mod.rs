//! Those who act: each a future that makes its calls through the gate, dies where the scheduler wants, and begins anew.

mod batch;
mod feed;
mod query;
mod serving;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_e2e::random::Random;

pub(crate) use query::ask;
pub(crate) use serving::{Keeper, index_all};

use crate::gate::Handle;
use crate::world::World;

/// What an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Appends records.
    Producer,
    /// Log → segments.
    Archiver,
    /// Batch runs, and everything else that the batch layer does.
    Batch,
    /// Keeps indexers and views in step with generations.
    Keeper,
    /// Log → view.
    Indexer,
    /// Asks, and checks what it is told.
    Querier,
}

/// All actors of a simulation, by number.
pub const CAST: [Role; 11] = [
    Role::Producer,
    Role::Producer,
    Role::Archiver,
    Role::Archiver,
    Role::Batch,
    Role::Batch,
    Role::Keeper,
    Role::Indexer,
    Role::Indexer,
    Role::Querier,
    Role::Querier,
];

impl Role {
    /// True for those of the process that answers: they die together, and its views with them.
    #[must_use]
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Keeper | Self::Indexer | Self::Querier)
    }
}

/// An actor at work in a simulation.
#[derive(Clone)]
pub struct Actor {
    /// The world.
    pub world: Arc<World>,
    /// Its way to the gate.
    pub handle: Handle,
    /// Its number in [`CAST`].
    pub number: usize,
    /// How often it began before.
    pub life: u32,
}

impl Actor {
    /// Its own random numbers, anew in every life.
    fn chance(&self) -> Random {
        Random::part(self.world.seed, 1_000 + 1_000 * self.number as u64 + u64::from(self.life))
    }

    /// What it does until it has nothing more to do, or dies.
    #[must_use]
    pub fn act(self) -> BoxFuture<'static, ()> {
        match CAST[self.number] {
            Role::Producer => feed::produce(self).boxed(),
            Role::Archiver => feed::archive(self).boxed(),
            Role::Batch => batch::work(self).boxed(),
            Role::Keeper => serving::keep(self).boxed(),
            Role::Indexer => serving::index(self).boxed(),
            Role::Querier => query::query(self).boxed(),
        }
    }
}
