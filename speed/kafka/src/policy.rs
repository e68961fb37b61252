//! Which topics can't be followed: compacted ones. Archiver and indexers read a topic independently, and find other records in it
//! before a compaction than after it: a view could have rows that the archive lacks, and answers would lose them as the view lets
//! its rows go. That is asked where a topic is opened, and by nobody who looks which topics there are. Only a broker that says that a
//! topic is compacted has it refused: one that does not say keeps nobody from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::backoff::Attempts;
use tidemark_shared::lock;
use tidemark_shared::log::{LogError, Topic, TopicId, TopicName, blocking};

use crate::clients::Events;
use crate::error::{SETTLING, is_unknown};
use crate::native::setting;
use crate::topics::Topics;

/// The setting of a topic that says what becomes of old records.
const POLICY: &str = "cleanup.policy";
/// With this, records stay until their time is over. Said of each topic that we make: a broker's own default may be another.
pub(crate) const DELETE: (&str, &str) = (POLICY, "delete");
/// Longest wait for the broker's answer, all attempts together.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What a broker says of a topic's policy, if there is any; or why it does not say.
type Said = Result<Option<String>, RDKafkaErrorCode>;

/// Asks for topics' policies.
pub(crate) struct Policies {
    admin: Arc<AdminClient<Events>>,
    topics: Arc<Topics>,
    ambient: Arc<dyn Ambient>,
    /// Incarnations of which it was told that brokers don't say.
    told: Mutex<HashMap<TopicName, TopicId>>,
}

impl Policies {
    pub(crate) fn new(admin: Arc<AdminClient<Events>>, topics: Arc<Topics>, ambient: Arc<dyn Ambient>) -> Self {
        Self { admin, topics, ambient, told: Mutex::default() }
    }

    /// Checks that a topic can be followed. Where brokers don't say, it is taken for one that can, and that is told once.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if it is compacted; [`LogError::Missing`], [`LogError::Replaced`], if it went meanwhile.
    pub(crate) async fn check(&self, topic: &Topic) -> Result<(), LogError> {
        self.check_within(topic, ANSWER_MAX).await
    }

    async fn check_within(&self, topic: &Topic, at_most: Duration) -> Result<(), LogError> {
        let said = self.ask(topic, at_most).await?;
        if !decide(&topic.name, &said)? && self.is_news(topic) {
            let (topic, reason) =
                (&topic.name, said.err().map_or_else(|| "it has no such setting".to_owned(), |code| code.to_string()));
            tracing::warn!(%topic, reason, "brokers do not say whether the topic is compacted: one that is must not be followed");
        }
        Ok(())
    }

    /// True if nothing was told of the incarnation yet.
    fn is_news(&self, topic: &Topic) -> bool {
        let before = lock(&self.told).insert(topic.name.clone(), topic.id.clone());
        before.is_none_or(|before| before != topic.id)
    }

    /// What the broker says of the policy. Tries again while it has not heard of the topic, as long as that is there.
    async fn ask(&self, topic: &Topic, at_most: Duration) -> Result<Said, LogError> {
        let (begun, mut attempts) = (Instant::now(), Attempts::new(SETTLING));
        loop {
            let (admin, name) = (Arc::clone(&self.admin), topic.name.clone());
            let left = at_most.saturating_sub(begun.elapsed());
            let said = blocking(move || setting(admin.inner(), name.as_str(), POLICY, left)).await?;
            if !said.as_ref().is_err_and(|code| is_unknown(*code)) {
                return Ok(said);
            }
            let _there = self.topics.expect(topic).await?;
            if begun.elapsed() >= at_most || !attempts.again(self.ambient.random()).await {
                return Ok(said);
            }
        }
    }
}

/// Whether a topic can be followed, by what the broker says of its policy; false if it does not say, and so nobody knows.
fn decide(topic: &TopicName, said: &Said) -> Result<bool, LogError> {
    match said {
        Ok(Some(policy)) if policy.split(',').any(|part| part.trim() == "compact") => Err(LogError::Invalid {
            what: format!("topic `{topic}`"),
            reason: format!(
                "it is compacted (`{POLICY}={policy}`), so that whoever reads it later finds fewer records; set `{POLICY}=delete`, or \
                 copy its records into a topic that is not compacted, and name that one in the dataset's `[stream]`"
            ),
        }),
        Ok(Some(_)) => Ok(true),
        // one that has no such setting, lets nobody like us see it, answers no such question, or not in time: what else is asked of
        // it tells whether it is there
        Ok(None) | Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::ambient::System;
    use tidemark_shared::error::{ErrorKind as _, Kind};

    use super::*;
    use crate::clients::Clients;
    use crate::settings::KafkaSettings;
    use crate::stats::NoStats;

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
            (Err(Code::OperationTimedOut), Ok(false)),
            (Err(Code::InvalidRequest), Ok(false)),
            (Err(Code::UnknownTopicOrPartition), Ok(false)),
        ] {
            assert_eq!(decide(&topic, &said).map_err(|error| error.kind()), followed, "{said:?}");
        }
        let refused = decide(&topic, &text("compact")).expect_err("it is compacted").to_string();
        assert!(refused.contains("topic `orders`") && refused.contains("set `cleanup.policy=delete`"), "{refused}");
    }

    #[tokio::test]
    async fn a_broker_that_does_not_answer_keeps_nobody_from_a_topic_and_is_told_of_once() {
        // nobody listens there
        let settings = KafkaSettings { brokers: "127.0.0.1:1".to_owned(), ..KafkaSettings::default() };
        let clients = Clients::start(settings, Arc::new(NoStats)).expect("settings that go together");
        let admin = Arc::new(clients.admin().expect("a client"));
        let topics = Arc::new(Topics::start(Arc::clone(&admin)).expect("a thread"));
        let policies = Policies::new(admin, topics, Arc::new(System));
        let topic =
            |id| Topic { name: TopicName::new("orders").expect("a legal name"), id: TopicId::new(id), partitions: 1 };
        for _ in 0..2 {
            policies
                .check_within(&topic("1"), Duration::from_millis(20))
                .await
                .expect("nobody says that it is compacted");
        }
        assert_eq!([policies.is_news(&topic("1")), policies.is_news(&topic("2"))], [false, true]);
    }
}
