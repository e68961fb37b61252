//! The audit itself: answers in, verdict out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use tidemark_shared::position::Coverage;

use super::classify::{Auditable, classify};
use super::compare::{Kind, Row, difference, rows_of_json};
use super::derived::{Derived, DerivedRows};
use super::master::{Cuts, Derivation};
use super::prefix::Prefixes;
use super::statement::{self, Covered, Outcome};
use super::template::{Template, templates};
use super::{Answered, AnsweredColumn, AuditError, Claim, Master};

/// Differences that a report spells out; it counts them all.
const DIFFERENCES_MAX: usize = 20;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Answers that were derived again.
    pub audited: u64,
    /// Of those, the ones that differ.
    pub wrong: u64,
    /// Answers that what they cover does not determine, and questions that got none, by reason.
    pub not_auditable: BTreeMap<String, u64>,
    /// Rows derived for it.
    pub rows_derived: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// An answer that is not what its prefix yields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The statement.
    pub sql: String,
    /// Per dataset, what it says that it covers.
    pub as_of: BTreeMap<String, Claim>,
    /// Rows that only the answer has, some of them.
    pub only_answered: Vec<Row>,
    /// Rows that only the derivation has, some of them.
    pub only_derived: Vec<Row>,
}

/// A dataset by one definition: what the answers are derived from.
struct Ground {
    derivation: Derivation,
    derived: Derived,
    cuts: Cuts,
    templates: Vec<Template>,
    /// Which template a statement is.
    asked: HashMap<String, usize>,
}

type GroundKey = (String, String);

/// Derives `answers` again from `master` and compares.
///
/// # Errors
/// [`AuditError`] if they can't be derived; a wrong answer is none.
pub async fn audit(master: &Master, answers: &[Answered]) -> Result<AuditReport, AuditError> {
    let mut report = AuditReport::default();
    let mut auditable = Vec::new();
    for answer in answers {
        match classify(&answer.sql) {
            Auditable::No { reason } => report.pass_over(reason),
            Auditable::Yes if answer.as_of.is_empty() => report.pass_over("it reads no dataset".to_owned()),
            Auditable::Yes if answer.columns.iter().any(AnsweredColumn::is_nested) => {
                report.pass_over("it has a column of lists, structs or maps".to_owned());
            }
            Auditable::Yes => auditable.push(answer),
        }
    }
    let mut grounds = BTreeMap::new();
    for key in auditable.iter().flat_map(|answer| keys(answer)).collect::<BTreeSet<_>>() {
        let ground = Ground::lay(master, &key, &auditable).await?;
        report.rows_derived += ground.derived.rows;
        grounds.insert(key, ground);
    }
    let (by_template, others) = assign(&auditable, &grounds);
    for ((key, index), answers) in by_template {
        let ground = &grounds[&key];
        let template = &ground.templates[index];
        let prefixes = Prefixes::new(&ground.derived, template, &ground.cuts).await?;
        let kinds = template_kinds(template);
        let of_batch = template.sql(&format!("batch.{}", key.0));
        for answer in answers {
            let claim = &answer.as_of[&key.0];
            let positions = if answer.sql == of_batch { &claim.coverage } else { &claim.positions };
            report.judge(answer, &kinds, prefixes.at(positions, &counting_files(&ground.derivation, positions)));
        }
    }
    for answer in others {
        let covered = answer.as_of.iter().map(|(dataset, claim)| {
            let ground = &grounds[&(dataset.clone(), claim.definition.clone())];
            let (derived, derivation) = (&ground.derived, &ground.derivation);
            let covered = Covered { derived, derivation, positions: &claim.positions, coverage: &claim.coverage };
            (dataset.clone(), covered)
        });
        match statement::derive(&answer.sql, &covered.collect()).await? {
            Outcome::Rows(kinds, derived) => report.judge(answer, &kinds, derived),
            Outcome::NotAuditable(reason) => report.pass_over(reason),
        }
    }
    Ok(report)
}

impl AuditReport {
    /// Counts an answer that can't be audited, or a question that got none.
    pub fn pass_over(&mut self, reason: String) {
        *self.not_auditable.entry(reason).or_default() += 1;
    }

    fn judge(&mut self, answer: &Answered, kinds: &[Kind], derived: Vec<Row>) {
        self.audited += 1;
        let Some((only_answered, only_derived)) = difference(kinds, rows_of_json(&answer.rows), derived) else {
            return;
        };
        self.wrong += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            let (sql, as_of) = (answer.sql.clone(), answer.as_of.clone());
            self.differences.push(Difference { sql, as_of, only_answered, only_derived });
        }
    }
}

impl Ground {
    async fn lay(master: &Master, key: &GroundKey, answers: &[&Answered]) -> Result<Self, AuditError> {
        let (dataset, version) = key;
        let derivation = master.prepare(dataset, version).await?;
        let claims = answers.iter().filter_map(|answer| answer.as_of.get(dataset));
        let claims = claims.filter(|claim| claim.definition == *version);
        let cuts = Cuts::of(claims.flat_map(|claim| [&claim.positions, &claim.coverage]));
        let mut rows = DerivedRows::create(&derivation.schema)?;
        let mut sink = |batch| rows.push(&batch, &cuts);
        master.derive(&derivation, &cuts.ends(), &cuts.files, &mut sink).await?;
        let derived = rows.finish().await?;
        let templates = match derivation.definition.key {
            // Which row of a key counts is no sum.
            Some(_) => Vec::new(),
            None => templates(&derivation.schema, &derivation.definition.partition_columns),
        };
        let asked = templates.iter().enumerate().flat_map(|(index, template)| {
            ["merged", "batch"].map(|layer| (template.sql(&format!("{layer}.{dataset}")), index))
        });
        let asked = asked.collect();
        Ok(Self { derivation, derived, cuts, templates, asked })
    }
}

fn keys(answer: &Answered) -> impl Iterator<Item = GroundKey> {
    answer.as_of.iter().map(|(dataset, claim)| (dataset.clone(), claim.definition.clone()))
}

type ByTemplate<'a> = BTreeMap<(GroundKey, usize), Vec<&'a Answered>>;

/// Which answers are a template's, and which have to be run one by one.
fn assign<'a>(answers: &[&'a Answered], grounds: &BTreeMap<GroundKey, Ground>) -> (ByTemplate<'a>, Vec<&'a Answered>) {
    let (mut by_template, mut others) = (ByTemplate::new(), Vec::new());
    for answer in answers {
        let mut asked = keys(answer);
        let template = match (asked.next(), asked.next()) {
            (Some(key), None) => grounds[&key].asked.get(&answer.sql).map(|index| (key.clone(), *index)),
            _ => None,
        };
        match template {
            Some(key) => by_template.entry(key).or_default().push(*answer),
            None => others.push(*answer),
        }
    }
    (by_template, others)
}

fn template_kinds(template: &Template) -> Vec<Kind> {
    let groups = template.groups.iter().map(|_| Kind::Text);
    groups.chain(template.aggregates.iter().map(|_| Kind::Exact)).collect()
}

/// The files whose rows count in the prefix of the ledger that `positions` names.
fn counting_files(derivation: &Derivation, positions: &Coverage) -> BTreeSet<u64> {
    let counting = derivation.ledger.files().filter(|file| file.counts_at(positions.files_end()));
    counting.map(|file| file.number).collect()
}
