//! Views: functions of reports. Nothing here changes anything.

mod page;
mod plan;
mod verdict;

pub(crate) use page::{Page, report};
pub(crate) use plan::{Plan, outdated, plan};
pub(crate) use verdict::{Verdict, explain, verdict};
