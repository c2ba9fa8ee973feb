//! Unchanged programs on the stock clients, run against OxMQ and against the Java broker.

pub(crate) fn run(_args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("no case is defined")
}
