//! The draws themselves.

use super::ForecastOptions;
use super::field::{Field, Standing};
use super::outlook::{Outlook, PathPoint, Placed, Tally};
use super::own::Course;
use crate::dice::Dice;
use crate::ranking::{Entrant, Ranker, TIER_POOLS};

/// Most draws that are kept for the questions of the kind "what if".
const SIDE_DRAWS: u32 = 1000;

/// Everybody else in every draw, and what it takes to rank us among them.
pub(super) struct Draws {
    field: Field,
    /// Block of each other miner, by its index in the field.
    pub(super) blocks: Vec<Option<u64>>,
    uid: u32,
    options: ForecastOptions,
    ranker: Ranker,
    /// The others of the first draws after the first and after the last round.
    kept: Vec<[Vec<Standing>; 2]>,
}

impl Draws {
    pub(super) fn new(field: Field, uid: u32, options: ForecastOptions) -> Self {
        let blocks = field.blocks();
        Self { field, blocks, uid, options, ranker: Ranker::new(), kept: Vec::new() }
    }

    /// Draws kept for later questions.
    pub(super) fn side(&self) -> u32 {
        self.options.draws.min(SIDE_DRAWS)
    }

    /// Draws everything once along our course: outlook after the first and after the last round, and the path between.
    pub(super) fn run(mut self, course: &Course) -> (Self, Outlook, Outlook, Vec<PathPoint>) {
        let rounds = self.options.rounds;
        let mut tallies: Vec<Tally> = (0..rounds).map(|_| Tally::default()).collect();
        let (mut ours, mut standings) = (vec![0.0; rounds as usize], Vec::new());
        for draw in 0..self.options.draws {
            self.field.restart(Dice::new(self.options.seed, 2 * u64::from(draw)));
            self.course(course, draw, &mut ours);
            let mut kept = [Vec::new(), Vec::new()];
            let side = draw < self.side();
            for (round, tally) in tallies.iter_mut().enumerate() {
                self.field.step();
                let (first, last) = (round == 0, round + 1 == rounds as usize);
                if first || last || side {
                    self.field.standings(&mut standings);
                    tally.add(self.place(&standings, ours[round], course.block_in(round)), &self.ranker);
                }
                if first && side {
                    kept[0].clone_from(&standings);
                }
                if last && side {
                    kept[1].clone_from(&standings);
                }
            }
            self.kept.extend(side.then_some(kept));
        }
        let path = (1..).zip(&tallies).map(|(round, tally)| tally.point(round)).collect();
        let [now, later] = [(1, tallies.first()), (rounds, tallies.last())]
            .map(|(round, tally)| tally.expect("there is a round").outlook(round));
        (self, now, later, path)
    }

    /// Our scores in one draw.
    fn course(&self, course: &Course, draw: u32, scores: &mut [f32]) {
        course.run(&mut Dice::new(self.options.seed, 2 * u64::from(draw) + 1), scores);
    }

    /// Ranks us among the others.
    fn place(&mut self, standings: &[Standing], score: f32, block: Option<u64>) -> Placed {
        let (field, blocks, uid) = (&self.field, &self.blocks, self.uid);
        let before = |other: &Standing| other.1 > score || (other.1 == score && field.uid(other.0) < uid);
        let (ahead, behind) = standings.split_at(standings.partition_point(before));
        let entrant = |other: &Standing| Entrant::new(field.uid(other.0), f64::from(other.1), blocks[other.0 as usize]);
        let us = Entrant::new(uid, f64::from(score), block);
        self.ranker.rank(ahead.iter().map(entrant).chain([us]).chain(behind.iter().map(entrant)), TIER_POOLS.len());
        let placing = self.ranker.placing(uid).filter(|placing| placing.tier < self.ranker.pools().len());
        Placed {
            score: f64::from(score),
            rank: ahead.len() + 1,
            tier: placing.map(|placing| placing.tier),
            first: placing.is_some_and(|placing| placing.place == 0),
            weight: placing.map_or(0.0, |placing| placing.weight),
        }
    }

    /// Places of another course of ours in the kept draws, after the first round.
    pub(super) fn now(&mut self, course: &Course) -> Vec<Placed> {
        self.replay(course, 0)
    }

    /// The same after the last round.
    pub(super) fn later(&mut self, course: &Course) -> Vec<Placed> {
        self.replay(course, 1)
    }

    fn replay(&mut self, course: &Course, horizon: usize) -> Vec<Placed> {
        let rounds = if horizon == 0 { 1 } else { self.options.rounds as usize };
        let mut ours = vec![0.0; rounds];
        let kept = std::mem::take(&mut self.kept);
        let places = (0..).zip(&kept).map(|(draw, kept)| {
            self.course(course, draw, &mut ours);
            self.place(&kept[horizon], ours[rounds - 1], course.block_in(rounds - 1))
        });
        let places = places.collect();
        self.kept = kept;
        places
    }
}
