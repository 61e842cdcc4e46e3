//! `cargo xtask pins`: shows every pinned version, what uses it, and where each origin gets it.

pub mod listing;

use anyhow::Result;
use clap::Args;

use super::output;
use crate::origin::release;
use crate::project::Project;
use crate::report::{BOLD, DIM};

use listing::{PinEntry, ReleaseSource};

/// Show every pinned version, what uses it, and where each origin gets it
#[derive(Args, Debug, Default)]
pub struct Pins {
    /// Print one JSON document; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// Prints the pins on standard output. Reads only files of the checkout, so it needs no engine and no cluster.
pub fn run(project: &Project, args: &Pins) -> Result<()> {
    let pins = listing::list(&project.root)?;
    if args.json {
        project.report.fact("pins", serde_json::to_value(&pins)?);
        return Ok(());
    }
    for pin in &pins {
        if !output::print(&format_pin(pin, release::platform().as_deref()))? {
            break;
        }
    }
    Ok(())
}

/// Returns a pin in a few lines, with only the download for `platform`.
fn format_pin(pin: &PinEntry, platform: Option<&str>) -> String {
    let mut lines = vec![format!("{BOLD}{}{BOLD:#} {}  {DIM}{}{DIM:#}", pin.name, pin.version, pin.purpose)];
    let mut row = |name: &str, values: Vec<String>| {
        for (index, value) in values.into_iter().enumerate() {
            lines.push(format!("  {:<9} {value}", if index == 0 { name } else { "" }));
        }
    };
    row("taken by", vec![pin.taken_by.join(", ")]);
    let (downloads, images): (Vec<_>, Vec<_>) = pin.release.iter().partition(|source| source.platform.is_some());
    let here = downloads.iter().find(|source| source.platform.as_deref() == platform).or(downloads.first()).copied();
    let shown = here.into_iter().chain(images).flat_map(release_lines).collect();
    row("release", shown);
    row("packages", pin.packages.clone());
    lines.join("\n")
}

fn release_lines(source: &ReleaseSource) -> Vec<String> {
    match (&source.platform, &source.cite) {
        (Some(_), Some(cite)) => vec![source.from.clone(), format!("SHA-256 from {cite}")],
        _ => vec![format!("image {}", source.from)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_users_of_a_pin_and_the_sources_of_both_origins() {
        let download = |platform: &str| ReleaseSource {
            from: format!("https://dl.example/{platform}/tool"),
            platform: Some(platform.to_owned()),
            cite: Some("owner/repository@0123:sums".to_owned()),
        };
        let pin = PinEntry {
            name: "tool".into(),
            version: "1.2.3".into(),
            purpose: "does it".into(),
            taken_by: vec!["program tool".into(), "image tool".into()],
            release: vec![
                download("linux-amd64"),
                download("linux-arm64"),
                ReleaseSource { from: "registry.example/tool:v1.2.3".into(), platform: None, cite: None },
            ],
            packages: vec!["Go module example.com/tool v1.2.3".into()],
        };
        let shown = anstream::adapter::strip_str(&format_pin(&pin, Some("linux-arm64"))).to_string();
        insta::assert_snapshot!(shown, @r"
        tool 1.2.3  does it
          taken by  program tool, image tool
          release   https://dl.example/linux-arm64/tool
                    SHA-256 from owner/repository@0123:sums
                    image registry.example/tool:v1.2.3
          packages  Go module example.com/tool v1.2.3
        ");
    }
}
