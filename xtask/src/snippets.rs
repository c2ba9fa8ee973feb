//! Programs shown in the documentation: the fence behind a line `<!-- snippet: FILE -->` holds what stands in that file
//! between `// docs: begin` and `// docs: end`, so that what is shown is what was run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

const MARK: &str = "<!-- snippet: ";
const MARK_END: &str = " -->";
const BEGIN: &str = "// docs: begin";
const END: &str = "// docs: end";
const FENCE: &str = "```";

/// Fails when a page shows something else than its programs.
pub(crate) fn check() -> Result<()> {
    for (page, old, new) in pages()? {
        ensure!(old == new, "{} shows an old program: cargo xtask fix", page.display());
    }
    Ok(())
}

pub(crate) fn fix() -> Result<()> {
    for (page, old, new) in pages()? {
        if old != new {
            fs::write(&page, new)?;
        }
    }
    Ok(())
}

/// Every page of `docs/` as it is and as it should be.
fn pages() -> Result<Vec<(PathBuf, String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let mut pages = Vec::new();
    for entry in fs::read_dir(root.join("docs"))? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "md") {
            let old = fs::read_to_string(&page)?;
            let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| file.to_owned());
            let new = fill(&old, read).with_context(|| page.display().to_string())?;
            pages.push((page, old, new));
        }
    }
    Ok(pages)
}

/// The page with every marked fence filled.
fn fill(page: &str, read: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut filled = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        filled += line;
        filled.push('\n');
        let Some(file) = line.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(MARK_END)) else {
            continue;
        };
        if lines.peek().is_some_and(|line| line.starts_with(FENCE)) {
            lines.next();
            let closing = lines.by_ref().find(|line| line.starts_with(FENCE));
            closing.with_context(|| format!("the fence of {file} does not end"))?;
        }
        let language = Path::new(file).extension().unwrap_or_default().to_string_lossy();
        let language = if language == "rs" { "rust".into() } else { language };
        let shown = shown(&read(file)?).with_context(|| format!("{file} has no lines {BEGIN} and {END}"))?;
        filled += &format!("{FENCE}{language}\n{shown}{FENCE}\n");
    }
    Ok(filled)
}

/// The lines between the marks, without the indentation that they share.
fn shown(program: &str) -> Option<String> {
    let is = |mark: &'static str| move |line: &&str| line.trim() == mark;
    let lines: Vec<&str> = program.lines().collect();
    let begin = lines.iter().position(|line| is(BEGIN)(line))?;
    let end = lines.iter().position(|line| is(END)(line))?;
    let lines = lines.get(begin + 1..end)?;
    let indentation = |line: &&&str| line.len() - line.trim_start().len();
    let shared = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| indentation(&line))
        .min();
    let shared = shared.unwrap_or(0);
    Some(
        lines
            .iter()
            .map(|line| format!("{}\n", line.get(shared..).unwrap_or("")))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "use x;\nfn main() {\n    // docs: begin\n    let a = 1;\n\n    if a {\n        b();\n    }\n    // docs: end\n}\n";

    #[test]
    fn a_fence_shows_what_is_marked() {
        let wanted = "# T\n<!-- snippet: a/b.rs -->\n```rust\nlet a = 1;\n\nif a {\n    b();\n}\n```\nEnd\n";
        for page in [
            "# T\n<!-- snippet: a/b.rs -->\nEnd\n",
            "# T\n<!-- snippet: a/b.rs -->\n```rust\nold\n```\nEnd\n",
            wanted,
        ] {
            let read = |file: &str| {
                assert_eq!(file, "a/b.rs");
                Ok(PROGRAM.to_owned())
            };
            assert_eq!(fill(page, read).unwrap(), wanted);
        }
    }

    #[test]
    fn a_program_without_marks_is_an_error() {
        assert!(fill("<!-- snippet: a.rs -->\n", |_| Ok("fn main() {}\n".into())).is_err());
        assert!(fill("<!-- snippet: a.rs -->\n```\nopen\n", |_| Ok(PROGRAM.into())).is_err());
    }
}
