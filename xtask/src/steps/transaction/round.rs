//! What a new Hub commit does to the round in progress (GATES 33).

use std::time::Duration;

use deval_hub::{RemoteCommit, RemoteState};
use serde::{Deserialize, Serialize};

/// A validator's round is cut off after so long (upstream `deval/base/validator.py`), so every round in progress is younger.
pub(crate) const LONGEST_ROUND: Duration = Duration::from_secs(18 * 3600);

/// What becomes of the round in progress. When a validator began it is known to that validator only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// There is no new Hub commit.
    Untouched,
    /// Nothing is lost, because no validator counts the repository as it is.
    NotInIt,
    /// Lost where it counts now: in rounds that began after the last Hub commit, and some in progress may have begun before it.
    Partly,
    /// Lost: all rounds in progress count the repository as it is.
    Lost,
}

/// The fate of the round, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) fate: Fate,
    pub(crate) why: String,
}

impl Round {
    /// `unchanged` tells that there will be no Hub commit.
    pub(crate) fn of(remote: &RemoteState, unchanged: bool) -> Self {
        let (fate, why) = match remote {
            RemoteState::Present(found) if unchanged => (
                Fate::Untouched,
                format!("no new Hub commit; the last one stays that of {}", date(found.last_commit.as_ref())),
            ),
            RemoteState::Present(found) if !found.private && !found.disabled && found.last_commit.is_some() => {
                counted(found.last_commit.as_ref())
            }
            other => {
                let state = match other {
                    RemoteState::Missing => "does not exist",
                    RemoteState::Present(found) if found.private => "is private",
                    RemoteState::Present(_) => "is empty or disabled",
                };
                (
                    Fate::NotInIt,
                    format!(
                        "the repository {state}, so no round in progress counts it; it counts in rounds that begin after the Hub commit"
                    ),
                )
            }
        };
        Self { fate, why }
    }

    pub(crate) fn text(&self) -> String {
        let fate = match self.fate {
            Fate::Untouched => "not touched",
            Fate::NotInIt => "nothing to lose",
            Fate::Partly => "lost where the model counts now",
            Fate::Lost => "LOST",
        };
        format!("{fate}: {}", self.why)
    }
}

/// A repository that validators count.
fn counted(last: Option<&RemoteCommit>) -> (Fate, String) {
    let date = date(last);
    let old = last.and_then(RemoteCommit::age).is_some_and(|age| age > LONGEST_ROUND);
    if old {
        let why = format!(
            "a round takes at most 18 h, so every one in progress began after the last Hub commit ({date}) and counts the model; a new \
             Hub commit takes it out of all of them"
        );
        return (Fate::Lost, why);
    }
    let why = format!(
        "rounds that began after the last Hub commit ({date}) count the model and lose it; those that began before do not count it \
         anyway. When a round began is known to its validator only"
    );
    (Fate::Partly, why)
}

/// The date of a Hub commit, for people.
pub(crate) fn date(commit: Option<&RemoteCommit>) -> &str {
    commit.map_or("an unknown date", |commit| &commit.date)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use deval_hub::RemoteRepo;

    use super::*;

    fn repository(private: bool, hours: u64) -> RemoteState {
        let date = humantime::format_rfc3339_millis(SystemTime::now() - Duration::from_secs(hours * 3600)).to_string();
        let last_commit = Some(RemoteCommit { id: "c".into(), title: String::new(), date });
        RemoteState::Present(RemoteRepo { private, last_commit, head: Some("c".into()), ..RemoteRepo::default() })
    }

    #[test]
    fn what_can_be_known_of_the_round_is_said_and_no_more() {
        let fate = |remote: &RemoteState, unchanged| Round::of(remote, unchanged).fate;
        assert_eq!(fate(&RemoteState::Missing, false), Fate::NotInIt);
        assert_eq!(fate(&repository(true, 50), false), Fate::NotInIt);
        assert_eq!(fate(&RemoteState::Present(RemoteRepo::default()), false), Fate::NotInIt);
        assert_eq!(fate(&repository(false, 17), false), Fate::Partly);
        assert_eq!(fate(&repository(false, 19), false), Fate::Lost);
        assert_eq!(fate(&repository(false, 19), true), Fate::Untouched);
    }
}
