//! Moments at which a process is killed.

use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use super::ChaosError;
use crate::platform::Tidemark;
use crate::random::Random;

/// When a process ends before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kill {
    /// SIGKILL so long after its start.
    After(Duration),
    /// It aborts itself the `nth` time that it passes a failpoint.
    At {
        /// The failpoint.
        failpoint: String,
        /// Which passing, from 1 on.
        nth: u64,
    },
}

impl Kill {
    /// A moment: half of them by the clock (where `duration` is what an undisturbed run takes), half at one of the
    /// failpoints; all by the clock where there are none.
    pub fn random(random: &mut Random, duration: Duration, failpoints: &[String]) -> Self {
        if failpoints.is_empty() || random.once_in(2) {
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            return Self::After(Duration::from_micros(random.below(micros)));
        }
        let at = usize::try_from(random.below(failpoints.len() as u64)).expect("an index of a list in memory");
        Self::At { failpoint: failpoints[at].clone(), nth: 1 + random.below(3) * random.below(2) }
    }
}

/// How a process under fire ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By the kill or at the failpoint.
    Killed,
    /// With exit code 0, before the kill.
    Done,
    /// With another exit code: it met a state that it could not go on from. Standard error.
    Failed(String),
}

/// Starts a command and kills it, or lets it abort itself.
///
/// # Errors
/// The process can't be started or waited for.
pub fn run_and_kill(tidemark: &Tidemark, args: &[String], kill: &Kill) -> Result<Ending, ChaosError> {
    let mut command = tidemark.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = match kill {
        Kill::After(delay) => {
            let mut child = command.spawn()?;
            // nobody sends: the time limit is the wait
            let (_keep_open, never) = mpsc::channel::<()>();
            if never.recv_timeout(*delay).is_ok() {
                return Err("a channel without a sender's message had one".into());
            }
            child.kill()?;
            child.wait_with_output()?
        }
        Kill::At { failpoint, nth } => {
            command.env("TIDEMARK_FAILPOINT", format!("{failpoint}:{nth}"));
            command.output()?
        }
    };
    Ok(match output.status.code() {
        None => Ending::Killed,
        Some(0) => Ending::Done,
        Some(code) => Ending::Failed(format!("exit code {code}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_lie_within_the_run_and_name_known_failpoints() {
        let mut random = Random::new(11);
        let points = ["a".to_owned(), "b".to_owned()];
        let limit = Duration::from_secs(2);
        let (mut by_clock, mut at_points) = (0, 0);
        for _ in 0..200 {
            match Kill::random(&mut random, limit, &points) {
                Kill::After(delay) => {
                    assert!(delay < limit);
                    by_clock += 1;
                }
                Kill::At { failpoint, nth } => {
                    assert!(points.contains(&failpoint) && (1..=3).contains(&nth));
                    at_points += 1;
                }
            }
        }
        assert!(by_clock > 50 && at_points > 50);
        assert!(matches!(Kill::random(&mut random, limit, &[]), Kill::After(_)));
    }
}
