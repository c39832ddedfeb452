//! The requests of one task, and the draws that make it of the replies.

use deval_eval::Dice;
use deval_eval::assembly::{Draws, Generator, JOINERS};
use futures::future::join_all;
use serde_json::json;

use super::meter::Meter;
use super::replies::{checked, is_sound, topics};
use super::{Article, Plan};
use crate::prompts::{self, Prompt, Speakers, Theme};
use crate::{Chat, ChatRequest, LlmError};

/// Paragraphs of a generated context.
const PARAGRAPHS: (usize, usize) = (5, 20);
/// Conversations of an attribution context.
const CONVERSATIONS: usize = 5;
/// Participants of all conversations together; one of them has at most `SPEAKERS`.
const PARTICIPANTS: (usize, usize) = (2, 20);
const SPEAKERS: usize = 4;
/// Claims per section of an article.
const SECTION_CLAIMS: (usize, usize) = (1, 3);
/// Topics that are asked about at most, whatever the model lists.
const MAX_TOPICS: usize = 12;
/// Where in a section a claim's fact is to come from, so that the claims differ.
const PARTS: [&str; 3] = ["the beginning", "the middle", "the end"];

/// What a task is assembled from, and what it is about.
pub(super) struct Written {
    pub(super) draws: Draws,
    pub(super) topic: String,
    pub(super) subtopic: String,
}

/// Asks for one task.
pub(super) struct Writer<'a, C> {
    meter: &'a Meter<'a, C>,
    plan: &'a Plan,
}

impl<'a, C: Chat> Writer<'a, C> {
    pub(super) fn new(meter: &'a Meter<'a, C>, plan: &'a Plan) -> Self {
        Self { meter, plan }
    }

    /// Plays a generator. Those about articles need one in the plan.
    pub(super) async fn write(&self, generator: Generator, dice: &mut Dice) -> Result<Written, LlmError> {
        match generator {
            Generator::AttributionGeneration | Generator::HallucinationGeneration | Generator::SummaryGeneration => {
                self.paragraphs(generator, dice).await
            }
            Generator::HallucinationWikipediaClaims => self.section_claims(dice).await,
            Generator::HallucinationWikipediaTopics | Generator::SummaryWikipedia => {
                self.by_topic(generator, dice).await
            }
            Generator::RelevancyWikipedia => self.relevancy(dice).await,
        }
    }

    async fn paragraphs(&self, generator: Generator, dice: &mut Dice) -> Result<Written, LlmError> {
        let theme = Theme::draw(dice);
        let (field, count, (low, high)) = match generator {
            Generator::AttributionGeneration => ("action_item", CONVERSATIONS, (1, CONVERSATIONS)),
            Generator::HallucinationGeneration => {
                let count = dice.between(PARAGRAPHS.0, PARAGRAPHS.1);
                ("claim", count, (1, count))
            }
            _ => {
                let count = dice.between(PARAGRAPHS.0, PARAGRAPHS.1);
                ("summary", count, (PARAGRAPHS.0, count))
            }
        };
        let (wanted, flags) = (dice.between(low, high), flags(dice, count));
        let replies = self.ask_all(asked(generator, &theme, &flags, dice)).await?;
        let replies: Vec<_> = replies.into_iter().map(|reply| checked(reply, &["context", field])).collect();
        let failed = replies.iter().filter(|reply| reply.is_empty()).count();
        let least = if generator == Generator::SummaryGeneration { 3 } else { 1 };
        let shown = wanted.saturating_sub(failed).max(least);
        let selected = dice.sample(count - failed, shown);
        let draws = Draws { initial_count: wanted as i64, flags, ..drawn(dice, generator, replies, selected) };
        Ok(Written { draws, topic: theme.domain.to_owned(), subtopic: theme.subject.to_owned() })
    }

    async fn section_claims(&self, dice: &mut Dice) -> Result<Written, LlmError> {
        let article = dice.pick(&self.plan.articles);
        let sections = article.usable_sections();
        let counts: Vec<_> = sections.iter().map(|_| dice.between(SECTION_CLAIMS.0, SECTION_CLAIMS.1)).collect();
        let flags = flags(dice, counts.iter().sum());
        let places = sections
            .iter()
            .zip(counts)
            .flat_map(|(section, count)| PARTS[..count].iter().map(move |part| (*section, *part)));
        let prompts = places
            .zip(&flags)
            .map(|((section, part), flag)| prompts::section_claim(&article.title, section, part, *flag));
        let replies = self.ask_all(prompts.collect()).await?;
        let replies: Vec<_> = replies.into_iter().map(|reply| checked(reply, &["response"])).collect();
        let usable = replies.iter().filter(|reply| !reply.is_empty()).count();
        let draws = drawn(dice, Generator::HallucinationWikipediaClaims, replies, (0..usable).collect());
        Ok(article.written(Draws { flags, ..draws }))
    }

    /// A list of topics, then a text on each.
    async fn by_topic(&self, generator: Generator, dice: &mut Dice) -> Result<Written, LlmError> {
        let article = dice.pick(&self.plan.articles);
        let Article { title, content, .. } = article;
        let list = self.ask(prompts::topics(title, content)).await?;
        let mut topics = topics(&list);
        topics.truncate(MAX_TOPICS);
        if topics.is_empty() {
            // `assemble` tells what upstream raises.
            return Ok(article.written(drawn(dice, generator, vec![list], Vec::new())));
        }
        let flags = flags(dice, topics.len());
        let prompt = |(topic, flag): (&String, &bool)| match generator {
            Generator::SummaryWikipedia => prompts::topic_summary(title, content, topic),
            _ => prompts::topic_claim(title, content, topic, *flag),
        };
        let texts = self.ask_all(topics.iter().zip(&flags).map(prompt).collect()).await?;
        let kept: Vec<_> = (0..topics.len()).filter(|place| is_sound(&texts[*place])).collect();
        let topics: Vec<_> = kept.iter().map(|place| &topics[*place]).collect();
        let list = json!({ "key_topics": topics }).to_string();
        let replies = [list].into_iter().chain(kept.iter().map(|place| texts[*place].clone())).collect();
        let flags = kept.iter().map(|place| flags[*place]).collect();
        Ok(article.written(Draws { flags, ..drawn(dice, generator, replies, (0..kept.len()).collect()) }))
    }

    async fn relevancy(&self, dice: &mut Dice) -> Result<Written, LlmError> {
        let article = dice.pick(&self.plan.articles);
        let flag = dice.unit() <= dice.unit();
        let reply = self.ask(prompts::relevancy(&article.title, &article.content, flag)).await?;
        let replies = vec![checked(reply, &["query", "answer"])];
        let draws = drawn(dice, Generator::RelevancyWikipedia, replies, Vec::new());
        Ok(article.written(Draws { flags: vec![flag], ..draws }))
    }

    async fn ask(&self, (user, tool): Prompt) -> Result<String, LlmError> {
        let (system, sampling) = (Some(prompts::SYSTEM.to_owned()), self.plan.sampling);
        self.meter.ask(&ChatRequest { system, user, tool, sampling }).await
    }

    /// Asks side by side. A request that was refused has an empty reply, unless all were.
    async fn ask_all(&self, prompts: Vec<Prompt>) -> Result<Vec<String>, LlmError> {
        let answers = join_all(prompts.into_iter().map(|prompt| self.ask(prompt))).await;
        let is_hopeless = answers.iter().all(Result::is_err);
        let reply = |answer: Result<String, LlmError>| match answer {
            Err(error) if error.is_about_the_request() && !is_hopeless => Ok(String::new()),
            answer => answer,
        };
        answers.into_iter().map(reply).collect()
    }
}

impl Article {
    /// Sections with text; the whole article where there is none.
    fn usable_sections(&self) -> Vec<(&str, &str)> {
        let sections = self.sections.iter().map(|(heading, text)| (heading.as_str(), text.as_str()));
        let sections: Vec<_> = sections.filter(|(_, text)| is_sound(text)).collect();
        if sections.is_empty() { vec![(self.title.as_str(), self.content.as_str())] } else { sections }
    }

    fn written(&self, draws: Draws) -> Written {
        let draws = Draws { content: self.content.clone(), ..draws };
        Written { draws, topic: self.title.clone(), subtopic: "All Sections".to_owned() }
    }
}

/// Whether each claim is to be true; how likely that is, is drawn once per task.
fn flags(dice: &mut Dice, count: usize) -> Vec<bool> {
    let truth = dice.unit();
    (0..count).map(|_| dice.unit() < truth).collect()
}

/// One prompt per paragraph or conversation.
fn asked(generator: Generator, theme: &Theme, flags: &[bool], dice: &mut Dice) -> Vec<Prompt> {
    if generator == Generator::AttributionGeneration {
        let participants = dice.between(PARTICIPANTS.0, PARTICIPANTS.1);
        let (names, meeting) = (prompts::names(dice, participants), prompts::meeting(dice));
        let prompt = |flag: &bool| prompts::action_item(theme, meeting, &speakers(dice, &names), *flag);
        return flags.iter().map(prompt).collect();
    }
    let angles = prompts::angles(dice, flags.len());
    let prompt = |(angle, flag): (&'static str, &bool)| match generator {
        Generator::SummaryGeneration => prompts::summary(theme, angle),
        _ => prompts::claim(theme, angle, *flag),
    };
    angles.into_iter().zip(flags).map(prompt).collect()
}

fn speakers(dice: &mut Dice, names: &[&'static str]) -> Speakers {
    let speakers = dice.between(2, SPEAKERS.min(names.len()));
    let order = dice.sample(names.len(), speakers);
    let rest = order[2..].iter().map(|place| names[*place]).collect();
    Speakers { owner: names[order[0]], other: names[order[1]], rest }
}

/// The draws after the replies: what is shown in which order, and what joins it.
fn drawn(dice: &mut Dice, generator: Generator, replies: Vec<String>, selected: Vec<usize>) -> Draws {
    let response_order = dice.sample(selected.len(), selected.len()).into_iter().map(|place| selected[place]).collect();
    let joiners = |dice: &mut Dice, count| (0..count).map(|_| (*dice.pick(&JOINERS)).to_owned()).collect();
    let (context_joiners, response_joiners) = (joiners(dice, replies.len()), joiners(dice, selected.len()));
    Draws {
        generator,
        replies,
        content: String::new(),
        initial_count: 0,
        flags: Vec::new(),
        selected,
        response_order,
        context_joiners,
        response_joiners,
    }
}
