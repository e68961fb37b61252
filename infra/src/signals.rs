//! Ctrl-C and termination: the first asks the command to stop, the second ends the process at once. And a signal that
//! must not end it.

use std::io;

use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Watches for signals on a thread of its own, so that they count even while all others are busy.
///
/// # Errors
/// If the thread can't be started.
pub fn watch() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let first = token.clone();
    let runtime = Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            signal().await;
            first.cancel();
            signal().await;
            std::process::exit(Exit::Interrupted.code().into());
        });
    })?;
    Ok(token)
}

/// `SIGXFSZ` on every system that we build for.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Lets a write beyond the limit on a file's size (`ulimit -f`) fail like any other, with an error that names the file,
/// where the signal that comes with it would end the process without a word. To be called within a runtime.
///
/// # Errors
/// If the signal can't be caught.
pub fn survive_full_files() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // The first listener takes the signal's default away for as long as the process lives.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(drop)
}

/// Waits for Ctrl-C or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut stream) => drop(stream.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let interrupt = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        () = interrupt => {}
    }
}
