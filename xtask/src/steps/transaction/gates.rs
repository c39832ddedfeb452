//! The gates that a read of the repository decides.

use deval_hub::{RemoteCommit, RemoteRepo, Verified};
use deval_model::repo::{SIZE_LIMITS_GB, size_accepted, size_gb};
use deval_report::{
    Network,
    gates::{GateStatus, GateVerdict, Unit, gate},
};

use super::round::{LONGEST_ROUND, date};

/// Gates that findings decide, whoever reads.
const READ: [&str; 5] = ["G12", "G13", "G14", "G16", "G23"];

/// Gates that findings of a stranger's read decide.
const READ_BY_STRANGERS: [&str; 2] = ["G10", "G24"];

/// What a read decides; `strangers` is how many of three questions without a token were answered, where that was the way of reading.
pub(crate) fn verdicts(verified: &Verified, network: Network, strangers: Option<usize>) -> Vec<GateVerdict> {
    let how = if strangers.is_some() { "read on the Hub without a token" } else { "read on the Hub with the token" };
    let found = verified.found.as_ref();
    // Of a repository that cannot be read nothing but that is known.
    let mut codes: Vec<&str> = if found.is_some() { READ.to_vec() } else { Vec::new() };
    codes.extend(READ_BY_STRANGERS.iter().filter(|code| strangers.is_some() && (found.is_some() || **code == "G10")));
    let mut verdicts: Vec<_> = codes.into_iter().map(|code| of_findings(code, verified, how)).collect();
    verdicts.extend(strangers.map(|answered| asked_three_times(answered, network)));
    verdicts.extend(found.map(|found| size(found, network)));
    verdicts.extend(found.and_then(|found| found.last_commit.as_ref()).map(last_change));
    verdicts.sort_by(|a, b| a.code.cmp(&b.code));
    verdicts
}

fn of_findings(code: &str, verified: &Verified, how: &str) -> GateVerdict {
    let Some(finding) = verified.findings.iter().find(|finding| finding.code == code) else {
        let detail = match (code, verified.hosts.keys().next()) {
            ("G23", Some(host)) => format!("{how}: large files come from {host}"),
            _ => how.to_owned(),
        };
        return GateVerdict::new(code, GateStatus::Pass, detail);
    };
    let status = if finding.is_error() { GateStatus::Fail } else { GateStatus::Warn };
    GateVerdict { next: finding.help.clone(), ..GateVerdict::new(code, status, &finding.message) }
}

fn asked_three_times(answered: usize, network: Network) -> GateVerdict {
    let detail = format!("{answered} of 3 questions in a row, without a token, were answered");
    let status = if answered == 3 { GateStatus::Pass } else { failing("G11", network) };
    GateVerdict::new("G11", status, detail)
}

fn size(found: &RemoteRepo, network: Network) -> GateVerdict {
    let gb = size_gb(found.files.iter().map(|file| file.size));
    let status = if size_accepted(gb) { GateStatus::Pass } else { failing("G15", network) };
    let (min, max) = SIZE_LIMITS_GB;
    let detail = format!("{gb:.3} GB on `main`, all {} files counted", found.files.len());
    GateVerdict::new("G15", status, detail).distance((gb - min).min(max - gb), Unit::Gigabytes)
}

/// The newest Hub commit shuts out every round that began before it.
fn last_change(commit: &RemoteCommit) -> GateVerdict {
    let date = date(Some(commit));
    match commit.age() {
        Some(age) if age > LONGEST_ROUND => {
            let detail = format!("the newest Hub commit is of {date}; every round in progress began later");
            GateVerdict::new("G33", GateStatus::Pass, detail)
        }
        _ => GateVerdict::new("G33", GateStatus::Warn, format!("the newest Hub commit is of {date}"))
            .margin("counts in rounds that begin later")
            .next("leave the repository alone; rounds that began before that date reject it, and none of them lasts longer than 18 h"),
    }
}

fn failing(code: &str, network: Network) -> GateStatus {
    gate(code).map_or(GateStatus::Fail, |gate| gate.failing(network))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use deval_hub::{Digest, RemoteFile};
    use deval_report::Diagnostic;

    use super::*;

    fn verified(gigabytes: u64, hours: u64) -> Verified {
        let date = humantime::format_rfc3339_millis(SystemTime::now() - Duration::from_secs(hours * 3600)).to_string();
        let last_commit = Some(RemoteCommit { id: "c".into(), title: String::new(), date });
        let digest = Digest::Sha256("0".repeat(64));
        let size = gigabytes * 1_000_000_000;
        let files = vec![RemoteFile { path: "model.safetensors".into(), size, digest, last_commit: None }];
        let found = RemoteRepo { head: Some("c".into()), last_commit, files, ..RemoteRepo::default() };
        Verified { findings: Vec::new(), found: Some(found), hosts: BTreeMap::from([("huggingface.co".into(), 1)]) }
    }

    fn status(verdicts: &[GateVerdict], code: &str) -> Option<GateStatus> {
        verdicts.iter().find(|verdict| verdict.code == code).map(|verdict| verdict.status)
    }

    #[test]
    fn a_strangers_read_decides_all_of_them_and_the_owners_read_not_who_may_see() {
        let all = ["G10", "G11", "G12", "G13", "G14", "G15", "G16", "G23", "G24", "G33"];
        let verdicts_of = |strangers| verdicts(&verified(16, 30), Network::Finney, strangers);
        let codes: Vec<_> = verdicts_of(Some(3)).into_iter().map(|verdict| verdict.code).collect();
        assert_eq!(codes, all);
        assert!(verdicts_of(Some(3)).iter().all(|verdict| verdict.status == GateStatus::Pass));
        let owners = verdicts_of(None);
        assert!(["G10", "G11", "G24"].iter().all(|code| status(&owners, code).is_none()), "{owners:?}");
        assert_eq!(status(&verdicts_of(Some(2)), "G11"), Some(GateStatus::Fail));
    }

    #[test]
    fn size_age_and_findings_fail_where_a_validator_would() {
        let mut read = verified(11, 1);
        read.findings.push(Diagnostic::error("G16", "left over").help("publish"));
        read.findings.push(Diagnostic::warning("G23", "1 files are served from `cas`"));
        let found = verdicts(&read, Network::Finney, Some(3));
        let expected = [
            ("G15", GateStatus::Fail),
            ("G16", GateStatus::Fail),
            ("G23", GateStatus::Warn),
            ("G33", GateStatus::Warn),
        ];
        expected.iter().for_each(|(code, expected)| assert_eq!(status(&found, code), Some(*expected), "{code}"));
        let margin = found.iter().find(|verdict| verdict.code == "G15").and_then(|verdict| verdict.distance);
        assert_eq!(margin.map(|margin| margin.value.round() as i64), Some(-1));
        assert_eq!(status(&verdicts(&read, Network::Local, Some(3)), "G15"), Some(GateStatus::Warn));
        let hidden =
            Verified { findings: vec![Diagnostic::error("G10", "private")], found: None, hosts: BTreeMap::new() };
        let found = verdicts(&hidden, Network::Finney, Some(0));
        assert_eq!(found.iter().map(|verdict| verdict.code.as_str()).collect::<Vec<_>>(), ["G10", "G11"]);
        assert!(found.iter().all(|verdict| verdict.status == GateStatus::Fail));
    }
}
