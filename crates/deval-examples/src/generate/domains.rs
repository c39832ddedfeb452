//! The table of domains, read from `domains.txt`.

use std::sync::LazyLock;

use super::names::Kind;

/// All domains.
pub(super) static DOMAINS: LazyLock<Vec<Domain>> =
    LazyLock::new(|| parse(include_str!("domains.txt")).expect("the table is held by a test"));

/// What a context is about.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) topic: &'static str,
    /// How a subject is called, with `{}` for its name.
    pub(super) subject: &'static str,
    pub(super) naming: Option<Kind>,
    pub(super) facts: Vec<Fact>,
    pub(super) fillers: Vec<&'static str>,
}

/// Something that every subject of a domain has exactly one of.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What the subject did, with `{}` for the value or for a list of them.
    pub(super) did: &'static str,
    /// With `{s}` for the subject and `{v}` for the value.
    pub(super) claims: Vec<&'static str>,
    pub(super) queries: Vec<&'static str>,
}

fn parse(text: &'static str) -> Option<Vec<Domain>> {
    let mut domains: Vec<Domain> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("= ") {
            let [topic, subject, naming] = fields(head)?;
            domains.push(Domain { topic, subject, naming: Kind::parse(naming), ..Domain::default() });
        } else if let Some(head) = line.strip_prefix("fact ") {
            let [name, kind, did] = fields(head)?;
            let fact = Fact { name, kind: Kind::parse(kind)?, did, claims: Vec::new(), queries: Vec::new() };
            domains.last_mut()?.facts.push(fact);
        } else if let Some(filler) = line.strip_prefix("* ") {
            domains.last_mut()?.fillers.push(filler);
        } else if let Some(queries) = line.trim().strip_prefix("? ") {
            domains.last_mut()?.facts.last_mut()?.queries = queries.split(" | ").collect();
        } else {
            domains.last_mut()?.facts.last_mut()?.claims.push(line.trim());
        }
    }
    Some(domains)
}

fn fields(head: &'static str) -> Option<[&'static str; 3]> {
    head.split(" | ").collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_domain_is_whole() {
        assert!(DOMAINS.len() >= 16);
        for domain in DOMAINS.iter() {
            assert!(domain.subject.contains("{}") && domain.naming.is_some(), "{}", domain.topic);
            assert_eq!((domain.facts.len(), domain.fillers.len()), (5, 3), "{}", domain.topic);
            assert_eq!(domain.facts.iter().map(|fact| fact.kind).collect::<BTreeSet<_>>().len(), 5, "{}", domain.topic);
            for fact in &domain.facts {
                let is_whole = |text: &&str| text.matches("{s}").count() == 1;
                assert!(fact.did.contains("{}") && fact.claims.len() == 3 && fact.queries.len() == 2, "{}", fact.name);
                assert!(fact.claims.iter().all(|claim| is_whole(claim) && claim.matches("{v}").count() == 1));
                assert!(fact.queries.iter().all(is_whole), "{}", fact.name);
            }
        }
    }
}
