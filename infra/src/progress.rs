//! Progress on standard error: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemark_batch::report::{Progress, Quiet};

use crate::units::{format_bytes, format_duration};

/// Shortest time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How often a bar moves although no bytes arrived, so that a slow phase is seen to live.
const TICK: Duration = Duration::from_millis(250);

/// Progress for a command: none if `quiet`, a bar where standard error is a terminal, else lines.
#[must_use]
pub fn progress(quiet: bool) -> Arc<dyn Progress> {
    if quiet {
        return Arc::new(Quiet);
    }
    if std::io::stderr().is_terminal() {
        return Arc::new(Bar::new());
    }
    // Nobody can be told that standard error is closed.
    Arc::new(Lines::new(Instant::now, |line| drop(writeln!(std::io::stderr(), "{line}"))))
}

/// One bar; a new phase takes the place of the last one.
struct Bar {
    bar: Mutex<ProgressBar>,
}

impl Bar {
    fn new() -> Self {
        Self { bar: Mutex::new(ProgressBar::hidden()) }
    }

    fn current(&self) -> ProgressBar {
        self.bar.lock().expect("no holder of the bar panics").clone()
    }
}

impl Progress for Bar {
    fn phase(&self, name: &'static str, total_bytes: Option<u64>) {
        let target = ProgressDrawTarget::stderr();
        let (bar, template) = match total_bytes {
            Some(total) => (
                ProgressBar::with_draw_target(Some(total), target),
                "{msg:>8} [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
            ),
            None => (ProgressBar::with_draw_target(None, target), "{msg:>8} {spinner} {decimal_bytes} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(name);
        bar.enable_steady_tick(TICK);
        let last = std::mem::replace(&mut *self.bar.lock().expect("no holder of the bar panics"), bar);
        last.finish_and_clear();
    }

    fn advance(&self, bytes: u64) {
        self.current().inc(bytes);
    }

    fn remark(&self, line: &str) {
        self.current().suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.current().finish_and_clear();
    }
}

/// Plain lines, at most one in [`LINE_INTERVAL`] besides the start of each phase.
struct Lines<C, W> {
    clock: C,
    write: W,
    done: AtomicU64,
    phase: Mutex<Phase>,
}

/// The phase that lines tell of.
struct Phase {
    name: &'static str,
    total_bytes: Option<u64>,
    begun: Instant,
    told: Instant,
}

impl<C: Fn() -> Instant, W: Fn(&str)> Lines<C, W> {
    fn new(clock: C, write: W) -> Self {
        let now = clock();
        let phase = Phase { name: "", total_bytes: None, begun: now, told: now };
        Self { clock, write, done: AtomicU64::new(0), phase: Mutex::new(phase) }
    }
}

impl<C, W> Progress for Lines<C, W>
where
    C: Fn() -> Instant + Send + Sync,
    W: Fn(&str) + Send + Sync,
{
    fn phase(&self, name: &'static str, total_bytes: Option<u64>) {
        let now = (self.clock)();
        let mut phase = self.phase.lock().expect("no holder of the phase panics");
        *phase = Phase { name, total_bytes, begun: now, told: now };
        self.done.store(0, Ordering::Relaxed);
        match total_bytes {
            Some(total) => (self.write)(&format!("{name}: {}", format_bytes(total))),
            None => (self.write)(name),
        }
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever finds the lock taken leaves the line to the holder.
        let Ok(mut phase) = self.phase.try_lock() else { return };
        let now = (self.clock)();
        if now.duration_since(phase.told) >= LINE_INTERVAL {
            phase.told = now;
            (self.write)(&line(phase.name, done, phase.total_bytes, now.duration_since(phase.begun)));
        }
    }

    fn remark(&self, line: &str) {
        (self.write)(line);
    }
}

/// `curate: 120.0 MB of 800.0 MB (15 %), 24.0 MB/s, 28s left`.
fn line(name: &str, done: u64, total_bytes: Option<u64>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let speed = format_bytes(rate as u64);
    match total_bytes {
        Some(total) if total > 0 && done <= total => {
            let left = Duration::from_secs(((total - done) as f64 / rate.max(1.0)) as u64);
            let percent = u128::from(done) * 100 / u128::from(total);
            let (done, total, left) = (format_bytes(done), format_bytes(total), format_duration(left));
            format!("{name}: {done} of {total} ({percent} %), {speed}/s, {left} left")
        }
        _ => format!("{name}: {}, {speed}/s", format_bytes(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_when_the_interval_has_passed_and_not_before() {
        let start = Instant::now();
        let seconds = AtomicU64::new(0);
        let lines = Mutex::new(Vec::new());
        let clock = || start + Duration::from_secs(seconds.load(Ordering::Relaxed));
        let told = Lines::new(clock, |line: &str| lines.lock().expect("not poisoned").push(line.to_owned()));
        told.phase("curate", Some(100_000_000));
        for second in 1..=11 {
            seconds.store(second, Ordering::Relaxed);
            told.advance(4_000_000);
        }
        told.remark("lost a race");
        assert_eq!(
            *lines.lock().expect("not poisoned"),
            [
                "curate: 100.0 MB",
                "curate: 20.0 MB of 100.0 MB (20 %), 4.0 MB/s, 20s left",
                "curate: 40.0 MB of 100.0 MB (40 %), 4.0 MB/s, 15s left",
                "lost a race",
            ]
        );
    }

    #[test]
    fn a_phase_begins_anew_and_may_have_no_total() {
        let lines = Mutex::new(Vec::new());
        let start = Instant::now();
        let seconds = AtomicU64::new(0);
        let clock = || start + Duration::from_secs(seconds.load(Ordering::Relaxed));
        let told = Lines::new(clock, |line: &str| lines.lock().expect("not poisoned").push(line.to_owned()));
        told.phase("hash", Some(10));
        told.advance(10);
        told.phase("commit", None);
        seconds.store(10, Ordering::Relaxed);
        told.advance(1_000_000);
        assert_eq!(*lines.lock().expect("not poisoned"), ["hash: 10 B", "commit", "commit: 1.0 MB, 100.0 kB/s"]);
    }

    #[test]
    fn more_bytes_than_announced_do_no_harm() {
        assert_eq!(line("copy", 20, Some(10), Duration::from_secs(2)), "copy: 20 B, 10 B/s");
        assert_eq!(line("copy", 0, Some(0), Duration::ZERO), "copy: 0 B, 0 B/s");
    }
}
