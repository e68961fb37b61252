//! Connections: accepted while the door is open, bounded in number and patience, drained when it closes.
//!
//! Who opens connections and sends nothing keeps nobody out: when all places are taken, the connection that has been
//! without a request for longest makes room. Who sends a request and does not read the answer is cut off after a while.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tidemark_shared::ambient::{Ambient as _, System};
use tidemark_shared::backoff::{Attempts, Backoff};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::idle::{HeldBody, Idle, Line};
use super::patient::Patient;

/// Pauses while no connection can be accepted, as long as that lasts.
const ACCEPT_AGAIN: Backoff = Backoff {
    first: Duration::from_millis(5),
    pause_max: Duration::from_secs(1),
    attempts_max: u32::MAX,
    time_max: Duration::MAX,
    attempts_min: 1,
};

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Most connections at once. One more takes the place of the one that has been without a request for longest; if there
    /// is none such, it waits.
    pub connections_max: usize,
    /// Longest time that the head of a request may take, from the connection's start or the answer before.
    pub head_timeout: Duration,
    /// Longest time that a client may take nothing of what is written to it. Its connection ends then, and so does what
    /// makes the answer.
    pub write_timeout: Duration,
    /// Longest time that requests may take to end once the door closes.
    pub drain_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            head_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose requests had not ended in time and were cut off.
    pub cut_off: usize,
}

/// Serves `router` on `listener` until `stop`: then no connection is accepted any more, requests under way may end
/// within the drain time, idle connections are closed, and the rest is cut off.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) -> Drained {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let line = Arc::new(Line::default());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut failures = Attempts::new(ACCEPT_AGAIN);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &mut failures) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some(stream) = accepted else { continue };
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = line.place(&places) => place,
        };
        let idle = Arc::new(Idle::new(&line));
        let (router, of_service) = (router.clone(), Arc::clone(&idle));
        let service = service_fn(move |request| answer(router.clone(), request, Arc::clone(&of_service)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .serve_connection(TokioIo::new(Patient::new(stream, limits.write_timeout)), service);
        let connection = graceful.watch(connection);
        let _handle = connections.spawn(async move {
            tokio::select! {
                biased;
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                },
                () = idle.makes_room() => tracing::debug!("a connection without a request made room"),
            }
            drop(place);
        });
    }
    drop(listener);
    let ended = tokio::time::timeout(limits.drain_max, async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    });
    let in_time = ended.await.is_ok();
    while connections.try_join_next().is_some() {}
    let cut_off = if in_time { 0 } else { connections.len() };
    connections.shutdown().await;
    Drained { cut_off }
}

/// The answer to a request. The connection counts as idle again once all of it was written.
async fn answer(router: Router, request: Request<Incoming>, idle: Arc<Idle>) -> Result<Response, Infallible> {
    let busy = Idle::busy(idle);
    let response = TowerToHyperService::new(router).call(request).await?;
    Ok(response.map(|body| Body::new(HeldBody::new(body, busy))))
}

async fn accept(listener: &TcpListener, failures: &mut Attempts) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            *failures = Attempts::new(ACCEPT_AGAIN);
            // Small answers are not held back for more.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection refused an option");
            }
            Some(stream)
        }
        Err(error) if is_of_one_connection(&error) => None,
        Err(error) => {
            // Out of files: it passes when connections end.
            tracing::warn!(%error, "no connection can be accepted");
            let _paused = failures.again(System.random()).await;
            None
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A listener at `address`.
///
/// # Errors
/// The address is taken, or not this machine's.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
