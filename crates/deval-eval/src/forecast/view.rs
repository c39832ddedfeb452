//! A forecast as sections of a report.

use deval_report::Section;

use super::Forecast;
use super::changes::{Change, Target};
use super::outlook::{Estimate, Outlook};

impl Forecast {
    /// The forecast for every view: where we stand, tiers, the path, what would change it, what was assumed.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = vec![self.standing(), self.tiers(), self.path(), self.changes()];
        sections.push(self.assumptions.iter().fold(Section::new("Assumptions"), Section::note));
        sections
    }

    fn standing(&self) -> Section {
        let start = &self.start;
        let block = start.block.map_or("none that counts".to_owned(), |block| block.to_string());
        let mut section = Section::new("Forecast")
            .row("leaderboard", format!("{} ({} miners, we included)", self.leaderboard, self.miners))
            .row("we", format!("uid {}, score {:.4}, committed at block {block}", start.uid, start.score))
            .row("mean reward", format!("{:.4}, standard error {:.4}", start.reward.mean, start.reward.standard_error));
        for outlook in self.horizons() {
            section = section
                .row(format!("weight {}", after(outlook.round)), weight(outlook))
                .row(format!("place by score {}", after(outlook.round)), place(outlook));
        }
        if let Some(catch_up) = &self.catch_up {
            let rounds = catch_up.rounds;
            section =
                section.row("caught up", format!("within 1 % of score {:.4} after {rounds} rounds", catch_up.score));
        }
        section
    }

    /// Now and later, once when they are the same round.
    fn horizons(&self) -> impl Iterator<Item = &Outlook> {
        [&self.now].into_iter().chain(Some(&self.later).filter(|later| later.round != self.now.round))
    }

    fn tiers(&self) -> Section {
        let chances =
            |of: &dyn Fn(&Outlook) -> Estimate| self.horizons().map(|outlook| percent(of(outlook))).collect::<Vec<_>>();
        let tier = |place: usize| {
            let chance = &self.later.tiers[place];
            let pool = chance.pool.map_or("—".to_owned(), |pool| format!("{:.1} %", 100.0 * pool));
            [vec![chance.tier.to_string(), pool], chances(&|outlook| outlook.tiers[place].probability)].concat()
        };
        let special = |name: &str, of: &dyn Fn(&Outlook) -> Estimate| {
            [vec![name.to_owned(), String::new()], chances(of)].concat()
        };
        let mut rows: Vec<_> = (0..self.later.tiers.len()).map(tier).collect();
        rows.push(special("no weight", &|outlook| outlook.no_weight));
        rows.push(special("earliest of a tier", &|outlook| outlook.first_of_tier));
        let heads: Vec<String> = self.horizons().map(|outlook| after(outlook.round)).collect();
        let head: Vec<&str> = ["tier", "pool"].into_iter().chain(heads.iter().map(String::as_str)).collect();
        Section::new("Tiers").table(&head, rows).note(format!(
            "{} draws, seed {}; ± is the Monte-Carlo standard error. Within 8 % of a tier's leader the earlier commitment comes first.",
            self.options.draws, self.options.seed
        ))
    }

    fn path(&self) -> Section {
        let row = |point: &super::PathPoint| {
            vec![point.round.to_string(), format!("{:.4}", point.score.value), share(point.weight)]
        };
        Section::new("Round by round")
            .table(&["round", "mean score", "mean weight"], self.path.iter().map(row).collect())
    }

    fn changes(&self) -> Section {
        let later = after(self.later.round);
        let head =
            ["change", "weight after 1 round", &format!("weight {later}"), "difference", "best tier", "any weight"];
        let [now, last] = &self.unchanged;
        let unchanged = [
            "as it is".to_owned(),
            share(now.weight),
            share(last.weight),
            String::new(),
            percent(last.best_tier),
            percent(last.any_weight),
        ];
        let rows = [unchanged.to_vec()].into_iter().chain(self.changes.iter().map(change)).collect();
        let section = Section::new("What would change it").table(&head, rows);
        let section = self.targets.iter().fold(section, |section, target| section.note(self.reach(target)));
        section.note(format!(
            "{} draws, the same for every line; tiers {later}. Only new weights need a new commitment: the hash covers the safetensors files, \
             not the pipeline.",
            self.side_draws
        ))
    }

    fn reach(&self, target: &Target) -> String {
        let (tier, sure) = (target.tier, 100.0 * target.probability);
        match target.mean {
            Some(mean) => format!(
                "Tier {tier} or better with {sure:.0} %: a measured mean of {mean:.3} ({:+.3}).",
                mean - self.start.reward.mean
            ),
            None => format!("Tier {tier} or better with {sure:.0} %: no mean reward is enough with this commitment."),
        }
    }
}

fn after(round: u32) -> String {
    format!("after {round} round{}", if round == 1 { "" } else { "s" })
}

fn percent(estimate: Estimate) -> String {
    format!("{:.1} % ± {:.1}", 100.0 * estimate.value, 100.0 * estimate.error)
}

/// A mean weight; most are small.
fn share(estimate: Estimate) -> String {
    format!("{:.2} % ± {:.2}", 100.0 * estimate.value, 100.0 * estimate.error)
}

fn weight(outlook: &Outlook) -> String {
    let spread = &outlook.weight;
    let [low, middle, high] = [spread.q05, spread.q50, spread.q95].map(|share| 100.0 * share);
    format!(
        "{:.2} % in the mean, median {middle:.2} %, 90 % of the draws {low:.2} to {high:.2} %",
        100.0 * spread.mean.value
    )
}

fn place(outlook: &Outlook) -> String {
    let rank = &outlook.rank;
    format!("{:.0}, 90 % of the draws {:.0} to {:.0}", rank.q50, rank.q05, rank.q95)
}

fn change(change: &Change) -> Vec<String> {
    let Change { what, now, later, gain_later, .. } = change;
    let gain = format!("{:+.2} % ± {:.2}", 100.0 * gain_later.value, 100.0 * gain_later.error);
    vec![
        what.clone(),
        share(now.weight),
        share(later.weight),
        gain,
        percent(later.best_tier),
        percent(later.any_weight),
    ]
}
