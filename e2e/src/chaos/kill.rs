//! Moments at which a process is killed.

use std::io;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use super::ChaosError;
use crate::platform::Tidemark;
use crate::random::Random;
use crate::wait::within;

/// How soon a process that ends before its time is noticed.
const LOOK: Duration = Duration::from_millis(5);

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
        Kill::After(delay) => killed_after(command.spawn()?, *delay)?,
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

/// Kills a process after so long, and tells how it ended. One that ends before that is not waited for any longer, and the kill does
/// nothing to it.
fn killed_after(mut child: Child, delay: Duration) -> io::Result<Output> {
    let _ended = within(delay, LOOK, || child.try_wait().transpose()).transpose()?;
    child.kill()?;
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_killed_at_its_time_and_waited_for_no_longer_than_it_runs() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let run = |command: &mut Command, delay| {
            killed_after(command.spawn().expect("it starts"), delay).expect("it ends").status.code()
        };
        assert_eq!(run(&mut Command::new("true"), HOUR), Some(0));
        assert_eq!(run(Command::new("sleep").arg("3600"), Duration::from_millis(1)), None);
    }

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
