//! Between the adapter and the server: passes requests on, or does to them what a fault would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are passed on.
    Pass,
    /// Connections are cut: nobody is there.
    Away,
    /// Writes of documents are answered with 429.
    Busy,
    /// Writes of documents are answered with 200 and 429 for each of them.
    BusyItems,
    /// Writes are done, and their answers are lost.
    Deaf,
    /// There is no room for answers of more than a few hits.
    Breaker,
    /// There is no room for any answer to a search.
    Tripped,
    /// As often as [`SILENT`], no copy says what it holds.
    Silent,
    /// There is no room for points in time.
    Pointless,
    /// No index is removed: a snapshot is made of it.
    Snapshot,
    /// Indices are removed, and the answer says that the cluster is not there.
    Unsaid,
}

const MODES: [Mode; 11] = [
    Mode::Pass,
    Mode::Away,
    Mode::Busy,
    Mode::BusyItems,
    Mode::Deaf,
    Mode::Breaker,
    Mode::Tripped,
    Mode::Silent,
    Mode::Pointless,
    Mode::Snapshot,
    Mode::Unsaid,
];
/// How often copies are silent.
pub(crate) const SILENT: usize = 3;
/// Hits for which there is room.
const HITS_MAX: u64 = 12;

/// A proxy on loopback. It ends with this value.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicUsize>,
    /// Requests that were not passed on, or whose answers were not.
    hits: Arc<AtomicUsize>,
    /// Bytes of the largest answer that was passed on.
    largest: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of `server`, `http://host:port`.
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = server.trim_start_matches("http://").to_owned();
        let [mode, hits, largest] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let its = [&mode, &hits, &largest].map(Arc::clone);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, its) = (server.clone(), its.clone());
                connections.spawn(async move { drop(connection(client, &server, &its).await) });
            }
        });
        Self { address, mode, hits, largest, _tasks: tasks }
    }

    /// `http://host:port` of the proxy.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the next request on.
    pub(crate) fn set(&self, mode: Mode) {
        let at = MODES.iter().position(|other| *other == mode).expect("it is one of them");
        self.mode.store(at, Ordering::SeqCst);
    }

    /// How many requests the fault has met.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Bytes of the largest answer.
    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }
}

async fn connection(
    mut client: TcpStream,
    server: &str,
    [mode, hits, largest]: &[Arc<AtomicUsize>; 3],
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body).await?;
    let is_of = |what: &str| head.lines().next().is_some_and(|line| line.contains(what));
    let (is_bulk, is_search) = (is_of("_bulk"), is_of("_search?"));
    let is_write = is_bulk || head.starts_with("PUT");
    let wanted = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).ok()?["size"].as_u64();
    let mode = MODES[mode.load(Ordering::SeqCst)];
    let fault = match mode {
        Mode::Pass => false,
        Mode::Away => true,
        Mode::Busy | Mode::BusyItems => is_bulk,
        Mode::Deaf => is_write,
        Mode::Breaker => is_search && wanted(&body).is_some_and(|hits| hits > HITS_MAX),
        Mode::Tripped => is_search,
        Mode::Silent => is_of("_stats/flush") && hits.load(Ordering::SeqCst) < SILENT,
        Mode::Pointless => head.starts_with("POST") && is_of("/_search/point_in_time?"),
        Mode::Snapshot | Mode::Unsaid => head.starts_with("DELETE") && !is_of("/_search"),
    };
    if fault {
        hits.fetch_add(1, Ordering::SeqCst);
    }
    if mode == Mode::Away {
        return Ok(());
    }
    if fault && let Some((status, text)) = instead(mode, &body) {
        return answer(&mut client, status, &text).await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    let head: String = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).fold(
        String::new(),
        |head, line| match line {
            "" => head + "connection: close\r\n\r\n",
            line => head + line + "\r\n",
        },
    );
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response).await?;
    largest.fetch_max(response.len(), Ordering::SeqCst);
    if fault && mode == Mode::Unsaid {
        let nobody = r#"{"error":{"type":"cluster_manager_not_discovered_exception","reason":"nobody leads"}}"#;
        return answer(&mut client, "503 Service Unavailable", nobody).await;
    }
    if !fault {
        // Whoever asks again makes a connection of his own.
        let line = response.windows(2).position(|two| two == b"\r\n").unwrap_or(0);
        client.write_all(&response[..line]).await?;
        client.write_all(b"\r\nconnection: close").await?;
        client.write_all(&response[line..]).await?;
    }
    client.shutdown().await
}

/// What a request is answered with that a fault meets, unless it is passed on all the same.
fn instead(mode: Mode, body: &[u8]) -> Option<(&'static str, String)> {
    let (done, too_many) = ("200 OK", "429 Too Many Requests");
    let busy = r#"{"type":"rejected_execution_exception","reason":"the queue is full"}"#;
    let of_search = |cause: &str| {
        let failed = r#""type":"search_phase_execution_exception","reason":"all shards failed""#;
        format!("{{\"error\":{{\"root_cause\":[{cause}],{failed}}}}}")
    };
    match mode {
        Mode::Pass | Mode::Away | Mode::Deaf | Mode::Unsaid => None,
        Mode::Busy => Some((too_many, format!("{{\"error\":{busy}}}"))),
        Mode::BusyItems => {
            let count = body.split(|byte| *byte == b'\n').count() / 2;
            let items = vec![format!("{{\"index\":{{\"status\":429,\"error\":{busy}}}}}"); count];
            Some((done, format!("{{\"errors\":true,\"items\":[{}]}}", items.join(","))))
        }
        Mode::Breaker | Mode::Tripped => {
            Some((too_many, of_search(r#"{"type":"circuit_breaking_exception","reason":"Data too large"}"#)))
        }
        Mode::Pointless => Some((too_many, of_search(busy))),
        Mode::Silent => Some((done, "{}".to_owned())),
        Mode::Snapshot => {
            let snapshot = r#"{"type":"snapshot_in_progress_exception","reason":"it is being snapshotted"}"#;
            Some(("400 Bad Request", format!("{{\"error\":{snapshot}}}")))
        }
    }
}

async fn answer(client: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}
