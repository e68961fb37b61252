//! A cluster that is none: it answers what pins and scans ask of one, of rows in memory, and refuses what it is told to refuse.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidemark_shared::ambient::System;
use tidemark_shared::live::{LivePin, LiveView as _, ViewId};
use tidemark_shared::lock;
use tidemark_shared::position::OFFSET_COLUMN;
use tidemark_testing::contract::live::{self as contract, batch, partition};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::exact::{ExactRows, FORMAT};
use crate::mapping::schema_text;
use crate::names::{floor_id, position_id, state_index};
use crate::rowless::Rowless;
use crate::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};

/// Where the partition's rows end; they begin at 0.
pub(super) const END: u64 = 120;
/// Offsets of an index.
const RANGE: u64 = 40;
const PREFIX: &str = "test";

/// On loopback. It ends with this value.
pub(super) struct StandIn {
    address: SocketAddr,
    view: ViewId,
    held: Arc<Mutex<Held>>,
    _tasks: JoinSet<()>,
}

/// What it holds, and what it refuses.
pub(super) struct Held {
    view: ViewId,
    /// The rows as their documents have them, by offset.
    pub(super) rows: BTreeMap<u64, String>,
    /// The document of the visible position.
    pub(super) position: Value,
    /// There is no room for points in time.
    pub(super) refuses_points: bool,
    /// Queries about columns are not taken.
    pub(super) refuses_conditions: bool,
    /// Requests, method and path, with the statuses that they were answered with.
    asked: Vec<(String, u16)>,
}

impl StandIn {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let view = contract::view("scan");
        let held = Arc::new(Mutex::new(Held::new(&view)));
        let mut tasks = JoinSet::new();
        let its = Arc::clone(&held);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let its = Arc::clone(&its);
                connections.spawn(async move { drop(connection(client, &its).await) });
            }
        });
        Self { address, view, held, _tasks: tasks }
    }

    /// A pin of a process that has read nothing yet, and reads in one stream.
    pub(super) async fn pin(&self) -> Arc<dyn LivePin> {
        let url: OpenSearchUrl = format!("opensearch+http://{}/{PREFIX}", self.address).parse().expect("an address");
        let settings = OpenSearchViewSettings { block_offsets: 24, scan_parts: 1, ..OpenSearchViewSettings::default() };
        let views = OpenSearchView::new(&url, Arc::new(System), settings).expect("a client");
        views.pin(&self.view).await.expect("an answer").expect("the view is there")
    }

    pub(super) fn set<T>(&self, how: impl FnOnce(&mut Held) -> T) -> T {
        how(&mut lock(&self.held))
    }

    /// The statuses of the requests so far that have such a text in method and path.
    pub(super) fn asked(&self, text: &str) -> Vec<u16> {
        let held = lock(&self.held);
        held.asked.iter().filter(|(request, _)| request.contains(text)).map(|(_, status)| *status).collect()
    }
}

impl Held {
    fn new(view: &ViewId) -> Self {
        let (batch, exact) = (batch(&partition(0), 0..END), ExactRows::new(&contract::schema()).expect("the schema"));
        let mut rows = BTreeMap::new();
        for part in &batch.rows {
            let encoded = exact.encode(part).expect("rows");
            let offsets = part.column_by_name(OFFSET_COLUMN).expect("offsets").as_primitive::<Int64Type>();
            let texts = encoded.iter().map(|row| {
                let bytes: &[u8] = row.as_ref();
                STANDARD.encode(bytes)
            });
            rows.extend(offsets.values().iter().map(|offset| u64::try_from(*offset).expect("an offset")).zip(texts));
        }
        let mut rowless = Rowless::beginning(0);
        rowless.take_in(&batch, 0);
        let starts: Vec<u64> = (0..END).step_by(RANGE as usize).collect();
        let indices = starts.iter().map(|start| {
            let name = index_of(*start);
            json!([start, name, format!("{name}.1"), format!("id {name}")])
        });
        let histories = starts.iter().map(|start| json!([start, format!("history of {}", index_of(*start))]));
        let position = json!({
            "partition": partition(0).to_string(),
            "epoch": 0,
            "visible": END,
            "indices": indices.collect::<Vec<_>>(),
            "histories": histories.collect::<Vec<_>>(),
            "rowless": rowless,
        });
        let (refuses_points, refuses_conditions, asked) = Default::default();
        Self { view: view.clone(), rows, position, refuses_points, refuses_conditions, asked }
    }

    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = match path.rsplit_once('/') {
            _ if method == "DELETE" => (200, json!({})),
            Some((_, "_mget")) => (200, self.documents(body)),
            Some((of, "flush")) => (200, said_of(of)),
            Some((_, "point_in_time")) if self.refuses_points => (429, refusal("rejected_execution_exception")),
            Some((_, "point_in_time")) => (200, json!({"pit_id": format!("point {}", self.asked.len())})),
            _ if path.ends_with("_search") => self.found(body),
            _ => (200, self.described()),
        };
        self.asked.push((format!("{method} {path}"), status));
        (status, answer)
    }

    /// The state index, as it describes itself.
    fn described(&self) -> Value {
        let name = state_index(PREFIX, &self.view);
        let schema = schema_text(&contract::schema()).expect("the schema");
        let ViewId { dataset, generation } = &self.view;
        let meta =
            json!({"format": FORMAT, "dataset": dataset, "generation": generation, "schema": schema, "range": RANGE});
        json!({(&name): {
            "aliases": {(format!("{name}.1")): {}},
            "mappings": {"_meta": {"tidemark": meta}},
            "settings": {"index": {"uuid": "the state's id"}},
        }})
    }

    /// Documents of the state index.
    fn documents(&self, body: &Value) -> Value {
        let partition = partition(0);
        let source = |id: &str| match id {
            "partitions" => json!({"partitions": [partition.to_string()]}),
            id if id == position_id(&partition) => self.position.clone(),
            id if id == floor_id(&partition) => json!({"floor": 0}),
            other => panic!("nobody needs `{other}`"),
        };
        let one = |doc: &Value| json!({"found": true, "_source": source(doc["_id"].as_str().expect("an id"))});
        json!({"docs": body["docs"].as_array().expect("ids").iter().map(one).collect::<Vec<_>>()})
    }

    /// The rows that a search finds.
    fn found(&self, body: &Value) -> (u16, Value) {
        let query = &body["query"];
        if self.refuses_conditions && query.to_string().contains("\"row.") {
            return (400, refusal("query_shard_exception"));
        }
        let found: Vec<_> = self.rows.iter().filter(|(offset, _)| passes(query, **offset)).collect();
        let size = body["size"].as_u64().expect("a size") as usize;
        let hit = |(offset, exact): &(&u64, &String)| json!({"sort": [offset], "fields": {"exact": [exact]}});
        let hits: Vec<Value> = found.iter().take(size).map(hit).collect();
        let hits = json!({"total": {"value": found.len()}, "hits": hits});
        (200, json!({"timed_out": false, "_shards": {"successful": 1, "failed": 0}, "hits": hits}))
    }
}

/// The index of an offset.
fn index_of(offset: u64) -> String {
    format!("i{}", offset - offset % RANGE)
}

/// Whether a row passes a query, as far as that is about offsets and indices.
fn passes(query: &Value, offset: u64) -> bool {
    if let Some(index) = query["term"]["_index"].as_str() {
        return index == index_of(offset);
    }
    let bounds = &query["range"]["offset"];
    if let (Some(from), Some(to)) = (bounds["gte"].as_u64(), bounds["lt"].as_u64()) {
        return (from..to).contains(&offset);
    }
    if let Some(any) = query["bool"]["should"].as_array() {
        return any.iter().any(|query| passes(query, offset));
    }
    query["bool"]["filter"].as_array().is_none_or(|all| all.iter().all(|query| passes(query, offset)))
}

/// What copies of indices say of themselves, by the indices' aliases.
fn said_of(path: &str) -> Value {
    let aliases = path.split('/').next().unwrap_or_default().split(',');
    let said = aliases.map(|alias| {
        let name = alias.strip_suffix(".1").expect("an alias of ours");
        let history = json!({"user_data": {"history_uuid": format!("history of {name}")}});
        let copy = json!({"routing": {"primary": true, "state": "STARTED"}, "commit": history});
        (name.to_owned(), json!({"uuid": format!("id {name}"), "shards": {"0": [copy]}}))
    });
    json!({"indices": said.collect::<serde_json::Map<_, _>>()})
}

fn refusal(kind: &str) -> Value {
    let cause = json!({"type": kind, "reason": "it is told to refuse it"});
    json!({"error": {
        "type": "search_phase_execution_exception",
        "reason": "all shards failed",
        "root_cause": [cause],
    }})
}

/// Answers one request.
async fn connection(mut client: TcpStream, held: &Mutex<Held>) -> std::io::Result<()> {
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
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, answer) = lock(held).answer(method, path, &body);
    let answer = answer.to_string();
    let length = answer.len();
    let head = format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    client.write_all(format!("{head}connection: close\r\n\r\n{answer}").as_bytes()).await?;
    client.shutdown().await
}
