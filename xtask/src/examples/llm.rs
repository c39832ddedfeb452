//! Examples written by a language model.

use std::str::FromStr as _;

use anyhow::{Context as _, bail};
use deval_eval::Task;
use deval_llm::{AwsAuth, Bedrock, Client, Generated, Limits, OPENAI_BASE_URL, OpenAi, Plan, Price, Secret, Settings};
use deval_report::render;

use crate::{
    cli::{Api, Generate, ModelArgs},
    secrets::Secrets,
    ui::{Ui, Unit},
};

/// Writes the examples; `None` when only the cost was asked for.
pub(super) fn generate(
    arguments: &Generate,
    api: Api,
    tasks: &[Task],
    articles: Vec<deval_examples::articles::Article>,
    secrets: &Secrets,
    ui: Ui,
) -> anyhow::Result<Option<Generated>> {
    let model = &arguments.model;
    let client = client(model, api, secrets)?;
    let mut plan = Plan::new(arguments.seed, arguments.per_task as usize, articles.into_iter().map(article).collect());
    plan.tasks = tasks.to_vec();
    plan.concurrent = model.concurrency.get();
    plan.max_cost = model.max_cost;
    plan.price = match &model.price {
        Some(price) => Some(Price::from_str(price)?),
        None => client.price(),
    };
    let estimate = deval_llm::estimate(&plan);
    let section = estimate.section();
    if model.dry_run {
        ui.print(render::terminal(&[section]));
        return Ok(None);
    }
    ui.say(render::terminal(&[section]));
    let bar = ui.bar("asking the model", estimate.examples as u64, Unit::Items);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let made =
        runtime.block_on(deval_llm::generate(&client, &plan, &|progress| bar.set_position(progress.made as u64)))?;
    bar.finish_and_clear();
    Ok(Some(made))
}

fn client(model: &ModelArgs, api: Api, secrets: &Secrets) -> anyhow::Result<Client> {
    let key = |name: &str| secrets.get(&[name]).map(|key| Secret::new(name, &key)).transpose();
    let settings = Settings { limits: limits(model), ..Settings::default() };
    Ok(match api {
        Api::Openai => {
            if model.base_url == OPENAI_BASE_URL && key("OPENAI_API_KEY")?.is_none() {
                bail!(
                    "{OPENAI_BASE_URL} asks for a key: set OPENAI_API_KEY in the environment or in `.env`, or name your own server with --base-url"
                );
            }
            let openai = OpenAi::new(&model.base_url, key("OPENAI_API_KEY")?, &model.name, model.allow_plain_http)?;
            Client::openai(openai, settings)?
        }
        Api::Bedrock => {
            let bedrock = Bedrock::new(&model.region, &model.name, AwsAuth::from_variables(key)?, None)?;
            Client::bedrock(bedrock, settings)?
        }
    })
}

fn limits(model: &ModelArgs) -> Limits {
    Limits {
        requests_per_minute: model.requests_per_minute,
        tokens_per_minute: model.tokens_per_minute,
        concurrent: model.concurrency,
    }
}

fn article(article: deval_examples::articles::Article) -> deval_llm::Article {
    let sections = article.sections.into_iter().map(|section| (section.heading, section.text)).collect();
    deval_llm::Article { title: article.title, content: article.content, sections }
}
