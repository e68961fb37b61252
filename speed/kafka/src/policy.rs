//! Which topics can't be followed: compacted ones. Archiver and indexers read a topic independently, and find other records in it
//! before a compaction than after it: a view could have rows that the archive lacks, and answers would lose them as the view lets
//! its rows go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::backoff::Attempts;
use tidemark_shared::lock;
use tidemark_shared::log::{LogError, Topic, TopicId, TopicName, blocking};

use crate::clients::Events;
use crate::error::{SETTLING, failed, is_unknown};
use crate::native::setting;
use crate::topics::Topics;

/// The setting of a topic that says what becomes of old records.
const POLICY: &str = "cleanup.policy";
/// With this, records stay until their time is over. Said of each topic that we make: a broker's own default may be another.
pub(crate) const DELETE: (&str, &str) = (POLICY, "delete");
/// Longest wait for the broker's answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// What the broker said of an incarnation counts for so long: who looks at a topic all the time asks no more than that.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is known of topics' policies.
pub(crate) struct Policies {
    admin: Arc<AdminClient<Events>>,
    topics: Arc<Topics>,
    ambient: Arc<dyn Ambient>,
    /// Incarnations that can be followed, and when that was said.
    good: Mutex<HashMap<TopicName, (TopicId, Instant)>>,
    /// True once it was told that brokers don't say.
    told: AtomicBool,
}

impl Policies {
    pub(crate) fn new(admin: Arc<AdminClient<Events>>, topics: Arc<Topics>, ambient: Arc<dyn Ambient>) -> Self {
        Self { admin, topics, ambient, good: Mutex::default(), told: AtomicBool::new(false) }
    }

    /// Checks that a topic can be followed. Where brokers don't say, it is taken for one that can.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if it is compacted; [`LogError::Missing`], [`LogError::Replaced`]; [`LogError::Backend`].
    pub(crate) async fn check(&self, topic: &Topic) -> Result<(), LogError> {
        if self.is_good(topic) {
            return Ok(());
        }
        let said = decide(&topic.name, self.ask(topic).await?)?;
        if !said && !self.told.swap(true, Ordering::Relaxed) {
            let topic = &topic.name;
            tracing::warn!(%topic, "brokers do not say whether topics are compacted: one that is must not be followed");
        }
        lock(&self.good).insert(topic.name.clone(), (topic.id.clone(), Instant::now()));
        Ok(())
    }

    fn is_good(&self, topic: &Topic) -> bool {
        let good = lock(&self.good);
        good.get(&topic.name).is_some_and(|(id, at)| *id == topic.id && at.elapsed() < LOOK_AGAIN)
    }

    /// What the broker says of the policy. Tries again while it has not heard of the topic, as long as that is there.
    async fn ask(&self, topic: &Topic) -> Result<Result<Option<String>, RDKafkaErrorCode>, LogError> {
        let mut attempts = Attempts::new(SETTLING);
        loop {
            let (admin, name) = (Arc::clone(&self.admin), topic.name.clone());
            let said = blocking(move || setting(admin.inner(), name.as_str(), POLICY, ANSWER_MAX)).await?;
            if !said.as_ref().is_err_and(|code| is_unknown(*code)) {
                return Ok(said);
            }
            let _there = self.topics.expect(topic).await?;
            if !attempts.again(self.ambient.random()).await {
                return Ok(said);
            }
        }
    }
}

/// Whether a topic can be followed, by what the broker says of its policy; false if it does not say, and so nobody knows.
fn decide(topic: &TopicName, said: Result<Option<String>, RDKafkaErrorCode>) -> Result<bool, LogError> {
    use RDKafkaErrorCode as Code;
    match said {
        Ok(Some(policy)) if policy.split(',').any(|part| part.trim() == "compact") => Err(LogError::Invalid {
            what: format!("topic `{topic}`"),
            reason: format!(
                "it is compacted (`{POLICY}={policy}`), so that whoever reads it later finds fewer records; set `{POLICY}=delete`, or \
                 copy its records into a topic that is not compacted, and name that one in the dataset's `[stream]`"
            ),
        }),
        Ok(Some(_)) => Ok(true),
        // one that has no such setting, that lets nobody like us see it, or that answers no such question
        Ok(None)
        | Err(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature,
        ) => Ok(false),
        Err(code) => Err(failed("ask for a topic's settings", code)),
    }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::error::{ErrorKind as _, Kind};

    use super::*;

    #[test]
    fn a_compacted_topic_is_refused_and_one_of_which_nobody_says_so_is_not() {
        use RDKafkaErrorCode as Code;
        let topic = TopicName::new("orders").expect("a legal name");
        let text = |policy: &str| Ok(Some(policy.to_owned()));
        for (said, followed) in [
            (text("delete"), Ok(true)),
            (text(""), Ok(true)),
            (text("compact"), Err(Kind::Invalid)),
            (text("delete,compact"), Err(Kind::Invalid)),
            (text("compact, delete"), Err(Kind::Invalid)),
            (Ok(None), Ok(false)),
            (Err(Code::TopicAuthorizationFailed), Ok(false)),
            (Err(Code::ClusterAuthorizationFailed), Ok(false)),
            (Err(Code::UnsupportedVersion), Ok(false)),
            (Err(Code::UnsupportedFeature), Ok(false)),
            (Err(Code::OperationTimedOut), Err(Kind::Retryable)),
            (Err(Code::UnknownTopicOrPartition), Err(Kind::Retryable)),
        ] {
            let shown = format!("{said:?}");
            assert_eq!(decide(&topic, said).map_err(|error| error.kind()), followed, "{shown}");
        }
        let refused = decide(&topic, text("compact")).expect_err("it is compacted").to_string();
        assert!(refused.contains("topic `orders`") && refused.contains("set `cleanup.policy=delete`"), "{refused}");
    }
}
