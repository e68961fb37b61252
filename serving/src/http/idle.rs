//! Which connections have no request, and since when.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tidemark_shared::lock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The connections without a request, in the order in which they came to be so.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    longer: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tickets: BTreeMap<u64, CancellationToken>,
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // a panic inside leaves at most a number that no connection has
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for another connection; the first in line makes room where none is free.
    pub(super) async fn place(&self, places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        const OPEN: &str = "the places are never closed";
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return place;
        }
        loop {
            // Registered before the line is looked at, so that nobody who joins it meanwhile is missed.
            let longer = self.longer.notified();
            let first = self.waiting().tickets.pop_first();
            if let Some((_, first)) = first {
                first.cancel();
                return Arc::clone(places).acquire_owned().await.expect(OPEN);
            }
            tokio::select! {
                place = Arc::clone(places).acquire_owned() => return place.expect(OPEN),
                () = longer => {}
            }
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Idle {
    line: Arc<Line>,
    make_room: CancellationToken,
    /// Its place in the line, while it has no request.
    ticket: Mutex<Option<u64>>,
}

impl Idle {
    /// A connection that has just been opened.
    pub(super) fn new(line: &Arc<Line>) -> Self {
        let idle = Self { line: Arc::clone(line), make_room: CancellationToken::new(), ticket: Mutex::new(None) };
        idle.begin();
        idle
    }

    fn begin(&self) {
        let mut waiting = self.line.waiting();
        let ticket = waiting.next;
        waiting.next += 1;
        let _none = waiting.tickets.insert(ticket, self.make_room.clone());
        drop(waiting);
        *lock(&self.ticket) = Some(ticket);
        self.line.longer.notify_waiters();
    }

    fn end(&self) {
        let ticket = lock(&self.ticket).take();
        if let Some(ticket) = ticket {
            let _token = self.line.waiting().tickets.remove(&ticket);
        }
    }

    /// Takes a connection out of the line until what is returned is dropped.
    pub(super) fn busy(idle: Arc<Self>) -> Busy {
        idle.end();
        Busy(idle)
    }

    /// Waits until the connection is to make room for another.
    pub(super) async fn makes_room(&self) {
        self.make_room.cancelled().await;
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection with a request.
#[derive(Debug)]
pub(super) struct Busy(Arc<Idle>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.begin();
    }
}

/// The body of an answer, whose connection is busy until it is written or given up.
#[derive(Debug)]
pub(super) struct HeldBody {
    body: Body,
    _busy: Busy,
}

impl HeldBody {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
