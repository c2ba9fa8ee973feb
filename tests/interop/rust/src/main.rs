//! `oxmq-interop <name server> <label> <case>…`: runs the cases side by side with OxMQ's own client and prints a line
//! `RESULT {json}` for each. The facts in it depend on the server only, so that they can be compared.

mod consume;
mod env;
mod pop;
mod pull;
mod query;
mod retry;
mod tls;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};

use env::Env;

type Facts = serde_json::Map<String, Value>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    LocalSet::new().run_until(run_all()).await
}

async fn run_all() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(name_server), Some(label)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: oxmq-interop NAME_SERVER LABEL CASE…");
    };
    let env = Arc::new(Env::connect(name_server, label).await?);
    let mut cases = JoinSet::new();
    for case in args {
        let env = Arc::clone(&env);
        cases.spawn_local(async move {
            let result = match run(&env, &case).await {
                None => json!({"case": case, "skipped": true}),
                Some(Ok(facts)) => json!({"case": case, "facts": facts}),
                Some(Err(error)) => json!({"case": case, "error": format!("{error:#}")}),
            };
            println!("RESULT {result}");
        });
    }
    while cases.join_next().await.is_some() {}
    Ok(())
}

/// `None` for cases that this client has no program for.
async fn run(env: &Env, case: &str) -> Option<anyhow::Result<Facts>> {
    Some(match case {
        "consume-concurrent" => consume::concurrent(env).await,
        "consume-orderly" => consume::orderly(env).await,
        "consume-broadcast" => consume::broadcast(env).await,
        "consume-from-where" => consume::from_where(env).await,
        "consume-stream" => consume::stream(env).await,
        "filter-tags" => consume::filter_tags(env).await,
        "rebalance" => consume::rebalance(env).await,
        "consumer-restart" => consume::restart(env).await,
        "reset-offset" => consume::reset_offset(env).await,
        "retry" => retry::retry(env).await,
        "dead-letter" => retry::dead_letter(env).await,
        "dead-letter-orderly" => retry::dead_letter_orderly(env).await,
        "pull" => pull::pull(env).await,
        "pull-schedule" => pull::schedule(env).await,
        "lite-pull" => pull::lite(env).await,
        "query" => query::query(env).await,
        "pop-push" => pop::push(env).await,
        "pop-simple" => pop::simple(env).await,
        "tls" | "tls-certificates" => tls::tls(env).await,
        _ => return None,
    })
}
