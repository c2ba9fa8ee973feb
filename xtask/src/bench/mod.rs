//! Load generator and side-by-side measurements.

pub(crate) fn run(_args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("no workload is defined")
}
