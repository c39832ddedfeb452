//! `namespace/name`, by the rules of the client that the validator uses.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// Longest repository name, in characters.
const NAME_LIMIT: usize = 96;

/// A model repository id that `huggingface_hub.utils.validate_repo_id` accepts (GATES 6).
///
/// Narrower than upstream in one way: a namespace is required, because the validator joins `repo_id + "/" + model_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId {
    id: String,
    slash: usize,
}

impl RepoId {
    /// Parses `namespace/name`.
    ///
    /// # Errors
    /// [`HubError::RepoId`] with the first rule that is broken.
    pub fn parse(id: &str) -> Result<Self, HubError> {
        check(id).map_err(|reason| HubError::RepoId { id: id.to_owned(), reason })?;
        let slash = id.find('/').expect("`check` has counted one slash");
        Ok(Self { id: id.to_owned(), slash })
    }

    /// User or organisation.
    pub fn namespace(&self) -> &str {
        &self.id[..self.slash]
    }

    /// Name within the namespace.
    pub fn name(&self) -> &str {
        &self.id[self.slash + 1..]
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(id: &str) -> Result<Self, HubError> {
        Self::parse(id)
    }
}

fn check(id: &str) -> Result<(), String> {
    let parts: Vec<&str> = id.split('/').collect();
    let &[namespace, name] = parts.as_slice() else {
        return Err(format!("it must have the form `namespace/name` with exactly one `/`, found {}", parts.len() - 1));
    };
    check_part("namespace", namespace)?;
    check_part("name", name)?;
    for pair in ["--", ".."] {
        if id.contains(pair) {
            return Err(format!("`{pair}` is not allowed"));
        }
    }
    if name.len() > NAME_LIMIT {
        return Err(format!("the name has {} characters, at most {NAME_LIMIT} are allowed", name.len()));
    }
    if id.ends_with(".git") {
        return Err("it must not end with `.git`".to_owned());
    }
    Ok(())
}

fn check_part(what: &str, part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    if let Some(c) = part.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        return Err(format!("the {what} holds {c:?}; only ASCII letters, digits, `-`, `_` and `.` are allowed"));
    }
    match (part.chars().next(), part.chars().next_back()) {
        (Some(c @ ('-' | '.')), _) => Err(format!("the {what} must not begin with `{c}`")),
        (_, Some(c @ ('-' | '.'))) => Err(format!("the {what} must not end with `{c}`")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_upstream_accepts() {
        let longest = format!("n/{}", "a".repeat(96));
        for id in ["me/model", "Foo-Bar_1.2/a.b-c_d", "_a/_b_", "1/2", "me/x.gitx", longest.as_str()] {
            let repo = RepoId::parse(id).unwrap();
            assert_eq!(format!("{}/{}", repo.namespace(), repo.name()), id);
        }
    }

    #[test]
    fn says_which_rule_is_broken() {
        let too_long = format!("n/{}", "a".repeat(97));
        let cases = [
            ("model", "exactly one `/`, found 0"),
            ("me/model/x", "exactly one `/`, found 2"),
            ("https://huggingface.co/me/model", "found 4"),
            ("me/", "the name is empty"),
            ("/model", "the namespace is empty"),
            ("me/mo--del", "`--` is not allowed"),
            ("me/mo..del", "`..` is not allowed"),
            ("me/-model", "the name must not begin with `-`"),
            ("me/model.", "the name must not end with `.`"),
            (".me/model", "the namespace must not begin with `.`"),
            ("me-/model", "the namespace must not end with `-`"),
            ("me/model.git", "must not end with `.git`"),
            ("me/mo del", "the name holds ' '"),
            ("me/model\n", "the name holds '\\n'"),
            ("me/modèl", "the name holds 'è'"),
            (too_long.as_str(), "has 97 characters, at most 96"),
        ];
        for (id, reason) in cases {
            let error = RepoId::parse(id).unwrap_err().to_string();
            assert!(error.contains(reason), "{id}: {error}");
        }
    }
}
